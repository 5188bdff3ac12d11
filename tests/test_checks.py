"""A message in doubt is sent again only after a check has said that it was not carried out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from orderflow_outbox import State, enqueue, status_of
from orderflow_outbox.tables import attempt, dead_letter, gate
from simulator import Options
from tests.databases import on_postgresql_first, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.rig import Place, Rig, engine_of, eventually, rig

CHECK = """
[checks.order-import]
query = "order-detail"
parameters = { externalReference = "{externalReference}" }

[[checks.order-import.rules]]
name = "order-there"
root = ["order"]
verdict = "present"
text_from = ["@state"]

[[checks.order-import.rules]]
name = "order-not-there"
text = "Unknown order"
verdict = "absent"
text_from = ["/Unknown order (.*)/"]

[checks.order-cancel]
query = "order-detail"
parameters = { externalReference = "{externalReference}" }

[[checks.order-cancel.rules]]
name = "cancelled"
xpath = "/order[@state = 'cancelled']"
verdict = "present"

[[checks.order-cancel.rules]]
name = "not-cancelled"
root = ["order"]
verdict = "absent"
"""
UNHURRIED: dict[str, Any] = {"lease": 6, "attempt_deadline": "2s"}
"""Room for a deadline that a busy machine does not miss."""
UNANSWERED = "silent:operation=order-import,times=1"
UNPROCESSED = "reset:operation=order-import,times=1"


def asked(made: Rig) -> list[str | None]:
    """Return what the receiver was asked, in order."""
    return [request.operation for request in made.simulator.ledger.requests]


def accepted(made: Rig) -> Counter[tuple[str, str]]:
    return Counter((each.operation, each.reference) for each in made.simulator.ledger.accepted)


def gates(made: Rig) -> list[str]:
    with made.engine.connect() as connection:
        return list(connection.scalars(select(gate.c.state)))


def test_what_a_check_finds_is_delivered_and_not_sent_again(place: Place) -> None:
    with rig(place, Options(faults=[UNANSWERED]), queries=CHECK, **UNHURRIED) as made:
        stored = made.order("SO-1", idempotency_key="k-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["order-import", "order-detail"]
        assert accepted(made) == {("insert", "SO-1"): 1}
        (row,) = made.rows()
        assert (row.attempts, row.tries, row.in_doubt) == (2, 1, False)
        first, second = made.attempts(stored.id)
        assert (first.checked_by, first.in_doubt) == (None, True)
        assert (second.checked_by, second.verdict, second.rule) == (
            "order-detail",
            "delivered",
            "order-there",
        )
        assert (second.reason, second.error, second.in_doubt) == ("present", "created", False)
        assert second.request_line == (
            f"POST {made.simulator.url}/remoteorder/order/detail.xml?externalReference=SO-1"
        )
        assert second.request_headers["Authorization"] == "********"
        assert b"<order " in second.reply_body
        query = made.simulator.ledger.requests[1]
        assert (query.channel, query.identity) == ("web", None), "a query has no identity"


@on_postgresql_first
def test_what_a_check_does_not_find_is_sent_again_and_no_longer_in_doubt(place: Place) -> None:
    with rig(place, Options(faults=[UNPROCESSED]), queries=CHECK) as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["order-import", "order-detail", "order-import"]
        (row,) = made.rows()
        assert (row.attempts, row.tries) == (3, 1), "a check spends no try"
        checks = [(each.checked_by, each.reason, each.in_doubt) for each in made.attempts(stored.id)]
        assert checks == [
            (None, "connection_lost", True),
            ("order-detail", "absent", False),
            (None, "imported", False),
        ]


@on_sqlite_first
def test_a_check_that_says_absent_ends_the_doubt_of_what_fails_afterwards(place: Place) -> None:
    """A cancellation that OrderFlow does not carry out is refused, and not taken for done before."""
    faults = ["reset:operation=order-cancel,times=1"]
    with rig(place, Options(faults=faults), queries=CHECK) as made:
        made.order("SO-1")
        with made.engine.begin() as connection:
            cancel = enqueue(connection, "order-cancel", query={"externalReference": "SO-1"}, channel="web")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert [each.checked_by for each in made.attempts(cancel.id)] == [None, "order-detail", None]
        assert accepted(made) == {("insert", "SO-1"): 1, ("cancel", "SO-1"): 1}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500:operation=order-detail,times=3", "http_500"),
        ("silent:operation=order-detail,times=3", "connection_lost"),
        ("cut:operation=order-detail,times=3", "cut_reply"),
        ("error-page:operation=order-detail,times=3", "error_page"),
        ("maintenance:operation=order-detail,times=3", "unknown_reply"),
    ],
)
@on_sqlite
def test_while_a_check_tells_nothing_the_message_waits_and_spends_no_try(
    place: Place, fault: str, reason: str
) -> None:
    waits = ["50ms"]
    with rig(
        place, Options(faults=[UNANSWERED, fault]), queries=CHECK, retry_after=waits, **UNHURRIED
    ) as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["order-import", *["order-detail"] * 4]
        assert made.rows()[0].tries == 1, "with one wait a second failed try would be death"
        untold = made.attempts(stored.id)[1:-1]
        assert [(each.reason, each.in_doubt, each.verdict) for each in untold] == [
            (reason, True, "retry")
        ] * 3
        assert all(each.error.startswith("the check by order-detail told nothing: ") for each in untold)


@on_sqlite_first
def test_an_answer_that_no_rule_of_a_check_fits_settles_nothing(place: Place) -> None:
    blind = CHECK.replace('root = ["order"]', 'root = ["orders"]', 1)
    with rig(
        place, Options(faults=[UNANSWERED]), queries=blind, retry_after=["50ms", "10s"], **UNHURRIED
    ) as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.rows()[0].attempts == 2 and made.states() == {"pending"})
        assert accepted(made) == {("insert", "SO-1"): 1}
        assert made.rows()[0].in_doubt
        told = made.attempts(stored.id)[1]
        assert (told.reason, told.rule, told.verdict) == ("check_unclear", "any-document", "retry")


@on_sqlite
@pytest.mark.parametrize("carried_out", [True, False])
def test_after_the_last_try_a_check_tells_whether_it_was_carried_out(place: Place, carried_out: bool) -> None:
    fault = "silent" if carried_out else "reset"
    faults = ["500:operation=order-import,times=1", f"{fault}:operation=order-import,times=1"]
    with rig(place, Options(faults=faults), queries=CHECK, retry_after=["50ms"]) as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered" if carried_out else "dead"})
        assert asked(made) == ["order-import", "order-import", "order-detail"]
        (row,) = made.rows()
        assert (row.tries, row.attempts, row.in_doubt) == (2, 3, False)
        if not carried_out:
            with made.engine.connect() as connection:
                letter = connection.execute(select(dead_letter)).one()
            assert (letter.message_id, letter.reason, letter.in_doubt) == (stored.id, "absent", False)
            assert letter.text == "after 2 tries, the last of them without an answer: SO-1"


@on_sqlite
def test_a_doubt_that_no_check_can_settle_dies_of_the_last_try(place: Place) -> None:
    two = order("SO-1").replace("</imports>", "") + order("SO-2").partition("<imports>")[2]
    with rig(place, Options(faults=["silent"]), queries=CHECK, retry_after=["50ms"]) as made:
        with made.engine.begin() as connection:
            enqueue(connection, "order-import", two, channel="web")
        with engine_of(made):
            eventually(lambda: made.states() == {"dead"})
        assert asked(made) == ["order-import"] * 2
        assert made.rows()[0].in_doubt


@on_sqlite_first
def test_a_receiver_that_turns_checks_away_is_held(place: Place) -> None:
    faults = ["silent:operation=order-import,times=3", "unauthorised:operation=order-detail"]
    with rig(place, Options(faults=faults), queries=CHECK) as made:
        for n in range(3):
            made.order(f"SO-{n}")
        with engine_of(made):
            eventually(lambda: gates(made) == ["held"])
        assert {row.state for row in made.rows()} == {"pending"}
        assert all(row.in_doubt for row in made.rows())


@on_sqlite_first
def test_what_is_not_in_doubt_is_not_asked_about(place: Place) -> None:
    with rig(place, Options(faults=["unavailable:times=2"]), queries=CHECK) as made:
        made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["order-import"] * 3


@on_sqlite
def test_a_value_too_long_to_be_asked_by_is_not_asked_by(place: Place) -> None:
    long = "SO-" + "1" * 5000
    with rig(place, Options(faults=[UNANSWERED]), queries=CHECK, **UNHURRIED) as made:
        made.order(long)
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["order-import"] * 2


@on_sqlite
def test_a_message_without_the_one_value_that_is_asked_by_is_sent_again(place: Place) -> None:
    two = order("SO-1").replace("</imports>", "") + order("SO-2").partition("<imports>")[2]
    with rig(place, Options(faults=[UNANSWERED]), queries=CHECK, **UNHURRIED) as made:
        with made.engine.begin() as connection:
            enqueue(connection, "order-import", two, channel="web")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["order-import"] * 2
        assert accepted(made) == {("insert", "SO-1"): 1, ("insert", "SO-2"): 1}


@on_sqlite
def test_a_query_is_not_asked_without_the_value_that_it_could_do_without(place: Place) -> None:
    """Given a query that would answer of everything there is."""
    check = CHECK.split("[checks.order-cancel]")[0].replace("order-import", "product-import")
    check = check.replace("order-detail", "inventory").replace(
        "{ externalReference =", "{ externalReferences ="
    )
    two = order("SKU-1", "SKU-2").replace('type="order"', 'type="product"')
    with rig(place, Options(faults=["silent:operation=product-import,times=1"]), queries=check) as made:
        with made.engine.begin() as connection:
            enqueue(connection, "product-import", two, organisation="acme")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["product-import"] * 2


@on_sqlite
def test_an_operation_without_a_check_is_sent_again(place: Place) -> None:
    with rig(place, Options(faults=["silent:operation=product-import,times=1"]), queries=CHECK) as made:
        with made.engine.begin() as connection:
            document = order("SKU-1").replace('type="order"', 'type="product"')
            enqueue(connection, "product-import", document, organisation="acme")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert asked(made) == ["product-import"] * 2


@on_sqlite_first
def test_a_shop_is_told_that_a_check_is_being_made(place: Place) -> None:
    faults = [UNANSWERED, "500:operation=order-detail"]
    with rig(place, Options(faults=faults), queries=CHECK, retry_after=["50ms", "10s"]) as made:
        stored = made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.rows()[0].attempts == 2 and made.states() == {"pending"})
        with made.engine.connect() as connection:
            status = status_of(connection, stored.id)
        assert status is not None
        assert (status.state, status.in_doubt) == (State.PENDING, True)
        assert status.reason == "whether OrderFlow carried it out is not known, and was asked by order-detail"


@on_postgresql_first
@pytest.mark.parametrize("queries", ["", CHECK], ids=["without a check", "with a check"])
@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_of_many_orders_processed_without_an_answer_each_arrives_once(
    place: Place, queries: str, number: int
) -> None:
    """Given a receiver that processes every order and answers half of the requests."""
    options = Options(faults=["silent:0.5:operation=order-import"], seed=7)
    settings: dict[str, Any] = {"queries": queries, "window": 32, "retry_after": ["20ms"] * 40}
    with rig(place, options, breaker="failures = 1000\nshare = 1.0", **settings) as made:
        orders = made.orders(number)
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"}, 60)
        assert len(orders) == number
        assert accepted(made) == {("insert", f"SO-{n}"): 1 for n in range(number)}
        assert made.simulator.ledger.summary()["by_fault"]["silent"] > 0.3 * number  # type: ignore[index]
        with made.engine.connect() as connection:
            assert connection.execute(select(dead_letter)).all() == []
            doubts = connection.execute(select(attempt.c.in_doubt).where(attempt.c.in_doubt)).all()
        assert len(doubts) > 0.3 * number
        assert not any(row.in_doubt for row in made.rows())
