"""What `imports` and `read_imports` promise: a document says exactly what was given, or is refused."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from orderflow_outbox import (
    Import,
    InvalidPayload,
    NewMessage,
    Order,
    PayloadTooLarge,
    Product,
    Return,
    StockMove,
    imports,
    read_imports,
)
from orderflow_outbox.documents import MAX_DEPTH, MAX_PAYLOAD_BYTES
from orderflow_outbox.messages import check

SAMPLE = b"""<imports>
  <import type="order" operation="insert" externalReference="SO-1001">
    <![CDATA[state=created
    placed=2026-11-01 09:30:00
    currency=GBP
    totalPriceGross=24.00
    deliveryPostCode=AB1 2CD
    orderLine.1.product.externalReference=SKU-1
    orderLine.1.quantity=2
    shipment.externalReference=SO-1001_S1
    shipment.state=ready]]>
  </import>
</imports>
"""
SAMPLE_ORDER = Order(
    "SO-1001",
    {
        "state": "created",
        "placed": datetime(2026, 11, 1, 9, 30),
        "currency": "GBP",
        "totalPriceGross": Decimal("24.00"),
        "deliveryPostCode": "AB1 2CD",
        "orderLine": [{"product": {"externalReference": "SKU-1"}, "quantity": 2}],
        "shipment": {"externalReference": "SO-1001_S1", "state": "ready"},
    },
)
OPERATION_OF = {
    "order": "order-import",
    "product": "product-import",
    "return": "return-import",
    "stockMoveTask": "stock-move-import",
}
FRAGMENTS = (
    *("]]>", "]]", "]", "<![CDATA[", "[BR", "BR]", "[", "=", '"', "'", "&", "&lt;", "<", "<!--", "\\n"),
    *(
        "\n",
        "\r\n",
        "\r",
        "\t",
        " ",
        "\u0085",
        "\u2028",
        "\u2029",
        "\u00a0",
        "\ufeff",
        "\u200b",
        "é",
        "e\u0301",
    ),
)


C1_CONTROLS = "".join(map(chr, range(0x7F, 0xA0)))
ANY_OF_XML = st.characters(
    exclude_categories=["Cs", "Cc"],
    include_characters="\t\n\r" + C1_CONTROLS,
    exclude_characters="\ufffe\uffff",
)
TEXT = st.lists(
    st.sampled_from(FRAGMENTS) | st.text(ANY_OF_XML, max_size=20) | st.integers(1, 3000).map("long".__mul__),
    max_size=6,
).map(lambda parts: "".join(parts).replace("[BR]", "[BR-]"))
NAME = st.builds(str.__add__, st.sampled_from("az"), st.text("azAZ09", max_size=3))
KEY = st.lists(NAME | st.integers(0, 30).map(str), max_size=4).flatmap(
    lambda rest: NAME.map(lambda first: ".".join([first, *rest]))
)
ITEM = st.builds(
    Import,
    st.sampled_from(sorted(OPERATION_OF)) | NAME,
    st.none() | TEXT.filter(bool),
    st.dictionaries(KEY, TEXT, max_size=5),
    st.sampled_from(["insert", "update", "merge"]),
)


def one(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of an order made of `fields`, through a document."""
    [item] = read_imports(imports([Order("SO-1", fields)]))
    return dict(item.fields)


def written(lines: str, attributes: str = 'type="order" operation="insert"') -> bytes:
    return f"<imports><import {attributes}>{lines}</import></imports>".encode()


def text_of(item: Import) -> str:
    return "\n".join(f"{key}={value}".replace("\n", "[BR]") for key, value in item.fields.items())


def refusal(make: Callable[[], object]) -> InvalidPayload:
    with pytest.raises(InvalidPayload) as refused:
        make()
    assert refused.value.fix
    return refused.value


# There and back


@settings(max_examples=80)
@given(st.lists(ITEM, min_size=1, max_size=4))
def test_what_was_built_is_read_back_exactly(items: list[Import]) -> None:
    read = read_imports(imports(items))
    assert read == items
    assert [list(item.fields.items()) for item in read] == [list(item.fields.items()) for item in items]


@settings(max_examples=60)
@given(st.lists(ITEM, min_size=1, max_size=3))
def test_a_strict_parser_reads_the_same_text_and_attributes(items: list[Import]) -> None:
    root = etree.fromstring(imports(items), etree.XMLParser(resolve_entities=False, no_network=True))
    assert [each.text or "" for each in root] == [text_of(item) for item in items]
    assert [each.get("externalReference") for each in root] == [item.external_reference for item in items]
    assert [(each.get("type"), each.get("operation")) for each in root] == [
        (item.type, item.operation) for item in items
    ]


@settings(max_examples=60)
@given(st.sampled_from(sorted(OPERATION_OF)), st.lists(ITEM, min_size=1, max_size=3))
def test_enqueue_takes_what_was_built(kind: str, items: list[Import]) -> None:
    document = imports([Import(kind, item.external_reference, item.fields, item.operation) for item in items])
    message = NewMessage(OPERATION_OF[kind], document, channel="web", organisation="house")
    assert check(message).payload == document


@settings(max_examples=60)
@given(st.dictionaries(KEY, TEXT, max_size=4), st.integers())
def test_however_lines_are_spelled_they_read_the_same(fields: dict[str, str], seed: int) -> None:
    chance = random.Random(seed)

    def spelled(character: str) -> str:
        if character in "]>" or chance.random() < 0.3:
            return f"&#{ord(character)};"
        return character if character not in "<&\r" and chance.random() < 0.5 else f"<![CDATA[{character}]]>"

    expected = Order(None, fields)
    lines = [f" \t{key} ={value}\r".replace("\n", "[BR]") for key, value in expected.fields.items()]
    text = "".join(f"&#{ord(each)};" if each == "\r" else spelled(each) for each in "\n \n".join(lines))
    assert read_imports(written(text)) == [expected]


def test_the_interfaces_own_sample_is_read_exactly() -> None:
    [read] = read_imports(SAMPLE)
    assert read == SAMPLE_ORDER
    assert list(read.fields.items()) == [
        ("state", "created"),
        ("placed", "2026-11-01 09:30:00"),
        ("currency", "GBP"),
        ("totalPriceGross", "24.00"),
        ("deliveryPostCode", "AB1 2CD"),
        ("orderLine.1.product.externalReference", "SKU-1"),
        ("orderLine.1.quantity", "2"),
        ("shipment.externalReference", "SO-1001_S1"),
        ("shipment.state", "ready"),
    ]


def test_a_document_looks_as_the_interface_writes_it() -> None:
    document = imports([Order("SO-1", {"state": "created", "comment": "a\nb"}), Product("P", {}, "merge")])
    assert document.decode() == (
        "<imports>\n"
        '<import type="order" operation="insert" externalReference="SO-1"><![CDATA[state=created\n'
        "comment=a[BR]b]]></import>\n"
        '<import type="product" operation="merge" externalReference="P"/>\n'
        "</imports>\n"
    )


# Items


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Order, "order"), (Product, "product"), (Return, "return"), (StockMove, "stockMoveTask")],
)
def test_a_known_type_is_read_in_its_class(kind: Callable[..., Import], name: str) -> None:
    [read] = read_imports(imports([{"type": name, "externalReference": "R", "state": "ready"}]))
    assert read == kind("R", {"state": "ready"}) == Import(name, "R", {"state": "ready"})
    assert type(read) is kind


def test_an_unknown_type_is_read_as_an_import() -> None:
    [read] = read_imports(imports([{"type": "supplier", "state": "ready", "operation": "merge"}]))
    assert type(read) is Import
    assert read == Import("supplier", None, {"state": "ready"}, "merge")


@pytest.mark.parametrize(
    "other",
    [
        Product("SO-1", {"state": "created"}),
        Order("SO-2", {"state": "created"}),
        Order(None, {"state": "created"}),
        Order("SO-1", {"state": "ready"}),
        Order("SO-1", {"state": "created"}, "update"),
        {"state": "created"},
    ],
)
def test_items_of_other_content_differ(other: object) -> None:
    assert Order("SO-1", {"state": "created"}) != other


@pytest.mark.parametrize("item", [SAMPLE_ORDER, Import("supplier", None, {}, "merge")])
def test_an_item_survives_pickling_copying_and_replacing(item: Import) -> None:
    for again in (pickle.loads(pickle.dumps(item)), copy.deepcopy(item), replace(item, operation="update")):  # noqa: S301
        assert type(again) is type(item)
        assert replace(again, operation=item.operation) == item
    assert replace(item, fields={"state": "1\r"}).fields == {"state": "1\n"}


def test_an_item_is_frozen_and_keeps_its_own_lines() -> None:
    given = {"state": "created"}
    item = Order("SO-1", given)
    given["state"] = "ready"
    assert item.fields == {"state": "created"}
    with pytest.raises(FrozenInstanceError):
        item.operation = "update"  # type: ignore[misc]
    assert not hasattr(item, "__dict__")


class Carrier(Enum):
    POST = "royalMail"
    NONE = None


class Level(IntEnum):
    HIGH = 3


class Kind(str, Enum):  # noqa: UP042 (its str() is not its value)
    ORDER = "order"
    INSERT = "insert"
    STATE = "state"


class Place(StrEnum):
    HOME = "home"


class Weight(float):
    def __repr__(self) -> str:
        return f"{float(self)} kg"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("  a = b  ", "  a = b  "),
        ("one\r\ntwo\rthree\nfour\n", "one\ntwo\nthree\nfour\n"),
        ("[BR", "[BR"),
        ("[B\nR]", "[B\nR]"),
        ("a]]>b", "a]]>b"),
        (0, "0"),
        (-12, "-12"),
        (True, "true"),
        (False, "false"),
        (Decimal("24.00"), "24.00"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-7"), "0.0000001"),
        (2.5, "2.5"),
        (Weight(2.5), "2.5"),
        (1e22, "10000000000000000000000"),
        (1.5e-7, "0.00000015"),
        (5e-324, f"0.{'0' * 323}5"),
        (date(2026, 11, 1), "2026-11-01"),
        (datetime(26, 11, 1, 9, 30, 0, 999_999), "0026-11-01 09:30:00"),
        (Carrier.POST, "royalMail"),
        (Level.HIGH, "3"),
        (Kind.ORDER, "order"),
        (Place.HOME, "home"),
    ],
)
def test_a_value_is_written_plainly(value: object, text: str) -> None:
    assert one({"value": value}) == {"value": text}


def test_none_leaves_the_line_out() -> None:
    assert one({"a": None, "b": {"c": None}, "d": Carrier.NONE, "e": ""}) == {"e": ""}


def test_nested_values_become_flat_lines_in_order() -> None:
    nested = {
        "orderLine": [{"product": {"externalReference": "A"}, "quantity": 1}, {"quantity": 2}],
        "tag": ("x", "y"),
        "shipment": {1: {"state": "ready"}, "2.state": "held", Kind.STATE: "packed"},
        "orderLine.2.comment": "z",
    }
    assert list(one(nested).items()) == [
        ("orderLine.1.product.externalReference", "A"),
        ("orderLine.1.quantity", "1"),
        ("orderLine.2.quantity", "2"),
        ("tag.1", "x"),
        ("tag.2", "y"),
        ("shipment.1.state", "ready"),
        ("shipment.2.state", "held"),
        ("shipment.state", "packed"),
        ("orderLine.2.comment", "z"),
    ]


@dataclass
class ShopLine:
    sku_code: str
    quantity: int
    class_: str | None = None


@dataclass(slots=True)
class ShopOrder:
    external_reference: str
    total_price_gross: Decimal
    order_line: list[ShopLine] = field(default_factory=list)
    type: str = "order"
    address_2: str = "Flat 1"


def test_dataclasses_are_taken_as_items_as_fields_and_nested() -> None:
    shop_order = ShopOrder("SO-1", Decimal("2.50"), [ShopLine("A", 1, "fragile"), ShopLine("B", 2)])
    lines = {
        "totalPriceGross": "2.50",
        "orderLine.1.skuCode": "A",
        "orderLine.1.quantity": "1",
        "orderLine.1.class": "fragile",
        "orderLine.2.skuCode": "B",
        "orderLine.2.quantity": "2",
        "address2": "Flat 1",
    }
    assert read_imports(imports([shop_order])) == [Order("SO-1", lines)]
    assert Order("X", shop_order).fields == {"externalReference": "SO-1", "type": "order", **lines}


def test_mappings_name_their_type_operation_and_reference() -> None:
    as_enum = {"type": Kind.ORDER, "operation": Kind.INSERT, "state": "created"}
    items = ({"type": "order", "operation": None, "externalReference": "SO-1"}, as_enum)
    assert read_imports(imports(each for each in items)) == [
        Order("SO-1", {}),
        Order(None, {"state": "created"}),
    ]


# Refused when building


class Pair(NamedTuple):
    sku: str
    quantity: int


def nest(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


ENDLESS: dict[str, Any] = {}
ENDLESS["a"] = ENDLESS


@pytest.mark.parametrize(
    ("fields", "where", "fix"),
    [
        ({"comment": "a[BR]b"}, "comment", "[BR]"),
        ({"comment": "a\0b"}, "comment", "U+0000"),
        ({"comment": "\x1b"}, "comment", "U+001B"),
        ({"comment": "\ud800"}, "comment", "U+D800"),
        ({"comment": "\ufffe"}, "comment", "U+FFFE"),
        ({"comment": "\uffff"}, "comment", "U+FFFF"),
        ({"a": float("inf")}, "a", "finite"),
        ({"a": float("nan")}, "a", "finite"),
        ({"a": Decimal("sNaN")}, "a", "finite"),
        ({"a": Decimal("1E+999999")}, "a", "places"),
        ({"a": 10**5000}, "a", "places"),
        ({"a": datetime(2026, 11, 1, tzinfo=UTC)}, "a", "astimezone"),
        ({"a": b"bytes"}, "a", "give str"),
        ({"a": UUID(int=1)}, "a", "give str"),
        ({"a": {1, 2}}, "a", "give str"),
        ({"a": Pair("A", 1)}, "a", "give str"),
        ({"a": ShopLine}, "a", "give str"),
        ({"a": Product("P", {"state": "new"})}, "a", "give str"),
        ({"a": []}, "a", "leave it out"),
        ({"a": {"b": {}}}, "a.b", "leave it out"),
        ({"a": [1, None, 3]}, "a.2", "gap"),
        ({"a": [{"b": None}]}, "a.1", "gap"),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", "twice"),
        ({"order_line": 1}, "order_line", "camelCase"),
        ({"order-line": 1}, "order-line", "camelCase"),
        ({"OrderLine": 1}, "OrderLine", "camelCase"),
        ({"orderLine.01.quantity": 1}, "orderLine.01.quantity", "camelCase"),
        ({"1.quantity": 1}, "1.quantity", "camelCase"),
        ({"a..b": 1}, "a..b", "camelCase"),
        ({"a\n": 1}, "a\n", "camelCase"),
        ({"a=b": 1}, "a=b", "camelCase"),
        ({"": 1}, "", "camelCase"),
        ({"bad_name": None}, "bad_name", "camelCase"),
        ({1: "a"}, "", "names are text"),
        ({"a": {True: 1}}, "a", "names are text"),
        (nest(MAX_DEPTH + 1), ".".join("a" * (MAX_DEPTH + 1)), "nest at most"),
        (ENDLESS, ".".join("a" * (MAX_DEPTH + 1)), "nest at most"),
    ],
)
def test_what_has_no_exact_line_is_refused(fields: dict[str, Any], where: str, fix: str) -> None:
    alone = refusal(lambda: Order("SO-1", fields))
    assert alone.field == f"fields[{where!r}]"
    assert fix in alone.fix
    third = refusal(lambda: imports([{"type": "order"}, Order("SO-1", {}), {"type": "order", **fields}]))
    assert third.field == f"items[2].{alone.field}"
    assert (third.value, third.fix) == (alone.value, alone.fix)


def test_a_refusal_shows_where_in_a_long_value_the_character_is() -> None:
    refused = refusal(lambda: Order("SO-1", {"comment": "x" * 5000 + "before\x07after" + "x" * 5000}))
    assert "before\\x07after" in refused.value


@pytest.mark.parametrize(
    ("item", "where"),
    [
        ({"state": "created"}, "items[0].type"),
        ({"type": "stock-move"}, "items[0].type"),
        ({"type": "Order"}, "items[0].type"),
        ({"type": 7}, "items[0].type"),
        ({"type": "order", "operation": "delete"}, "items[0].operation"),
        ({"type": "order", "operation": ""}, "items[0].operation"),
        ({"type": "order", "externalReference": ""}, "items[0].external_reference"),
        ({"type": "order", "externalReference": 1001}, "items[0].external_reference"),
        ({"type": "order", "externalReference": "\x02"}, "items[0].external_reference"),
        ({"type": "order", "external_reference": "SO-1"}, "items[0].fields['external_reference']"),
        ("order", "items[0]"),
        (ShopOrder, "items[0]"),
        (None, "items[0]"),
    ],
)
def test_an_item_without_its_own_is_refused(item: Any, where: str) -> None:
    assert refusal(lambda: imports([item])).field == where


@pytest.mark.parametrize("items", [[], (), iter([])])
def test_no_items_are_refused(items: Any) -> None:
    assert "at least one" in refusal(lambda: imports(items)).fix


@pytest.mark.parametrize("items", [SAMPLE_ORDER, {"type": "order"}, "order", b"order", None])
def test_one_item_in_place_of_a_list_is_refused(items: Any) -> None:
    assert refusal(lambda: imports(items)).field == "items"


@pytest.mark.parametrize("fields", [[("a", 1)], "a=1", None, 1, ShopLine, SAMPLE_ORDER])
def test_fields_without_names_are_refused(fields: Any) -> None:
    assert refusal(lambda: Order("SO-1", fields)).field == "fields"


def test_a_dataclass_whose_names_collide_is_refused() -> None:
    @dataclass
    class Doubled:
        unit_price: int
        unitPrice: int  # noqa: N815 (that is the point)

    assert refusal(lambda: Order("SO-1", {"a": Doubled(1, 2)})).field == "Doubled"


def test_a_document_too_large_to_send_is_refused() -> None:
    empty = len(imports([Order("SO-1", {"a": ""})]))
    assert len(imports([Order("SO-1", {"a": "x" * (MAX_PAYLOAD_BYTES - empty)})])) == MAX_PAYLOAD_BYTES
    with pytest.raises(PayloadTooLarge, match="several documents"):
        imports([Order("SO-1", {"a": "x" * (MAX_PAYLOAD_BYTES - empty + 1)})])


# Reading


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", {}),
        (" \n\t\n", {}),
        ("a=1", {"a": "1"}),
        ("a=1&amp;2&#x3e;&lt;", {"a": "1&2><"}),
        ("a=1<![CDATA[&amp;\n]]>b=<![CDATA[]]]]><![CDATA[>]]>", {"a": "1&amp;", "b": "]]>"}),
        ("\n  \t a \t= 1 \n  b=\n", {"a": " 1 ", "b": ""}),
        ("a=1\r\nb=2\r\n", {"a": "1", "b": "2"}),
        ("a=1&#13;\n&#13;\nb=2&#13;", {"a": "1", "b": "2"}),
        ("a=1[BR]2[br][BR", {"a": "1\n2[br][BR"}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a=\u00851\u2028b=2", {"a": "\u00851\u2028b=2"}),
    ],
)
def test_lines_are_read_as_written(text: str, lines: dict[str, str]) -> None:
    [read] = read_imports(written(text))
    assert read.fields == lines


def test_comments_and_instructions_outside_the_items_are_passed_over() -> None:
    document = (
        b'<?xml version="1.0"?><!-- a --><imports><?b c?><!-- d -->' + SAMPLE.partition(b"<imports>")[2]
    )
    assert read_imports(b"\xef\xbb\xbf" + document) == [SAMPLE_ORDER]


@pytest.mark.parametrize(
    ("text", "where", "fix"),
    [
        ("a=1\nb", "items[0].fields", "key=value"),
        ("a=1\n\u00a0", "items[0].fields", "key=value"),
        ("a=1\nb=2\n a =1", "items[0].fields['a']", "twice"),
        ("a=1&#13;b=2", "items[0].fields['a']", "CR"),
        ("a=1&#13;&#13;\n", "items[0].fields['a']", "CR"),
        ("a_b=1", "items[0].fields['a_b']", "camelCase"),
        ("\u00a0a=1", "items[0].fields['\\xa0a']", "camelCase"),
        ("=1", "items[0].fields['']", "camelCase"),
        ("a=1<b/>", "items[0]", "no element"),
        ("a=1<!-- b -->2", "items[0]", "outside"),
        ("a=1<?b c?>2", "items[0]", "outside"),
    ],
)
def test_text_that_could_not_be_read_exactly_is_refused(text: str, where: str, fix: str) -> None:
    refused = refusal(lambda: read_imports(written(text)))
    assert refused.field == where
    assert fix in refused.fix


@pytest.mark.parametrize(
    ("attributes", "where"),
    [
        ('operation="insert"', "items[0].type"),
        ('type="order"', "items[0].operation"),
        ('type="order" operation="remove"', "items[0].operation"),
        ('type="a b" operation="insert"', "items[0].type"),
        ('type="order" operation="insert" externalReference=""', "items[0].external_reference"),
        ('type="order" operation="insert" item="1"', "items[0]"),
    ],
)
def test_attributes_that_an_import_cannot_hold_are_refused(attributes: str, where: str) -> None:
    assert refusal(lambda: read_imports(written("a=1", attributes))).field == where


def test_the_place_of_a_refused_item_is_named() -> None:
    document = SAMPLE.replace(
        b"</imports>", b'<import type="order" operation="merge">oops</import></imports>'
    )
    assert refusal(lambda: read_imports(document)).field == "items[1].fields"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<imports>",
        b"<imports/>",
        b"<orders><import/></orders>",
        b"<imports><order/></imports>",
        b'<imports messageId="8"><import type="order" operation="insert"/></imports>',
        b'<imports>lost<import type="order" operation="insert"/></imports>',
        b'<!DOCTYPE imports [<!ENTITY a "b">]>' + written("a=&a;"),
        written("a=1").decode().encode("utf-16"),
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + written("a=1"),
        written("a=") + b"\xff",
        written("a=\x01"),
        written("a=&#1;"),
        None,
    ],
)
def test_what_is_no_document_of_imports_is_refused(document: Any) -> None:
    assert refusal(lambda: read_imports(document)).field == "payload"


def test_a_document_too_large_to_be_sent_is_not_read() -> None:
    with pytest.raises(PayloadTooLarge):
        read_imports(SAMPLE + b" " * MAX_PAYLOAD_BYTES)
