"""What is known of a person is masked in views, whatever form its value has in what was sent or answered."""

from __future__ import annotations

import html
import json
import re
import time
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from worker.personal_data import MASK, PersonalData

PERSONAL = PersonalData(["deliveryPostCode", "orderAddress.lastName"])
PEOPLE = "ÄÖÜQXZ789 &<>\"'-"
"""Of what the values are made: nothing else in the documents has these letters."""
NEIGHBOURS = "state=created", "currency=GBP", "lastName2=Kept", "orderLine.1.quantity=2"

values = st.text(PEOPLE, min_size=3, max_size=12).filter(lambda text: len(re.sub(r"[^ÄÖÜQXZ]", "", text)) > 2)
names = st.sampled_from(
    (
        "deliveryPostCode",
        "DELIVERYPOSTCODE",
        "a.deliveryPostCode",
        "orderAddress.lastName",
        "x.orderAddress.1.lastName",
        " deliveryPostCode ",
    )
)


@st.composite
def written(draw: st.DrawFn, text: str) -> str:
    """Return text as XML has it, each piece in a form of its own."""
    pieces, at = [], 0
    while at < len(text):
        piece = text[at : at + draw(st.integers(1, 4))]
        at += len(piece)
        form = draw(st.sampled_from(["plain", "decimal", "hex", "cdata", "remark"]))
        if form == "decimal":
            pieces.append("".join(f"&#{ord(each)};" for each in piece))
        elif form == "hex":
            pieces.append("".join(f"&#x{ord(each):04X};" for each in piece))
        elif form == "cdata" and "]]>" not in piece:
            pieces.append(f"<![CDATA[{piece}]]>")
        else:
            remark = f"<!-- {piece.replace('-', '')} -->" if form == "remark" else ""
            pieces.append(html.escape(piece) + remark)
    return "".join(pieces)


@st.composite
def documents(draw: st.DrawFn, value: str) -> str:
    """Return a document with a value in a personal field, in one of the ways there are."""
    name = draw(names)
    before, after = NEIGHBOURS[0], "\n".join(NEIGHBOURS[1:])
    attribute = "".join(draw(st.sampled_from([f"&#{ord(c)};", html.escape(c)])) for c in value)
    split = draw(st.integers(1, len(value)))
    lines = f"{value[:split]}\n{value[split:]}" if draw(st.booleans()) else value
    ways = {
        "line": draw(written(f"{before}\n{name}={lines}\n{after}")),
        "break": draw(written(f"{before}\n{name}=[BR]{value}[BR]\n{after}")),
        "element": f"{before}\n<deliveryPostCode>{draw(written(value))}</deliveryPostCode>\n{after}",
        "path": f"{before}\n<p:orderAddress xmlns:p='p'><lastName>{draw(written(value))}</lastName>"
        f"</p:orderAddress>\n{after}",
        "inside": f"{before}\n{name}=<b>{draw(written(value))}</b>\n{after}",
        "attribute": f"{before}\n<a deliveryPostCode='{attribute}' b='kept'/>\n{after}",
        "named": f'{before}\n<field name="{name}" value="{attribute}"/>\n{after}',
        "named text": f'{before}\n<field name="{name}">{draw(written(value))}</field>\n{after}',
        "pair": f"{before}\n<p><n>{name}</n><v>{draw(written(value))}</v></p>\n{after}",
        "return": f"{before}&#13;{name.strip()}={draw(written(value))}\n{after}",
        "repeated": f"{before}\ndeliveryPostCode={html.escape(value)}\nnote={draw(written(f'to {value}!'))}\n"
        f"{after}<a b='{attribute}'/>",
    }
    way = draw(st.sampled_from(sorted(ways)))
    return f'<imports>\n<import type="order">{ways[way]}</import><import>state=created</import></imports>'


def told(document: bytes) -> str:
    """Return all that a reader can make out of a document: its bytes, and what they mean."""
    text = document.decode()
    root = etree.fromstring(document)
    attributes = [str(each) for element in root.iter() for each in element.attrib.values()]
    return "\n".join([text, html.unescape(text), "".join(map(str, root.itertext())), *attributes])


@given(st.data())
def test_no_value_survives_whatever_form_it_has(data: st.DataObject) -> None:
    value = data.draw(values)
    document = data.draw(documents(value)).encode(data.draw(st.sampled_from(["utf-8", "utf-16"])))
    shown = told(PERSONAL.masked(document))
    assert not set(shown) & set("ÄÖÜQXZ"), shown
    assert MASK in shown
    for neighbour in NEIGHBOURS:
        assert neighbour in shown


@given(st.data())
def test_a_value_is_masked_wherever_it_is_repeated(data: st.DataObject) -> None:
    value = data.draw(values).strip()
    found = PERSONAL.values_of(f"<i><i>deliveryPostCode={html.escape(value)}</i></i>".encode())
    assert found == {value}
    repeated = data.draw(
        st.sampled_from(
            [value, value.lower(), html.escape(value), quote_plus(value), json.dumps(value), f"<{value}"]
        )
    )
    text = PERSONAL.text(f"there is no {repeated} in town", found)
    assert MASK in text
    assert not set(html.unescape(text).upper()) & set("ÄÖÜQXZ")
    reply = PERSONAL.masked(f"<r>no {data.draw(written(value))} in town</r>".encode(), found)
    assert not set(told(reply)) & set("ÄÖÜQXZ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "the deliveryPostCode AB1 2CD is wrong\nelse: all well",
            f"the deliveryPostCode{MASK}\nelse: all well",
        ),
        ('{"deliveryPostCode": "AB1"}', f'{{"deliveryPostCode{MASK}'),
        ("lastname\nSmith\n\nstate=x", f"lastname\n{MASK}\n\nstate=x"),
        ("<deliveryPostCode>\nAB1\n<b", f"<deliveryPostCode{MASK}\n{MASK}\n{MASK}"),
        ("<!DOCTYPE x><a>lastName=Smith</a>", f"<!DOCTYPE x><a>lastName{MASK}"),
        ("deliveryPostCodes of old", "deliveryPostCodes of old"),
    ],
)
def test_of_what_is_no_xml_everything_behind_a_name_is_masked(text: str, shown: str) -> None:
    assert PERSONAL.masked(text.encode()).decode() == shown
    assert PERSONAL.text(text) == shown


def test_another_encoding_is_read_as_its_own() -> None:
    document = '<?xml version="1.0" encoding="ISO-8859-1"?><r><r>deliveryPostCode=Ä&#214;Ü\nkept=ß</r></r>'
    shown = PERSONAL.masked(document.encode("latin-1")).decode()
    assert shown == f'<?xml version="1.0"?><r><r>deliveryPostCode={MASK}\nkept=ß</r></r>'
    assert PERSONAL.values_of(document.encode("latin-1")) == {"ÄÖÜ"}
    unknown = document.replace("ISO-8859-1", "nonsense").encode()
    assert PERSONAL.masked(unknown).decode().endswith(f"deliveryPostCode{MASK}\nkept=ß</r></r>")


def test_without_fields_everything_is_shown_as_it_is() -> None:
    nobody = PersonalData([])
    document = b"<i><!-- a remark --><i>deliveryPostCode=AB1</i></i>"
    assert not nobody
    assert nobody.masked(document) == document
    assert nobody.text("the deliveryPostCode AB1") == "the deliveryPostCode AB1"
    assert nobody.values_of(document) == frozenset()
    assert nobody.parameters({"deliveryPostCode": "AB1"}) == {"deliveryPostCode": "AB1"}


def test_query_parameters_are_fields_too() -> None:
    query = {"deliveryPostCode": "AB1 2CD", "externalReference": "SO-1", "near": "ab1 2cd"}
    found = PERSONAL.values_of_query(query)
    assert found == {"AB1 2CD"}
    assert PERSONAL.parameters(query, found) == {
        "deliveryPostCode": MASK,
        "externalReference": "SO-1",
        "near": MASK,
    }


def test_a_document_of_many_items_is_masked_within_seconds() -> None:
    one = "<import><![CDATA[state=x\ndeliveryPostCode=P{0}X\norderAddress.lastName=N{0}X\nb=P{0}X]]></import>"
    document = f"<imports>{''.join(one.format(n) for n in range(1000, 1500))}</imports>".encode()
    shown = PERSONAL.masked(document).decode()
    assert not re.search("[PN][0-9]+X", shown)
    assert shown.count("state=x") == 500
    values, begun = PERSONAL.values_of(document), time.process_time()
    assert len(values) == 1000
    for n in range(1000, 1500):  # as for each item of a page
        for said in (f"P{n}X", f"p{n}x of {n}", f"import {n}: there is no N{n}X in P{n}X, nor in P9X; " * 5):
            assert not re.search(f"[PN]{n}X", PERSONAL.text(said, values), re.IGNORECASE)
    assert time.process_time() - begun < 20, "it takes a second; by one value after the other, forty"


def test_where_values_overlap_no_piece_of_one_is_left() -> None:
    values = {"Meier Strasse 5", "Anna Meier"}
    assert PERSONAL.text("to Anna Meier Strasse 5, or anna meier", values) == f"to {MASK}, or {MASK}"


def test_of_values_that_begin_alike_the_longest_is_masked() -> None:
    assert PERSONAL.text("in Ann Arbor, ANN SMITH and ann", {"ann", "Ann Arbor", "ann smith"}) == (
        f"in {MASK}, {MASK} and {MASK}"
    )
