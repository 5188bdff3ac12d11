"""The queries that the stand-in for OrderFlow answers, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest

from simulator import Ledger, Simulator
from simulator.queries import QUERIES
from tests.caller import (
    ALLOWED,
    BASIC,
    CANCEL,
    IMPORT_GOODS,
    IMPORT_ORDERS,
    UPDATE_ORDER,
    UPDATE_PRODUCT,
    Answer,
    imports,
    item,
    order,
    running,
    send,
)

DETAIL = "/remoteorder/order/detail.xml"
INVENTORY = "/remotewarehouse/inventory.xml"
DESPATCHES = "/remoteorder/shipment/despatches.xml"
PERIOD = "from=2026-11-01+00:00:00&to=2026-11-02+00:00:00&includeOrderLines=true"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
QUERY_CALLS = [
    ("order-detail", "POST", f"{DETAIL}?externalReference=SO-1"),
    ("inventory", "GET", f"{INVENTORY}?externalReferences=SKU-1,SKU-2"),
    ("despatches", "GET", f"{DESPATCHES}?{PERIOD}"),
]
ODD = '<a b="&\'">\né'
ODD_IN_XML = "&lt;a b=&quot;&amp;'&quot;&gt;&#10;é"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running() as simulator:
        yield simulator


def detail(sim: Simulator, reference: str) -> Answer:
    return send(sim, f"{DETAIL}?{urlencode({'externalReference': reference})}")


def inventory(sim: Simulator, query: str = "") -> Answer:
    return send(sim, INVENTORY + query, method="GET")


def goods(sim: Simulator, *references: str, type: str = "product", operation: str = "insert") -> None:
    items = [item(reference, type=type, operation=operation) for reference in references]
    assert send(sim, IMPORT_GOODS, imports(*items)).references("Successes")


def products(answer: Answer) -> list[tuple[str | None, str | None]]:
    root = ElementTree.fromstring(answer.body)  # noqa: S314
    assert root.tag == "inventory"
    assert {each.tag for each in root} <= {"product"}
    return [(each.get("externalReference"), each.get("quantity")) for each in root]


# One order


def test_an_order_that_was_imported_is_told_of_by_order_detail(sim: Simulator) -> None:
    order(sim, "SO-1")
    answer = detail(sim, "SO-1")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
    assert answer.text == f'{DECLARATION}<order externalReference="SO-1" state="created"/>'


@pytest.mark.parametrize("operation", ["update", "merge"])
def test_an_order_that_an_update_or_merge_brought_is_known(sim: Simulator, operation: str) -> None:
    send(sim, IMPORT_ORDERS, imports(item("SO-1", operation=operation)))
    assert 'state="created"' in detail(sim, "SO-1").text


def test_an_order_whose_cancellation_was_accepted_is_told_of_as_cancelled(sim: Simulator) -> None:
    order(sim, "SO-1")
    order(sim, "SO-2")
    send(sim, f"{CANCEL}?externalReference=SO-1")
    assert detail(sim, "SO-1").text == f'{DECLARATION}<order externalReference="SO-1" state="cancelled"/>'
    assert 'state="created"' in detail(sim, "SO-2").text


def test_an_order_that_no_import_brought_is_unknown(sim: Simulator) -> None:
    goods(sim, "SO-1")
    send(sim, f"{CANCEL}?externalReference=SO-1")
    send(sim, f"{UPDATE_ORDER}?thirdPartyReference=SO-1&event=order.created&action=created")
    answer = detail(sim, "SO-1")
    assert (answer.status, answer.error) == (200, "Unknown order SO-1")


def test_an_order_that_failed_to_be_imported_is_unknown() -> None:
    with running(missing_products=["SKU-9"]) as sim:
        send(sim, IMPORT_ORDERS, imports(item("SO-1", "orderLine.1.product.externalReference=SKU-9")))
        assert detail(sim, "SO-1").error == "Unknown order SO-1"


@pytest.mark.parametrize("query", ["", "?externalReference=", "?thirdPartyReference=SO-1"])
def test_order_detail_without_its_reference_gets_an_error_page(sim: Simulator, query: str) -> None:
    order(sim, "SO-1")
    assert send(sim, DETAIL + query).error == "No externalReference was given"


# The inventory


def test_the_inventory_tells_of_every_product_imported_in_order_of_reference(sim: Simulator) -> None:
    goods(sim, "SKU-2", "SKU-10")
    goods(sim, "SKU-1", operation="merge")
    goods(sim, "SKU-1", "SKU-3", operation="update")
    goods(sim, "R-1", type="return")
    order(sim, "SO-1")
    answer = inventory(sim)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
    assert products(answer) == [("SKU-1", "0"), ("SKU-10", "0"), ("SKU-2", "0"), ("SKU-3", "0")]


def test_an_inventory_without_products_is_empty(sim: Simulator) -> None:
    send(sim, f"{UPDATE_PRODUCT}?thirdPartyReference=SKU-1&event=product.created&action=created")
    assert inventory(sim).text == f"{DECLARATION}<inventory></inventory>"


@pytest.mark.parametrize("names", ["SKU-3,SKU-9,SKU-1,SKU-3", "SKU-3%2CSKU-1", "+SKU-3,,+SKU-1,"])
def test_the_inventory_tells_of_those_named_and_leaves_out_the_unknown(sim: Simulator, names: str) -> None:
    goods(sim, "SKU-1", "SKU-2", "SKU-3")
    answer = inventory(sim, f"?externalReferences={names}")
    assert answer.text == (
        f'{DECLARATION}<inventory><product externalReference="SKU-1" quantity="0"/>'
        '<product externalReference="SKU-3" quantity="0"/></inventory>'
    )


def test_an_inventory_of_unknown_products_only_is_empty(sim: Simulator) -> None:
    goods(sim, "SKU-1")
    assert products(inventory(sim, "?externalReferences=SKU-9")) == []


@pytest.mark.parametrize("query", ["?externalReferences=", "?externalReferences=,", "?externalReference=X"])
def test_an_inventory_that_names_no_product_is_of_all(sim: Simulator, query: str) -> None:
    goods(sim, "SKU-1")
    assert products(inventory(sim, query)) == [("SKU-1", "0")]


# Despatches


def test_nothing_is_ever_despatched(sim: Simulator) -> None:
    order(sim, "SO-1")
    answer = send(sim, f"{DESPATCHES}?{PERIOD}", method="GET")
    assert (answer.status, answer.text) == (200, f"{DECLARATION}<despatches/>")
    assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "missing"),
    [("", "from"), ("?from=2026-11-01", "to"), ("?to=2026-11-02", "from"), ("?from=2026-11-01&to=", "to")],
)
def test_despatches_without_a_period_get_an_error_page(sim: Simulator, query: str, missing: str) -> None:
    assert send(sim, DESPATCHES + query, method="GET").error == f"No {missing} was given"


# What all queries have in common


def test_every_query_is_among_those_tried_here() -> None:
    assert list(QUERIES) == [operation for operation, _, _ in QUERY_CALLS]


@pytest.mark.parametrize(("operation", "method", "path"), QUERY_CALLS)
def test_a_query_takes_nothing_in_and_is_recorded(
    sim: Simulator, operation: str, method: str, path: str
) -> None:
    order(sim, "SO-1")
    goods(sim, "SKU-1")
    before = sim.ledger.accepted
    assert all(send(sim, path, method=method).error is None for _ in range(2))
    assert sim.ledger.accepted == before
    assert sim.ledger.summary()["duplicates_refused"] == 0
    asked = {"order-detail": ("SO-1",), "inventory": ("SKU-1", "SKU-2"), "despatches": ()}[operation]
    recorded = [(each.operation, each.method, each.references) for each in sim.ledger.requests[-2:]]
    assert recorded == [(operation, method, asked)] * 2
    assert [each.status for each in sim.ledger.requests[-2:]] == [200, 200]


@pytest.mark.parametrize(("operation", "method", "path"), QUERY_CALLS)
def test_a_query_by_a_wrong_method_is_405_and_told_the_right_one(
    sim: Simulator, operation: str, method: str, path: str
) -> None:
    for wrong in {"GET", "POST", "PUT", "DELETE"} - {method}:
        answer = send(sim, path, method=wrong)
        assert (answer.status, answer.headers["Allow"]) == (405, method)
    assert {each.operation for each in sim.ledger.requests} == {operation}


@pytest.mark.parametrize(("operation", "method", "path"), QUERY_CALLS)
def test_a_fault_can_be_for_one_with_channel(sim: Simulator, operation: str, method: str, path: str) -> None:
    sim.set_faults([f"500:operation={operation}"])
    for _, other_method, other in QUERY_CALLS:
        assert (send(sim, other, method=other_method).status == 500) is (other == path)
    assert order(sim, "SO-1").status == 200


def test_a_fault_for_a_reference_is_for_the_queries_that_ask_for_it(sim: Simulator) -> None:
    sim.set_faults(["500:reference=X-7"])
    assert detail(sim, "X-7").status == 500
    assert inventory(sim, "?externalReferences=X-6,X-7").status == 500
    assert inventory(sim, "?externalReferences=X-6").status == 200


@pytest.mark.parametrize(("operation", "method", "path"), QUERY_CALLS)
def test_a_query_without_credentials_is_401(sim: Simulator, operation: str, method: str, path: str) -> None:
    answer = send(sim, path, headers={"channel": "web", "organisation": "acme"}, method=method)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="RTD"')


@pytest.mark.parametrize(("operation", "method", "path"), QUERY_CALLS)
def test_a_query_names_its_scope_by_header_or_parameter_and_the_parameter_wins(
    operation: str, method: str, path: str
) -> None:
    with_channel = path.replace("?", "?channel={}&")
    with running(channels=["web"]) as sim:
        order(sim, "SO-1")
        assert send(sim, path, headers={**BASIC, "channel": "web"}, method=method).error is None
        assert send(sim, with_channel.format("web"), headers=BASIC, method=method).error is None
        wins = send(sim, with_channel.format("x"), headers={**BASIC, "channel": "web"}, method=method)
        assert wins.error == "Unknown channel x"
        assert sim.ledger.requests[-1].channel == "x"


@pytest.mark.parametrize("path", [DETAIL, DESPATCHES])
def test_an_organisation_is_no_channel(sim: Simulator, path: str) -> None:
    method = "POST" if path == DETAIL else "GET"
    answer = send(sim, path, headers={**BASIC, "organisation": "acme"}, method=method)
    assert answer.error == "No channel was given"


@pytest.mark.parametrize(
    ("scopes", "error"),
    [
        ({"organisation": "acme"}, None),
        ({"channel": "web"}, None),
        ({"organisation": "acme", "channel": "web"}, None),
        ({}, "No organisation or channel was given"),
        ({"organisation": "x"}, "Unknown organisation x"),
        ({"channel": "x"}, "Unknown channel x"),
        ({"organisation": "x", "channel": "web"}, "Unknown organisation x"),
    ],
)
def test_the_inventory_is_told_to_an_organisation_or_a_channel(
    scopes: dict[str, str], error: str | None
) -> None:
    with running(channels=["web"], organisations=["acme"]) as sim:
        assert send(sim, INVENTORY, headers={**BASIC, **scopes}, method="GET").error == error
        assert send(sim, f"{INVENTORY}?{urlencode(scopes)}", headers=BASIC, method="GET").error == error


def test_what_a_query_puts_into_xml_is_escaped(sim: Simulator) -> None:
    send(sim, IMPORT_ORDERS, imports(item(ODD_IN_XML)))
    goods(sim, ODD_IN_XML)
    told = ElementTree.fromstring(detail(sim, ODD).body)  # noqa: S314
    assert told.attrib == {"externalReference": ODD, "state": "created"}
    assert products(inventory(sim)) == [(ODD, "0")]
    assert products(inventory(sim, f"?externalReferences={quote(ODD)}")) == [(ODD, "0")]
    assert detail(sim, "<b>&\x00").error == "Unknown order <b>&\ufffd"


def test_a_reset_forgets_what_queries_tell_of(sim: Simulator) -> None:
    order(sim, "SO-1")
    goods(sim, "SKU-1")
    sim.reset()
    assert detail(sim, "SO-1").error == "Unknown order SO-1"
    assert products(inventory(sim)) == []


def test_a_query_that_has_a_body_is_answered_all_the_same(sim: Simulator) -> None:
    order(sim, "SO-1")
    answer = send(sim, f"{DETAIL}?externalReference=SO-1", "not xml", ALLOWED)
    assert 'state="created"' in answer.text


def test_the_ledger_tells_known_entities_of_one_type_from_all_others() -> None:
    ledger = Ledger()
    for type, operation in (("product", "insert"), ("product", "merge"), ("order", "insert")):
        ledger.accept(type, operation, f"{type}-1", 1)
    ledger.accept("product", "update", "product-2", 1, mark="update?thirdPartyReference=product-2")
    assert ledger.known("product") == {"product-1"}
    assert ledger.known("return") == set()
