"""The gate of a destination with real engines: outages, refusals, rates, pauses, a receiver that is slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from config import Rate
from orderflow_outbox.tables import engine_seen, gate, gate_share, incident, message
from simulator import Options
from tests.databases import on_postgresql, on_postgresql_first, on_sqlite, on_sqlite_first
from tests.rig import Place, Rig, engine_of, eventually, rig
from tests.steps import (
    DELIVERED,
    LATER,
    LEASE,
    REFUSED,
    SECOND,
    TURNED_AWAY,
    Clock,
    claim_all,
    destinations,
    outcome,
    put,
    recorder,
    rows,
)
from worker.breaker import BreakerState
from worker.by_hand import NotPossible, hold, resume
from worker.gate import Ask, Gate
from worker.holding import LASTING
from worker.looking import Looker
from worker.store import gates
from worker.store.shares import Granted, give_back_all, take
from worker.store.transactions import Store
from worker.verdicts import RetryLater, Verdict

MAIN = destinations()["main"]


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def gate_of(store: Store) -> Gate:
    with store.reading() as transaction:
        return gates.read(transaction, ["main"])["main"]


def asked(store: Store, engine: str = "a", wanted: int = 8, **others: Any) -> Granted:
    with store.writing() as transaction:
        return take(transaction, "main", MAIN, engine, Ask(wanted, **others), lasting=LASTING, lease=LEASE)


def recorded(store: Store, engine: Engine, *verdicts: Verdict, **others: Any) -> list[int]:
    """Claim a message for each verdict and record it; return their ids."""
    for _ in verdicts:
        put(engine)
    claims = claim_all(store, len(verdicts)).claims
    assert recorder(store).record(
        [outcome(claim, verdict, **others) for claim, verdict in zip(claims, verdicts, strict=True)]
    )
    return [claim.id for claim in claims]


def tries_of(engine: Engine) -> list[int]:
    return [each["tries"] for each in rows(engine, message)]


# Recorded results and the gate.


def test_failures_in_a_row_open_the_breaker_and_tell_of_it_once(engine: Engine, store: Store) -> None:
    recorded(store, engine, *[LATER] * 4)
    assert gate_of(store).breaker.is_closed
    recorded(store, engine, *[LATER] * 4)
    assert gate_of(store).breaker.state is BreakerState.OPEN
    (only,) = rows(engine, incident)
    assert (only["cause"], only["operation"], only["reason"], only["occurrences"]) == (
        "breaker-open",
        "",
        "http_503",
        1,
    )


@on_sqlite_first
def test_what_fails_while_it_is_open_spends_no_try(engine: Engine, store: Store) -> None:
    recorded(store, engine, *[LATER] * 8)
    assert tries_of(engine) == [1, 1, 1, 1, 0, 0, 0, 0], "nor does the one that opens it"
    recorded(store, engine, LATER)
    assert tries_of(engine)[-1] == 0


@on_postgresql_first
def test_a_messages_own_failures_spend_tries_whatever_the_breaker(engine: Engine, store: Store) -> None:
    recorded(store, engine, *[LATER] * 5)
    own = RetryLater(LATER.why, systemic=False)
    recorded(store, engine, own)
    assert tries_of(engine)[-1] == 1


@on_sqlite_first
def test_a_probe_that_is_answered_closes_it_and_resolves_the_incident(
    engine: Engine, store: Store, clock: Clock
) -> None:
    recorded(store, engine, *[LATER] * 5)
    assert asked(store) == Granted(0, 0, is_shut=True)
    clock.forward(MAIN.breaker.first_probe)
    assert asked(store) == Granted(1, 1, is_probe=True)
    assert asked(store, "b") == Granted(0, 0, is_shut=True), "one probe is enough"
    recorded(store, engine, DELIVERED, probe=True)
    found = gate_of(store)
    assert (found.breaker.state, found.prober, found.window and found.window.size) == ("closed", None, 1)
    assert [each["resolved_at"] for each in rows(engine, incident)] == [clock.now]


@on_sqlite_first
def test_a_probe_that_fails_spends_no_try_and_the_next_is_another_message(
    engine: Engine, store: Store, clock: Clock
) -> None:
    recorded(store, engine, *[LATER] * 5)
    clock.forward(MAIN.breaker.first_probe)
    first = put(engine)
    second = put(engine)
    asked(store)
    (claim,) = claim_all(store, 1).claims
    assert recorder(store).record([outcome(claim, LATER, probe=True)])
    assert gate_of(store).breaker.probe_at == clock.now + MAIN.breaker.probe_after(1)
    clock.forward(MAIN.breaker.probe_after(1))
    (again,) = claim_all(store, 1).claims
    assert {first, second} == {claim.id, again.id}
    assert rows(engine, message, id=claim.id)[0]["tries"] == 0


@on_postgresql_first
def test_a_message_that_is_refused_as_a_probe_is_dead_and_the_destination_works(
    engine: Engine, store: Store, clock: Clock
) -> None:
    recorded(store, engine, *[LATER] * 5)
    clock.forward(MAIN.breaker.first_probe)
    asked(store)
    recorded(store, engine, REFUSED, probe=True)
    assert gate_of(store).breaker.is_closed
    assert rows(engine, message)[-1]["state"] == "dead"


def test_a_probe_that_is_never_reported_on_is_given_up_with_its_lease(store: Store, clock: Clock) -> None:
    open_breaker(store, clock)
    assert asked(store, "doomed").is_probe
    clock.forward(LEASE - SECOND)
    assert asked(store, "b").is_shut
    clock.forward(SECOND)
    assert asked(store, "b").is_probe


def open_breaker(store: Store, clock: Clock) -> None:
    """Leave the breaker open, and it is time for a probe."""
    with store.writing() as transaction:
        before = gates.lock(transaction, "main")
        breaker = replace(before.breaker, state=BreakerState.OPEN, probe_at=clock.now)
        gates.write(transaction, "main", before, replace(before, breaker=breaker, why=LATER.why), None)


@on_postgresql_first
def test_a_probe_that_found_nothing_to_send_is_another_engines_at_once(store: Store, clock: Clock) -> None:
    open_breaker(store, clock)
    assert asked(store, "a").is_probe
    assert asked(store, "a", wanted=0, unspent=1) == Granted(0, 0, is_shut=True)
    assert asked(store, "b").is_probe


@on_sqlite_first
def test_an_engine_that_stops_leaves_its_probe_to_another(store: Store, clock: Clock) -> None:
    open_breaker(store, clock)
    asked(store, "stops")
    with store.writing() as transaction:
        give_back_all(transaction, "stops")
    assert asked(store, "b").is_probe


@on_sqlite_first
def test_an_engine_makes_one_probe_however_often_it_asks(store: Store, clock: Clock) -> None:
    open_breaker(store, clock)
    assert asked(store).to_begin == 1
    assert asked(store, unspent=1).to_begin == 1, "it has not begun it"
    assert asked(store, in_use=1, probe_begun=True).to_begin == 0, "it is being made"
    assert asked(store, probe_begun=True).to_begin == 0, "it is about to be recorded"


@on_sqlite_first
def test_a_probe_is_made_beside_requests_that_hang(store: Store, clock: Clock) -> None:
    open_breaker(store, clock)
    granted = asked(store, in_use=2)
    assert (granted.slots, granted.to_begin) == (3, 1)
    assert asked(store, in_use=2).to_begin == 1, "none of the two is it"
    assert asked(store, in_use=3, probe_begun=True).to_begin == 0


@on_sqlite_first
def test_a_probe_waits_where_requests_that_hang_fill_the_window(store: Store, clock: Clock) -> None:
    assert asked(store, "b").slots
    for _ in range(3):
        asked(store, "b", in_use=4)
    open_breaker(store, clock)
    granted = asked(store, "a", in_use=4)
    assert (granted.slots, granted.is_probe) == (4, True), "four and four are in progress"


@on_sqlite_first
def test_a_probe_whose_answer_was_lost_is_still_this_engines(store: Store, clock: Clock) -> None:
    open_breaker(store, clock)
    asked(store)
    assert asked(store).to_begin == 1, "it was told of nothing"


@on_sqlite_first
def test_a_probe_whose_result_was_dropped_is_given_up_by_its_own_engine_too(
    store: Store, clock: Clock
) -> None:
    open_breaker(store, clock)
    asked(store)
    clock.forward(LEASE)
    assert asked(store, probe_begun=True) == Granted(1, 1, is_probe=True)


@on_sqlite_first
def test_what_was_put_off_to_the_next_probe_comes_with_the_one_of_a_person(
    engine: Engine, store: Store, clock: Clock
) -> None:
    (*_, last) = recorded(store, engine, *[LATER] * 5)
    assert rows(engine, message, id=last)[0]["due_at"] == clock.now + MAIN.breaker.first_probe
    clock.forward(SECOND)
    resume(store, "main", "ann", "they are back")
    assert rows(engine, message, id=last)[0]["due_at"] == clock.now


@on_sqlite_first
def test_nobody_holds_in_the_name_of_the_service(store: Store) -> None:
    with pytest.raises(NotPossible, match="a name of your own"):
        hold(store, "main", "the service", "their night")


@on_sqlite_first
def test_what_opened_the_breaker_is_known_after_a_person_resumed(engine: Engine, store: Store) -> None:
    recorded(store, engine, *[LATER] * 5)
    resume(store, "main", "ann", "they are back")
    found = gate_of(store)
    assert found.why is not None
    assert found.why.reason == "http_503"


@on_sqlite_first
def test_a_message_given_back_unsent_leaves_the_probe_to_the_next(
    engine: Engine, store: Store, clock: Clock
) -> None:
    open_breaker(store, clock)
    asked(store)
    put(engine)
    (claim,) = claim_all(store, 1).claims
    assert recorder(store).record([replace(outcome(claim, None), reply=None, probe=True)])
    assert asked(store, "b").is_probe


def test_three_refusals_hold_it_once_and_it_is_probed_rarely(
    engine: Engine, store: Store, clock: Clock
) -> None:
    recorded(store, engine, *[TURNED_AWAY] * 3)
    found = gate_of(store)
    assert (found.is_held, found.is_held_by_hand, found.changed_by) == (True, False, "the service")
    clock.forward(MAIN.breaker.longest_probe)
    assert asked(store).is_probe
    recorded(store, engine, TURNED_AWAY, probe=True)
    assert [(each["cause"], each["occurrences"]) for each in rows(engine, incident)] == [
        ("destination-held", 1)
    ]
    assert asked(store).is_shut
    clock.forward(MAIN.breaker.longest_probe)
    assert asked(store).is_probe
    recorded(store, engine, DELIVERED, probe=True)
    found = gate_of(store)
    assert (found.is_held, found.why, found.breaker.is_closed) == (False, None, True)
    assert [each["resolved_at"] for each in rows(engine, incident)] == [clock.now]


@on_sqlite_first
def test_what_a_person_holds_is_never_probed(engine: Engine, store: Store, clock: Clock) -> None:
    recorded(store, engine, *[LATER] * 5)
    hold(store, "main", "ann", "their night")
    clock.forward(timedelta(days=3))
    assert asked(store).is_shut
    before = resume(store, "main", "ann", "morning")
    assert (before.is_held_by_hand, before.breaker.is_closed) == (True, False)
    assert asked(store).is_probe


@on_sqlite_first
def test_refusals_that_come_late_do_not_take_a_hold_from_a_person(engine: Engine, store: Store) -> None:
    for _ in range(4):
        put(engine)
    late = claim_all(store, 4).claims
    hold(store, "main", "ann", "their night")
    assert recorder(store).record([outcome(claim, TURNED_AWAY) for claim in late])
    assert gate_of(store).changed_by == "ann"


@on_sqlite_first
def test_a_probe_that_is_answered_does_not_end_a_hold_of_a_person(
    engine: Engine, store: Store, clock: Clock
) -> None:
    open_breaker(store, clock)
    assert asked(store).is_probe
    put(engine)
    (claim,) = claim_all(store, 1).claims
    hold(store, "main", "ann", "their night")
    assert recorder(store).record([outcome(claim, DELIVERED, probe=True)])
    found = gate_of(store)
    assert (found.is_held_by_hand, found.breaker.is_closed) == (True, True)
    assert found.why is not None
    assert found.why.text == "their night"


@on_sqlite_first
def test_refusals_count_in_a_row(engine: Engine, store: Store) -> None:
    recorded(store, engine, TURNED_AWAY, TURNED_AWAY, DELIVERED, TURNED_AWAY, TURNED_AWAY)
    assert not gate_of(store).is_held


def test_only_the_engine_that_makes_the_probe_claims_for_it(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    open_breaker(store, clock)
    assert asked(store, "a").is_probe
    other, prober = (Looker(store, LEASE, engine=name) for name in "ba")
    assert (other.look({"main": 5}).claims, other.look({"main": 5}).shut) == ([], {"main"})
    look = prober.look({"main": 1})
    assert (len(look.claims), look.shut) == (1, frozenset())


@on_sqlite_first
def test_a_shut_destination_is_looked_at_again_when_its_probe_is_due(
    engine: Engine, store: Store, clock: Clock
) -> None:
    put(engine)
    recorded(store, engine, *[LATER] * 5)
    looker = Looker(store, LEASE, longest_wait=60)
    put(engine)
    look = looker.look({"main": 5})
    assert (look.claims, look.full, look.wait) == ([], frozenset(), 5)
    clock.forward(5 * SECOND)
    assert looker.look({"main": 5}).full == {"main"}, "there is a use for a slot"


def test_tokens_that_an_engine_has_not_used_go_back_to_all(store: Store, clock: Clock) -> None:
    limited = MAIN.model_copy(update={"rate": Rate(requests=6, per=timedelta(minutes=1), burst=6)})

    def tokens(engine: str, unspent: int = 0) -> int | None:
        with store.writing() as transaction:
            ask = Ask(8, 0, unspent)
            return take(transaction, "main", limited, engine, ask, lasting=LASTING, lease=LEASE).to_begin

    assert tokens("a") == 6
    assert tokens("b") == 0
    assert tokens("a", unspent=6) == 6
    clock.forward(20 * SECOND)
    assert tokens("b") == 2


@on_sqlite_first
def test_a_person_who_takes_over_a_hold_of_the_service_ends_its_probes(
    engine: Engine, store: Store, clock: Clock
) -> None:
    recorded(store, engine, *[TURNED_AWAY] * 3)
    hold(store, "main", "ann", "their password is being changed")
    clock.forward(timedelta(days=1))
    assert asked(store).is_shut
    assert gate_of(store).changed_by == "ann"


def test_a_wait_that_the_destination_asks_for_is_everyones(
    engine: Engine, store: Store, clock: Clock
) -> None:
    asks = replace(LATER, not_before=timedelta(seconds=40))
    recorded(store, engine, asks)
    assert asked(store).is_shut
    clock.forward(timedelta(seconds=39))
    assert asked(store).is_shut
    clock.forward(SECOND)
    assert asked(store).slots > 0


@on_sqlite_first
def test_a_wait_that_is_one_messages_own_is_not(engine: Engine, store: Store) -> None:
    recorded(store, engine, RetryLater(LATER.why, systemic=False, not_before=timedelta(seconds=40)))
    assert not asked(store).is_shut


@on_sqlite_first
def test_a_wait_is_no_longer_than_is_granted(engine: Engine, store: Store, clock: Clock) -> None:
    recorded(store, engine, replace(LATER, not_before=timedelta(days=300)))
    assert gate_of(store).paused_until == clock.now + MAIN.retry.retry_after_header_max


@on_sqlite_first
def test_a_failure_halves_the_window_of_all_engines(engine: Engine, store: Store, clock: Clock) -> None:
    assert asked(store).slots
    before = gate_of(store).window
    clock.forward(SECOND)
    recorded(store, engine, LATER)
    after = gate_of(store).window
    assert before
    assert after
    assert (before.size, after.size) == (4, 2)


@on_sqlite_first
def test_good_answers_write_nothing_at_a_calm_gate(engine: Engine, store: Store) -> None:
    recorded(store, engine, DELIVERED, DELIVERED)
    assert rows(engine, gate) == []


# With real engines.


@contextmanager
def engines_of(made: Rig, number: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(engine_of(made))
        yield


def waiting(made: Rig) -> int:
    """Return how many messages have not come to their end, without reading them all."""
    with made.engine.connect() as connection:
        unfinished = message.c.state.in_(["pending", "sending"])
        return connection.execute(select(func.count()).where(unfinished)).scalar_one()


def an_outage(place: Place, messages: int, seconds: float) -> None:
    breaker = 'first_probe = "20ms"\nlongest_probe = "2s"'
    with rig(place, Options(faults=["unavailable"]), window=8, breaker=breaker, lease=15) as made:
        made.orders(messages)
        with engines_of(made, 2):
            eventually(lambda: made.simulator.ledger.requests)
            began = time.time()
            time.sleep(seconds)  # the outage itself
            during = len(made.simulator.ledger.requests)
            made.simulator.set_faults([])
            ended = time.time()
            eventually(lambda: not waiting(made), 200)
        assert made.states() == {"delivered"}
        assert during <= 16 + 40, "sixteen may have been in hand when the breaker opened"
        assert max(row.tries for row in made.rows()) <= 1
        after = [each.time for each in made.simulator.ledger.requests if each.time >= ended]
        assert after[0] - ended <= 8, "the longest wait between probes, and a look a second"
        assert ended - began >= seconds
        with made.engine.connect() as connection:
            found = connection.execute(select(incident.c.cause, incident.c.resolved_at)).all()
        assert {row.cause for row in found} == {"breaker-open"}
        assert all(row.resolved_at is not None for row in found)


@on_postgresql_first
def test_an_outage_costs_a_few_probes_and_no_message(place: Place) -> None:
    an_outage(place, messages=200, seconds=1.5)


@on_sqlite_first
@pytest.mark.soak
@pytest.mark.timeout(300)
def test_an_outage_of_a_day_in_a_minute_with_ten_thousand_waiting(place: Place) -> None:
    an_outage(place, messages=10_000, seconds=60)


@on_sqlite
def test_an_engine_has_one_name_wherever_it_is_named(place: Place) -> None:
    with rig(place, Options(faults=["hang"]), attempt_deadline="6s", lease=20, drain="100ms") as made:
        made.order("SO-1")
        with engine_of(made):
            eventually(lambda: rows(made.engine, gate_share) and rows(made.engine, engine_seen))
            (share,), (seen,) = rows(made.engine, gate_share), rows(made.engine, engine_seen)
            assert share["engine"] == seen["engine"]


@on_sqlite
def test_a_probe_is_made_and_answered_while_another_request_hangs(place: Place) -> None:
    faults = ["hang:times=1", "unavailable"]
    settings = {"attempt_deadline": "30s", "lease": 100, "drain": "100ms"}
    settings["breaker"] = 'failures = 3\nfirst_probe = "50ms"'
    with rig(place, Options(faults=faults), window=8, **settings) as made:
        made.orders(30)
        with engine_of(made):
            eventually(lambda: gate_of(Store(made.engine)).breaker.state is BreakerState.OPEN)
            made.simulator.set_faults([])
            eventually(lambda: gate_of(Store(made.engine)).breaker.is_closed, 15)
            assert made.simulator.ledger.summary()["in_progress"] == 1


@on_sqlite
def test_a_rate_is_kept_by_all_engines_together(place: Place) -> None:
    limits = 'rate = { requests = 20, per = "1s", burst = 5 }'
    with rig(place, window=16, limits=limits) as made:
        made.orders(50)
        with engines_of(made, 3):
            eventually(lambda: made.states() == {"delivered"})
        times = sorted(each.time for each in made.simulator.ledger.requests)
        assert len(times) == 50
        for begin in times:
            within = sum(begin <= each < begin + 1 for each in times)
            assert within <= 20 + 5 + 3 * 5, "a second's worth, a full bucket, and what engines hold"
        assert times[-1] - times[0] >= (50 - 2 * 5) / 20 - 0.5


@on_postgresql
def test_a_receiver_that_slows_down_is_not_given_the_whole_window(place: Place) -> None:
    options = Options(work=0.1, capacity=5)
    with rig(place, options, window=64, attempt_deadline="4s", lease=25) as made:
        made.orders(150)
        with engines_of(made, 2):
            eventually(lambda: made.states() == {"delivered"}, 60)
        assert made.simulator.ledger.summary()["most_in_progress"] <= 32  # type: ignore[operator]
        with made.engine.connect() as connection:
            assert connection.execute(select(gate.c.window)).scalar_one() <= 16


@on_sqlite
def test_a_mended_password_resumes_by_a_probe(place: Place) -> None:
    options = Options(faults=["unauthorised"])
    with rig(place, options, breaker='first_probe = "100ms"\nlongest_probe = "1s"') as made:
        made.orders(20)
        with engine_of(made):
            eventually(lambda: gate_of(Store(made.engine)).is_held)
            made.simulator.set_faults([])
            eventually(lambda: not gate_of(Store(made.engine)).is_held)
            # Those turned away keep off for half a minute.
            eventually(lambda: [row.state for row in made.rows()].count("delivered") >= 10)
        with made.engine.connect() as connection:
            found = connection.execute(select(incident.c.cause, incident.c.alerts_sent)).all()
        assert [row.cause for row in found] == ["destination-held"]
