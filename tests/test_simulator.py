"""The stand-in for OrderFlow, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from simulator import Fault, FaultPlan, Ledger, Options, Request, Simulator, ledger
from simulator.faults import KINDS
from simulator.server import MAX_BODY
from tests.caller import (
    ALLOWED,
    BASIC,
    CANCEL,
    CUSTOM,
    IMPORT_GOODS,
    IMPORT_ORDERS,
    SCOPES,
    UPDATE_ORDER,
    UPDATE_PRODUCT,
    Answer,
    connect,
    control,
    imports,
    item,
    order,
    running,
    send,
)
from tests.nursery import Program


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator.running() as running:
        yield running


# Imports


def test_an_import_is_reported_item_by_item(sim: Simulator) -> None:
    order(sim, "SO-1")
    answer = send(sim, IMPORT_ORDERS, imports(item("SO-2"), item(""), item("SO-1"), item("SO-3")))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/xml")
    assert answer.references("Successes") == [("1", "SO-2"), ("4", "SO-3")]
    assert answer.references("Failures") == [("2", "")]
    assert answer.references("Duplicates") == [("3", "SO-1")]
    assert answer.messages("failureMessage") == ["No externalReference was given"]


def test_a_repeated_external_reference_is_answered_as_a_duplicate(sim: Simulator) -> None:
    assert order(sim, "SO-1").references("Successes") == [("1", "SO-1")]
    again = order(sim, "SO-1")
    assert again.references("Successes") == []
    assert again.references("Duplicates") == [("1", "SO-1")]
    assert again.messages("duplicateMessage") == ["Duplicate order SO-1"]
    assert [entity.request for entity in sim.ledger.accepted] == [1]


def test_a_reference_given_twice_in_one_document_is_accepted_once(sim: Simulator) -> None:
    answer = send(sim, IMPORT_ORDERS, imports(item("SO-1"), item("SO-1")))
    assert answer.references("Successes") == [("1", "SO-1")]
    assert answer.references("Duplicates") == [("2", "SO-1")]


@pytest.mark.parametrize("operation", ["update", "merge"])
def test_only_inserts_have_duplicates(sim: Simulator, operation: str) -> None:
    body = imports(item("SO-1", operation=operation))
    for _ in range(2):
        assert send(sim, IMPORT_ORDERS, body).references("Successes") == [("1", "SO-1")]
    assert len(sim.ledger.accepted) == 2


def test_the_same_reference_of_another_type_is_no_duplicate(sim: Simulator) -> None:
    body = imports(item("R-1", type="return"), item("R-1", type="stockMoveTask"))
    assert len(send(sim, IMPORT_GOODS, body).references("Successes")) == 2


def test_many_at_once_accept_a_reference_exactly_once(sim: Simulator) -> None:
    threads = [threading.Thread(target=order, args=(sim, "SO-1")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sim.ledger.accepted) == 1
    assert sim.ledger.summary()["duplicates_refused"] == 19


def test_an_order_for_a_missing_product_fails_until_the_product_is_imported() -> None:
    lines = [f"orderLine.{number}.product.externalReference=SKU-{number}" for number in (1, 9)]
    body = imports(item("SO-1", "\n ".join(["state=created", *lines])))
    with running(missing_products=["SKU-9"]) as sim:
        failed = send(sim, IMPORT_ORDERS, body)
        assert failed.references("Failures") == [("1", "SO-1")]
        assert failed.messages("failureMessage") == ["Unknown product SKU-9"]
        send(sim, IMPORT_GOODS, imports(item("SKU-9", type="product", operation="merge")))
        assert send(sim, IMPORT_ORDERS, body).references("Successes") == [("1", "SO-1")]
        control(sim, "reset", method="POST")
        assert send(sim, IMPORT_ORDERS, body).messages("failureMessage") == ["Unknown product SKU-9"]


@pytest.mark.parametrize(
    ("type", "operation"),
    [("product", "product-import"), ("return", "return-import"), ("stockMoveTask", "stock-move-import")],
)
def test_the_first_type_tells_the_operation_of_a_shared_path(
    sim: Simulator, type: str, operation: str
) -> None:
    send(sim, IMPORT_GOODS, imports(item("X-1", type=type)))
    assert [request.operation for request in sim.ledger.requests] == [operation]


def test_a_type_that_the_path_does_not_take_fails(sim: Simulator) -> None:
    answer = send(sim, IMPORT_ORDERS, imports(item("SKU-1", type="product")))
    assert answer.messages("failureMessage") == ["Unknown type product"]
    assert sim.ledger.requests[0].operation is None


def test_an_unknown_import_operation_fails(sim: Simulator) -> None:
    answer = send(sim, IMPORT_ORDERS, imports(item("SO-1", operation="delete")))
    assert answer.messages("failureMessage") == ["Unknown operation delete"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "no element found"),
        ("<imports>", "no element found"),
        ("not xml", "syntax error"),
        ("<orders/>", "Unexpected element <orders>"),
        ("<imports><import><b/></import></imports>", "Unexpected element <b>"),
        ("<imports/>", "holds no <import>"),
        ('<?xml version="1.0" encoding="klingon"?><imports/>', "klingon|unknown encoding"),
        ("<!DOCTYPE imports [<!ENTITY a 'b'>]>" + imports(item("SO-1")), "DOCTYPE is not accepted"),
    ],
)
def test_a_document_that_is_no_imports_gets_an_error_page(sim: Simulator, body: str, message: str) -> None:
    answer = send(sim, IMPORT_ORDERS, body)
    assert answer.status == 200
    assert answer.error is not None
    assert re.search(message, answer.error)
    assert sim.ledger.requests[0].operation == "order-import"


def test_what_is_put_into_xml_is_escaped(sim: Simulator) -> None:
    reference = "&lt;a b=&quot;&amp;'&quot;&gt;&#10;é"
    plain = '<a b="&\'">\né'
    assert send(sim, IMPORT_ORDERS, imports(item(reference))).references("Successes") == [("1", plain)]
    again = send(sim, IMPORT_ORDERS, imports(item(reference)))
    assert again.messages("duplicateMessage") == [f"Duplicate order {plain}"]
    with running(channels=["web"]) as strict:
        answer = send(strict, IMPORT_ORDERS + "?channel=%3Cb%3E%26%00", imports(item("SO-1")))
        assert answer.error == "Unknown channel <b>&\ufffd"


# Cancellations and updates


def test_a_known_order_is_cancelled_once(sim: Simulator) -> None:
    order(sim, "SO-1")
    path = f"{CANCEL}?externalReference=SO-1&cancelChangesExternalReference=false"
    first, second = send(sim, path), send(sim, path)
    assert first.headers["Content-Type"].startswith("text/plain")
    assert first.text == "Cancel operation performed for order SO-1"
    assert second.text == "No cancel operation performed for order SO-1"
    assert [entity.operation for entity in sim.ledger.accepted] == ["insert", "cancel"]


def test_an_unknown_order_is_not_cancelled(sim: Simulator) -> None:
    answer = send(sim, f"{CANCEL}?externalReference=SO-9")
    assert (answer.status, answer.text) == (200, "No cancel operation performed for order SO-9")
    assert sim.ledger.summary()["duplicates_refused"] == 0


@pytest.mark.parametrize("path", [UPDATE_ORDER, UPDATE_PRODUCT])
def test_an_update_repeated_identically_is_no_operation(sim: Simulator, path: str) -> None:
    created = f"{path}?thirdPartyReference=T-1&event=order.created&action=created"
    reordered = f"{path}?action=created&event=order.created&thirdPartyReference=T-1"
    assert send(sim, created).text == "Result 'updated' for order T-1"
    assert send(sim, reordered).text == "Result 'no_operation' for order T-1"
    assert send(sim, created + "2").text == "Result 'updated' for order T-1"
    assert [entity.operation for entity in sim.ledger.accepted] == ["update", "update"]


def test_a_call_without_its_reference_gets_an_error_page(sim: Simulator) -> None:
    assert send(sim, CANCEL).error == "No externalReference was given"
    assert send(sim, UPDATE_ORDER + "?thirdPartyReference=").error == "No thirdPartyReference was given"


# Access


@pytest.mark.parametrize("headers", [BASIC, CUSTOM, {**BASIC, **CUSTOM}])
def test_either_scheme_or_both_let_a_client_in(sim: Simulator, headers: dict[str, str]) -> None:
    assert send(sim, IMPORT_ORDERS, imports(item("SO-1")), {**headers, **SCOPES}).references("Successes")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic c2hvcDp3cm9uZw=="},
        {"Authorization": "Bearer " + BASIC["Authorization"][6:]},
        {"user": "shop"},
        {"password": CUSTOM["password"]},
        {"user": "shop", "password": "demo"},
        {**BASIC, "user": "shop", "password": "wrong"},
        {**CUSTOM, "Authorization": "Basic wrong"},
    ],
)
def test_a_wrong_or_missing_scheme_is_401_with_the_realm(sim: Simulator, headers: dict[str, str]) -> None:
    answer = send(sim, IMPORT_ORDERS, imports(item("SO-1")), {**headers, **SCOPES})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="RTD"'
    assert sim.ledger.accepted == []
    assert sim.ledger.requests[0].status == 401


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (IMPORT_ORDERS, "channel"),
        (CANCEL, "channel"),
        (UPDATE_ORDER, "channel"),
        (IMPORT_GOODS, "organisation"),
        (UPDATE_PRODUCT, "organisation"),
    ],
)
def test_a_missing_or_unknown_scope_gets_an_error_page(path: str, scope: str) -> None:
    with running(channels=["web"], organisations=["acme"]) as sim:
        body = imports(item("SO-1"))
        assert send(sim, path, body, BASIC).error == f"No {scope} was given"
        assert send(sim, path, body, {**BASIC, scope: "x"}).error == f"Unknown {scope} x"
        assert "channel" not in str(send(sim, path, body).error)
        assert "organisation" not in str(send(sim, path, body).error)


def test_the_query_parameter_wins_over_the_header() -> None:
    with running(channels=["web"]) as sim:
        good = send(sim, IMPORT_ORDERS + "?channel=web", imports(item("SO-1")), {**BASIC, "channel": "x"})
        bad = send(sim, IMPORT_ORDERS + "?channel=x", imports(item("SO-2")), {**BASIC, "channel": "web"})
    assert good.references("Successes") == [("1", "SO-1")]
    assert bad.error == "Unknown channel x"
    assert [request.channel for request in sim.ledger.requests] == ["web", "x"]


def test_any_scope_is_known_when_none_is_set(sim: Simulator) -> None:
    headers = {**BASIC, "channel": "whatever"}
    assert send(sim, IMPORT_ORDERS, imports(item("SO-1")), headers).references("Successes")


# Paths


@pytest.mark.parametrize("path", ["/", "/remoteorder/order/details.xml", "/remotewarehouse/order/detail.xml"])
def test_a_wrong_path_is_404_in_html(sim: Simulator, path: str) -> None:
    answer = send(sim, path)
    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.error is None


def test_a_wrong_method_is_405(sim: Simulator) -> None:
    answer = send(sim, IMPORT_ORDERS, method="GET")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("instance", ["", "web", "acme/live/web", "/web/"])
def test_the_instance_is_the_prefix_of_every_path(instance: str) -> None:
    with running(instance=instance) as sim:
        assert urlsplit(sim.url).path == ("/" + instance.strip("/")).rstrip("/")
        assert order(sim, "SO-1").references("Successes") == [("1", "SO-1")]


@pytest.mark.parametrize("instance", ["a//b", "a b", "a?b", "_simulator", "_simulator/x"])
def test_an_instance_that_cannot_be_a_path_is_refused(instance: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(instance))):
        Options(instance=instance)


def test_a_body_over_the_limit_is_413(sim: Simulator) -> None:
    fits = imports(item("SO-1")).encode().ljust(MAX_BODY)
    assert send(sim, IMPORT_ORDERS, fits).references("Successes")
    assert send(sim, IMPORT_ORDERS, fits + b" ").status == 413


def test_an_ordinary_answer_keeps_the_connection_open(sim: Simulator) -> None:
    connection = connect(sim.url)
    connection.connect()
    mine = connection.sock.getsockname()
    for number in range(3):
        connection.request("POST", "/web" + IMPORT_ORDERS, imports(item(f"SO-{number}")), ALLOWED)
        assert Answer(connection.getresponse()).references("Successes")
        assert connection.sock is not None
        assert connection.sock.getsockname() == mine
    connection.close()


def test_a_client_that_asks_first_is_told_to_go_on(sim: Simulator) -> None:
    body = imports(item("SO-1")).encode()
    head = f"POST /web{IMPORT_ORDERS} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in ALLOWED.items())
    parts = urlsplit(sim.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as raw, raw.makefile("rb") as got:
        raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        assert got.readline() == b"HTTP/1.1 100 Continue\r\n"
        raw.sendall(body)
        assert got.readline() == b"\r\n"
        assert got.readline() == b"HTTP/1.1 200 OK\r\n"


# Faults


@pytest.mark.parametrize(("spec", "status"), [("500", 500), ("500:status=502", 502), ("500:status=200", 200)])
def test_a_server_error_is_html_and_processes_nothing(sim: Simulator, spec: str, status: int) -> None:
    sim.set_faults([spec])
    answer = order(sim, "SO-1")
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert sim.ledger.accepted == []
    assert (sim.ledger.requests[0].fault, sim.ledger.requests[0].status) == ("500", status)


def test_unavailable_is_503_with_retry_after(sim: Simulator) -> None:
    sim.set_faults(["unavailable"])
    answer = order(sim, "SO-1")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert sim.ledger.accepted == []


def test_unauthorised_is_401_with_the_realm_whatever_the_credentials(sim: Simulator) -> None:
    sim.set_faults(["unauthorised"])
    answer = order(sim, "SO-1")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="RTD"')
    assert sim.ledger.accepted == []


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("error-page", 200, "<h2>ERROR</h2><p>The order is locked</p>"),
        ("exception", 200, "<exception>java.lang.NullPointerException</exception>"),
        ("maintenance", 200, "<h1>Maintenance</h1>"),
        ("missing", 404, "404 Not Found"),
        ("moved", 302, "302 Found"),
    ],
)
def test_an_answer_in_place_of_the_real_one_processes_nothing(
    sim: Simulator, kind: str, status: int, words: str
) -> None:
    sim.set_faults([kind])
    answer = order(sim, "SO-1")
    assert answer.status == status
    assert words in answer.text
    assert ("Location" in answer.headers) is (kind == "moved")
    assert sim.ledger.accepted == []


def test_a_request_that_hangs_is_not_answered_until_the_client_gives_up(sim: Simulator) -> None:
    sim.set_faults(["hang:times=1"])
    connection = http.client.HTTPConnection(urlsplit(sim.url).netloc, timeout=0.3)
    connection.request("POST", f"/web{IMPORT_ORDERS}", imports(item("SO-1")), ALLOWED)
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    assert order(sim, "SO-1").references("Successes") == [("1", "SO-1")]
    assert sim.ledger.requests[0].status is None


def test_slow_waits_and_then_answers_normally(sim: Simulator) -> None:
    sim.set_faults(["slow:delay=0.3"])
    start = time.monotonic()
    assert order(sim, "SO-1").references("Successes") == [("1", "SO-1")]
    assert time.monotonic() - start >= 0.3
    assert sim.ledger.requests[0].status == 200


def test_slow_is_processed_even_when_the_client_has_gone(sim: Simulator) -> None:
    sim.set_faults(["slow:delay=0.3"])
    connection = connect(sim.url)
    connection.request("POST", "/web" + IMPORT_ORDERS, imports(item("SO-1")), ALLOWED)
    wait_until(lambda: bool(sim.ledger.requests))
    connection.close()
    wait_until(lambda: bool(sim.ledger.accepted))
    wait_until(lambda: sim.ledger.summary()["in_progress"] == 0)
    assert sim.ledger.requests[0].status is None


def test_reset_resets_the_connection_and_processes_nothing(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    sim.set_faults(["reset"])
    with pytest.raises(ConnectionResetError) as caught:
        order(sim, "SO-1")
    # A connection that is merely closed raises a subclass.
    assert caught.type is ConnectionResetError
    assert sim.ledger.accepted == []
    assert (sim.ledger.requests[0].fault, sim.ledger.requests[0].status) == ("reset", None)
    assert caplog.records == []


def test_cut_is_processed_and_half_answered(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    sim.set_faults(["cut"])
    with pytest.raises(http.client.IncompleteRead) as caught:
        order(sim, "SO-1")
    assert caught.value.partial.startswith(b"<?xml")
    assert caught.value.expected
    assert [entity.reference for entity in sim.ledger.accepted] == ["SO-1"]
    assert sim.ledger.requests[0].status is None
    assert caplog.records == []


def test_silent_is_processed_yet_unanswered(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    sim.set_faults(["silent:times=1"])
    with pytest.raises(http.client.RemoteDisconnected):
        order(sim, "SO-1")
    assert [entity.reference for entity in sim.ledger.accepted] == ["SO-1"]
    assert sim.ledger.requests[0].status is None
    assert order(sim, "SO-1").references("Duplicates") == [("1", "SO-1")]
    assert caplog.records == []


def test_times_limits_a_fault(sim: Simulator) -> None:
    sim.set_faults(["500:times=2"])
    assert [order(sim, f"SO-{number}").status for number in range(4)] == [500, 500, 200, 200]


def test_a_rule_is_for_its_operation_only(sim: Simulator) -> None:
    sim.set_faults(["500:operation=order-cancel"])
    assert order(sim, "SO-1").status == 200
    assert send(sim, f"{CANCEL}?externalReference=SO-1").status == 500


def test_a_rule_is_for_any_request_that_holds_its_reference(sim: Simulator) -> None:
    sim.set_faults(["500:reference=SO-7"])
    assert order(sim, "SO-1").status == 200
    assert send(sim, IMPORT_ORDERS, imports(item("SO-6"), item("SO-7"))).status == 500
    assert send(sim, f"{CANCEL}?externalReference=SO-7").status == 500
    assert send(sim, f"{UPDATE_ORDER}?thirdPartyReference=SO-7").status == 500


def test_the_first_fault_that_fits_is_the_only_one() -> None:
    plan = FaultPlan([Fault("reset", times=1), Fault("cut")])
    assert [found.kind for _ in range(3) if (found := plan.pick(None))] == ["reset", "cut", "cut"]


def test_the_same_seed_gives_the_same_faults() -> None:
    def picks(seed: int) -> list[bool]:
        plan = FaultPlan([Fault("500", probability=0.3)], seed)
        return [plan.pick("order-import") is not None for _ in range(1000)]

    assert picks(1) == picks(1)
    assert picks(1) != picks(2)
    assert 200 < sum(picks(1)) < 400


def test_a_probability_of_nought_never_comes_up() -> None:
    plan = FaultPlan([Fault("500", probability=0)])
    assert not any(plan.pick(None) for _ in range(1000))


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("500", Fault("500")),
        ("500:0.1", Fault("500", probability=0.1)),
        ("slow:0.05:delay=2", Fault("slow", probability=0.05, delay=2.0)),
        (
            "500:operation=order-import,reference=SO-7,times=2",
            Fault("500", operation="order-import", reference="SO-7", times=2),
        ),
        ("500:status=503,probability=0.5", Fault("500", status=503, probability=0.5)),
    ],
)
def test_a_fault_is_read_from_words(spec: str, fault: Fault) -> None:
    assert Fault.parse(spec) == fault


@pytest.mark.parametrize(
    ("spec", "found", "allowed"),
    [
        ("", "kind ''", "500, slow, reset"),
        ("boom:0.1", "kind 'boom'", ", ".join(KINDS)),
        ("500:often", "probability 'often'", "a number"),
        ("500:1.5", "probability 1.5", "from 0 to 1"),
        ("500:nan", "probability nan", "from 0 to 1"),
        ("500:colour=red", "setting 'colour'", "operation, reference"),
        ("500:operation=order", "operation 'order'", "order-import, product-import"),
        ("500:reference=", "reference ''", "an external reference"),
        ("500:times=0", "times 0", "from 1"),
        ("500:times=1.5", "times '1.5'", "a whole number"),
        ("500:status=99", "status 99", "from 200 to 599"),
        ("500:delay=1", "delay '1'", "slow only"),
        ("slow:delay=-1", "delay -1", "seconds from 0"),
        ("slow:delay=inf", "delay inf", "seconds from 0"),
        ("reset:status=500", "status '500'", "500 only"),
        ("500:0.1:0.2", "probability '0.2'", "given once"),
    ],
)
def test_wrong_words_are_named_with_what_is_allowed(spec: str, found: str, allowed: str) -> None:
    with pytest.raises(ValueError, match=re.escape(found)) as caught:
        Fault.parse(spec)
    message = str(caught.value)
    assert message.startswith(f"fault {spec!r}: ")
    assert allowed in message
    assert "\n" not in message


# The ledger and the control paths


def test_the_ledger_tells_what_was_received_and_accepted(sim: Simulator) -> None:
    body = imports(item("SO-1"), item("SO-2"))
    before = time.time()
    send(sim, IMPORT_ORDERS + "?a=b", body, {**ALLOWED, "Idempotency-Key": "key-1"})
    answer = control(sim, "ledger").json
    received = answer["requests"][0]
    assert before <= received.pop("time") <= time.time()
    assert received == {
        "n": 1,
        "operation": "order-import",
        "method": "POST",
        "path": f"/web{IMPORT_ORDERS}?a=b",
        "identity": "key-1",
        "sha256": hashlib.sha256(body.encode()).hexdigest(),
        "channel": "web",
        "organisation": "acme",
        "references": ["SO-1", "SO-2"],
        "fault": None,
        "status": 200,
    }
    assert answer["accepted"] == [
        {"type": "order", "operation": "insert", "externalReference": name, "request": 1}
        for name in ("SO-1", "SO-2")
    ]


def test_the_summary_counts(sim: Simulator) -> None:
    for reference in ("SO-1", "SO-1", "SO-2"):
        order(sim, reference)
    sim.set_faults(["500:times=1"])
    order(sim, "SO-3")
    assert control(sim, "summary").json == {
        "requests": 4,
        "accepted": 2,
        "duplicates_refused": 1,
        "by_fault": {"500": 1},
        "in_progress": 0,
        "most_in_progress": 1,
    }


def test_requests_in_progress_are_counted_and_dropped_by_a_stop(sim: Simulator) -> None:
    sim.set_faults(["slow:delay=600"])
    connections = [connect(sim.url) for _ in range(3)]
    for connection in connections:
        connection.request("POST", "/web" + IMPORT_ORDERS, imports(item("SO-1")), ALLOWED)
    wait_until(lambda: sim.ledger.summary()["in_progress"] == 3)
    assert control(sim, "summary").json["most_in_progress"] == 3
    sim.stop()
    for connection in connections:
        with pytest.raises(ConnectionError):
            connection.getresponse()
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        order(sim, "SO-2")
    assert sim.ledger.accepted == []


def test_the_faults_path_replaces_the_plan(sim: Simulator) -> None:
    answer = control(sim, "faults", b'["500:times=1", "slow:0"]', "POST")
    assert (answer.status, answer.json) == (200, {"faults": 2})
    assert order(sim, "SO-1").status == 500
    control(sim, "faults", b"[]", "POST")
    assert order(sim, "SO-1").status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'["boom"]', "fault 'boom': kind 'boom' must be one of"),
        (b'{"500": 1}', "JSON list of strings"),
        (b"[1]", "JSON list of strings"),
        (b"\xff", "JSON list of strings"),
        (b"[" * 100_000, "JSON list of strings"),
    ],
)
def test_wrong_faults_are_400_and_change_nothing(sim: Simulator, body: bytes, message: str) -> None:
    sim.set_faults(["500"])
    answer = control(sim, "faults", body, "POST")
    assert answer.status == 400
    assert message in answer.json["error"]
    assert order(sim, "SO-1").status == 500


def test_reset_starts_afresh() -> None:
    with running(faults=["500:times=1"]) as sim:
        assert [order(sim, "SO-1").status for _ in range(2)] == [500, 200]
        assert control(sim, "reset", method="POST").json == {"reset": True}
        assert (sim.ledger.requests, sim.ledger.accepted) == ([], [])
        assert sim.ledger.summary()["requests"] == 0
        assert order(sim, "SO-1").status == 500
        assert order(sim, "SO-1").references("Successes") == [("1", "SO-1")]
        assert [request.n for request in sim.ledger.requests] == [1, 2]


def test_a_wrong_control_path_or_method_is_404(sim: Simulator) -> None:
    assert control(sim, "nothing").status == 404
    assert control(sim, "ledger", method="POST").status == 404


def test_control_requests_are_not_in_the_ledger_and_meet_no_fault(sim: Simulator) -> None:
    sim.set_faults(["500"])
    assert control(sim, "summary").json["requests"] == 0


def test_the_ledger_file_has_a_line_for_each_event(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with running(ledger_file=file) as sim:
        order(sim, "SO-1")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["entry"] for line in lines] == ["accepted", "request"]
        assert (lines[0]["externalReference"], lines[1]["status"]) == ("SO-1", 200)
        sim.reset()
    with running(ledger_file=file) as sim:
        order(sim, "SO-2")
    entries = [json.loads(line)["entry"] for line in file.read_text().splitlines()]
    assert entries == ["accepted", "request", "reset", "accepted", "request"]


def test_the_ledger_keeps_the_newest_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "KEPT_REQUESTS", 3)
    monkeypatch.setattr(ledger, "KEPT_ACCEPTED", 3)
    kept = Ledger()
    for number in range(1, 6):
        names = (f"SO-{number}",)
        kept.receive(Request("order-import", "POST", "/", None, "", None, None, names, None))
        assert kept.accept("order", "insert", f"SO-{number}", number)
    assert [request.n for request in kept.requests] == [3, 4, 5]
    assert [entity.reference for entity in kept.accepted] == ["SO-3", "SO-4", "SO-5"]
    assert (kept.summary()["requests"], kept.summary()["accepted"]) == (5, 5)
    assert not kept.accept("order", "insert", "SO-3", 6)
    assert kept.accept("order", "insert", "SO-1", 7)


# Inside a program


def test_the_simulator_serves_in_the_running_loop() -> None:
    async def visit() -> str:
        async with (
            Simulator(Options(channels=["web"])) as sim,
            aiohttp.ClientSession() as session,
            session.post(sim.url + IMPORT_ORDERS, data=imports(item("SO-1")), headers=ALLOWED) as answer,
        ):
            assert [entity.reference for entity in sim.ledger.accepted] == ["SO-1"]
            return await answer.text()

    assert '<import type="order" operation="insert" externalReference="SO-1"' in asyncio.run(visit())


def test_a_stop_in_the_running_loop_refuses_at_once() -> None:
    async def visit() -> None:
        async with Simulator() as sim, aiohttp.ClientSession() as session:
            sim.stop()
            sim.stop()
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.post(sim.url + IMPORT_ORDERS)

    asyncio.run(visit())


def test_a_port_in_use_is_told_to_whoever_starts_a_simulator(sim: Simulator) -> None:
    with pytest.raises(OSError, match="in use"), running(port=urlsplit(sim.url).port):
        pass


# From the shell


def start(*arguments: str, **variables: str) -> Program[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Program("simulator", *arguments, env={**os.environ, **variables}, text=True, **pipes)


@contextmanager
def started(*arguments: str, **variables: str) -> Iterator[tuple[Program[str], str]]:
    with start("--port", "0", *arguments, **variables) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            found = re.fullmatch(r"OrderFlow simulator ready on (http://127\.0\.0\.1:\d+\S*)\n", ready)
            assert found, ready
            yield process, found[1]
        finally:
            process.kill()


def post(url: str, path: str, body: str, headers: dict[str, str]) -> Answer:
    connection = connect(url)
    try:
        connection.request("POST", urlsplit(url).path + path, body, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_it_is_ready_and_stops_at_once_with_0(number: signal.Signals) -> None:
    with started("--fault", "slow:delay=600") as (process, url):
        connection = connect(url)
        connection.request("POST", "/web" + IMPORT_ORDERS, imports(item("SO-1")), ALLOWED)
        idle = connect(url)
        idle.request("GET", "/_simulator/summary")
        idle.getresponse().read()
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
        connection.close()
        idle.close()


def test_the_command_takes_its_settings_from_its_options(tmp_path: Path) -> None:
    options = ["--instance", "a/b", "--user", "me", "--password-env", "SECRET", "--channel", "c1"]
    options += ["--channel", "c2", "--organisation", "o", "--missing-product", "SKU-9", "--seed", "7"]
    options += ["--fault", "500:reference=SO-5", "--ledger", str(tmp_path / "ledger.jsonl")]
    headers = {"Authorization": "Basic " + base64.b64encode(b"me:mine").decode(), "channel": "c2"}
    with started(*options, SECRET="mine") as (_, url):
        assert urlsplit(url).path == "/a/b"
        assert post(url, IMPORT_ORDERS, imports(item("SO-1")), headers).references("Successes")
        assert post(url, IMPORT_ORDERS, imports(item("SO-5")), headers).status == 500
        lines = imports(item("SO-2", "orderLine.1.product.externalReference=SKU-9"))
        assert post(url, IMPORT_ORDERS, lines, headers).messages("failureMessage")
        assert post(url, IMPORT_ORDERS, "", {**headers, "channel": "x"}).error == "Unknown channel x"
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "boom"], "fault 'boom': kind 'boom' must be one of 500"),
        (["--port", "99999"], "'99999' must be a whole number from 0 to 65535"),
        (["--port", "0000000099999"], "must be a whole number from 0 to 65535"),
        (["--instance", "a b"], "instance 'a b' must be"),
        (["--password-env", "NO_SUCH_NAME"], "'NO_SUCH_NAME' is not set"),
        (["--ledger", "/no/such/folder/x"], "cannot write '/no/such/folder/x': No such file"),
        (["--seed", "x"], "--seed"),
        (["--work", "-1"], "work -1.0 must be seconds from 0 to 600"),
        (["--capacity", "0"], "capacity 0 must be a whole number from 1"),
        (["--no\nsuch"], "unrecognized"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    with start(*arguments) as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_a_port_in_use_is_one_line_and_exit_code_1(sim: Simulator) -> None:
    with start("--port", str(urlsplit(sim.url).port)) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    assert "in use" in err


def test_more_at_once_than_its_capacity_take_longer_by_the_square() -> None:
    limited = Options(work=2.0, capacity=5)
    assert [limited.seconds_of_work(number) for number in (1, 5, 10)] == [2.0, 2.0, 8.0]
    assert Options(work=2.0).seconds_of_work(50) == 2.0
    assert Options(capacity=5).seconds_of_work(50) == 0.0


def test_a_request_takes_as_long_as_it_works() -> None:
    with Simulator.running(Options(work=0.2)) as sim:
        begun = time.monotonic()
        assert order(sim, "SO-1").status == 200
        assert time.monotonic() - begun >= 0.2


def test_help_names_every_option() -> None:
    with start("--help") as process:
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    for name in ("--host", "--port", "--instance", "--user", "--password-env", "--channel", "--organisation"):
        assert name in out
    for name in ("--fault", "--work", "--capacity", "--seed", "--missing-product", "--ledger"):
        assert name in out
