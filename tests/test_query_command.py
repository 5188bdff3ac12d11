"""`query`: asking OrderFlow by hand, by the transport, the limits and the masking that messages have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from orderflow_outbox.tables import audit, message
from simulator import Options
from tests.databases import on_sqlite
from tests.rig import Place, Rig, engine_of, eventually, rig
from tests.shell import Shell
from worker.commands import FAILED, USAGE_ERROR

OWN = """
[queries.stock-history]
path = "remotewarehouse/stock/history.xml"
scopes = ["organisation"]
query = { mode = "full" }
required_query = ["sku"]
"""


@pytest.fixture
def made(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with rig(place, Options(channels=("web",), organisations=("acme",)), queries=OWN) as made:
        monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
        monkeypatch.delenv("OUTBOX_DATABASE_URL")
        yield made


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], made: Rig) -> Shell:
    return Shell(capsys)


def delivered(made: Rig, reference: str) -> None:
    made.order(reference)
    with engine_of(made):
        eventually(lambda: made.states() == {"delivered"})


def kept(made: Rig) -> list[Any]:
    with made.engine.connect() as connection:
        return list(connection.execute(select(audit).order_by(audit.c.id)).all())


DETAIL = ("query", "order-detail", "--channel", "web", "--query", "externalReference=SO-1")


def test_the_answer_is_printed_as_it_came(made: Rig, shell: Shell) -> None:
    delivered(made, "SO-1")
    said = shell.good(*DETAIL).out
    assert said.splitlines()[-1] == '<order externalReference="SO-1" state="created"/>'


def test_machines_get_the_answer_and_what_it_means(made: Rig, shell: Shell) -> None:
    delivered(made, "SO-1")
    told = shell.good(*DETAIL, "--json").json
    assert (told["ok"], told["status"], told["complete"]) == (True, 200, True)
    assert told["content_type"].startswith("application/xml")
    assert "SO-1" in told["body"]


def test_who_asked_what_and_the_answer_are_kept_with_credentials_masked(made: Rig, shell: Shell) -> None:
    delivered(made, "SO-1")
    shell.good(*DETAIL, "--by", "ann", "--why", "the customer calls")
    (row,) = kept(made)
    assert (row.verb, row.by, row.why, row.destination) == ("query", "ann", "the customer calls", "main")
    assert row.detail["request_line"].endswith("/remoteorder/order/detail.xml?externalReference=SO-1")
    assert row.detail["request_headers"]["Authorization"] == "********"
    assert row.detail["status"] == 200
    assert "SO-1" in row.detail["reply_body"]
    assert "demo" not in str(row.detail).replace("remotewarehouse", "")


def test_a_query_is_no_message(made: Rig, shell: Shell) -> None:
    shell.any(*DETAIL)
    with made.engine.connect() as connection:
        assert connection.execute(select(message)).all() == []
    ran = shell.any("enqueue", "order-detail")
    assert ran.status != 0
    assert "order-detail" in ran.err


def test_an_error_of_the_application_is_one_line_and_no_success(made: Rig, shell: Shell) -> None:
    ran = shell.any(*DETAIL)
    assert ran.status == FAILED
    assert ran.err == "order-detail of main: error_page: Unknown order SO-1\n"
    assert kept(made)[0].detail["error"] == "Unknown order SO-1"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "http_500"),
        ("silent", "connection_lost"),
        ("hang", "timeout"),
        ("maintenance", "unknown_reply"),
        ("moved", "http_302"),
    ],
)
@on_sqlite
def test_what_a_receiver_does_is_told_in_one_line(made: Rig, shell: Shell, fault: str, reason: str) -> None:
    made.simulator.set_faults([fault])
    ran = shell.any(*DETAIL, "--json")
    assert ran.status == FAILED
    assert ran.err.count("\n") == 1
    told = ran.json
    assert told["ok"] is False
    assert told["reason"] == reason
    assert kept(made)[0].detail["reason"] == reason


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("order-details",), "query is 'order-details': choose one of despatches, inventory, order-detail"),
        (("order-detail", "--destination", "north"), "destination is 'north': choose one of main"),
        (("order-detail",), "channel is None: order-detail acts in a scope: give channel"),
        (("inventory",), "organisation is None: inventory acts in a scope: give organisation or channel"),
        (("order-detail", "--channel", "wéb"), "channel is 'wéb': it travels as a header"),
        (("order-detail", "--channel", "web"), "query['externalReference'] is None: order-detail needs it"),
        (("order-detail", "--channel", "web", "--query", "x"), "--query is 'x': write it as NAME=VALUE"),
        (
            ("order-detail", "--channel", "web", "--query", "externalReference=1", "--query", "user=x"),
            "query['user'] is '(hidden)': the service sends this itself",
        ),
        (("inventory", "--organisation", "acme", "--why", " "), "--why is empty"),
    ],
    ids=str,
)
@on_sqlite
def test_what_cannot_be_asked_is_refused_and_nothing_is_sent(
    made: Rig, shell: Shell, arguments: tuple[str, ...], said: str
) -> None:
    ran = shell.any("query", *arguments)
    assert ran.status in (FAILED, USAGE_ERROR)
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert made.simulator.ledger.requests == []
    assert kept(made) == []


@pytest.mark.parametrize("scope", [("--organisation", "acme"), ("--channel", "web")])
@on_sqlite
def test_the_inventory_is_asked_in_either_scope(made: Rig, shell: Shell, scope: tuple[str, str]) -> None:
    assert "<inventory>" in shell.good("query", "inventory", *scope).out


@on_sqlite
def test_despatches_are_asked_between_two_moments(made: Rig, shell: Shell) -> None:
    given = ("--query", "from=2026-11-01", "--query", "to=2026-11-02", "--query", "includeOrderLines=true")
    assert "<despatches/>" in shell.good("query", "despatches", "--channel", "web", *given).out
    (request,) = made.simulator.ledger.requests
    assert (request.method, request.path) == (
        "GET",
        "/web/remoteorder/shipment/despatches.xml?from=2026-11-01&to=2026-11-02&includeOrderLines=true",
    )


@on_sqlite
def test_a_deployers_own_query_is_asked_with_its_parameters(made: Rig, shell: Shell) -> None:
    ran = shell.any("query", "stock-history", "--organisation", "acme", "--query", "sku=A")
    assert ran.status == FAILED, "this simulator does not know it"
    (request,) = made.simulator.ledger.requests
    assert (request.method, request.organisation) == ("GET", "acme")
    assert request.path == "/web/remotewarehouse/stock/history.xml?mode=full&sku=A"


def test_a_held_destination_can_be_asked(made: Rig, shell: Shell) -> None:
    """Given a person who wants to know whether it is back."""
    shell.good("hold", "main", "--why", "maintenance")
    assert "<inventory>" in shell.good("query", "inventory", "--organisation", "acme").out
