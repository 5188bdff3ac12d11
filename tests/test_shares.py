"""All engines together keep the window of a destination, and share it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError

from config import Rate
from orderflow_outbox.tables import gate_share
from simulator import Options
from tests.databases import on_postgresql, on_sqlite
from tests.rig import Place, engine_of, eventually, rig
from tests.steps import (
    DELIVERED,
    LEASE,
    SECOND,
    Clock,
    another_connection,
    claim_one,
    destinations,
    outcome,
    put,
    rows,
)
from worker import holding
from worker.breaker import BreakerState
from worker.deliveries import Reply
from worker.gate import Ask
from worker.holding import KEPT_SECONDS, LASTING, Holding
from worker.sharing import fair_shares
from worker.slots import Slots
from worker.store import gates
from worker.store.shares import IDLE_SECONDS, Granted, give_back_all, take
from worker.store.transactions import LOCK_SECONDS, Store
from worker.throttle import Window

WINDOW = 8
MAIN = destinations()["main"]


@given(st.integers(0, 50), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 60)))
def test_shares_are_fair_and_never_more_than_there_are(window: int, wanted: dict[str, int]) -> None:
    shares = fair_shares(window, wanted)
    assert sum(shares.values()) == min(window, sum(wanted.values())), "none is left while anyone wants one"
    assert all(0 <= shares[name] <= wanted[name] for name in wanted)
    short = [shares[name] for name in wanted if shares[name] < wanted[name]]
    assert max(shares.values(), default=0) <= min(short, default=window) + 1, "who has more wants no less"


@pytest.mark.parametrize(
    ("window", "wanted", "shares"),
    [
        (8, {"a": 8}, {"a": 8}),
        (8, {"a": 8, "b": 8}, {"a": 4, "b": 4}),
        (8, {"a": 8, "b": 1}, {"a": 7, "b": 1}),
        (8, {"a": 8, "b": 8, "c": 8}, {"a": 3, "b": 3, "c": 2}),
        (2, {"a": 8, "b": 8, "c": 8}, {"a": 1, "b": 1, "c": 0}),
        (8, {"a": 0, "b": 3}, {"a": 0, "b": 3}),
    ],
)
def test_what_one_does_not_want_the_others_have(
    window: int, wanted: dict[str, int], shares: dict[str, int]
) -> None:
    assert fair_shares(window, wanted) == shares


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    store = Store(engine, clock)
    with store.writing() as transaction:
        gate = gates.lock(transaction, "main")
        window = Window(WINDOW, WINDOW, clock.now)
        gates.write(transaction, "main", gate, replace(gate, window=window), None)
    return store


def taken(store: Store, engine: str, wanted: int = WINDOW, in_use: int = 0) -> int:
    with store.writing() as transaction:
        ask = Ask(wanted, in_use)
        return take(transaction, "main", MAIN, engine, ask, lasting=LASTING, lease=LEASE).slots


def in_all(store: Store) -> int:
    """Return how many slots are held at this moment."""
    with store.reading() as transaction:
        until = gate_share.c.until > transaction.now
        return sum(transaction.connection.scalars(select(gate_share.c.slots).where(until)))


def all_taken(store: Store, engine: str) -> int:
    """Ask until there is no more to be had."""
    return max(taken(store, engine) for _ in range(5))


def test_an_engine_alone_gets_all_of_them_by_asking_for_more(store: Store) -> None:
    assert [taken(store, "a") for _ in range(5)] == [4, 6, 7, 8, 8]


def test_there_is_one_for_whoever_wakes_up_beside_another(store: Store) -> None:
    assert [taken(store, each) for each in "abcd"] == [4, 2, 1, 1]


def test_a_second_engine_gets_its_share_once_the_first_renews(store: Store) -> None:
    assert all_taken(store, "a") == 8
    assert taken(store, "b") == 0, "none is given twice"
    assert taken(store, "a") == 4
    assert all_taken(store, "b") == 4
    assert in_all(store) == WINDOW


def test_slots_in_use_are_not_given_to_another(store: Store) -> None:
    all_taken(store, "a")
    taken(store, "b")
    assert taken(store, "a", in_use=6) == 4, "it begins no more than that"
    assert all_taken(store, "b") == 2
    assert in_all(store) == WINDOW


def test_engines_that_were_all_held_up_are_given_time_to_say_what_they_have_in_progress(
    store: Store, clock: Clock
) -> None:
    all_taken(store, "a")
    taken(store, "b")
    taken(store, "a", in_use=4)
    assert all_taken(store, "b") == 4
    clock.forward(timedelta(seconds=30))
    assert taken(store, "a", in_use=4) == 4, "the four of the other may still be in progress"
    assert in_all(store) == WINDOW
    clock.forward(timedelta(seconds=4))
    assert taken(store, "a", in_use=4) == 4
    clock.forward(timedelta(seconds=1))
    assert all_taken(store, "a") == WINDOW, "it is dead"


def test_slots_of_a_dead_engine_lapse_as_soon_although_the_clock_was_set_back(
    store: Store, clock: Clock
) -> None:
    all_taken(store, "dead")
    clock.forward(-timedelta(hours=3))
    assert taken(store, "b") == 0, "whoever holds them may be alive"
    clock.forward(LASTING - SECOND)
    assert taken(store, "b") == 0
    clock.forward(SECOND)
    assert all_taken(store, "b") == WINDOW


def test_slots_that_are_not_renewed_lapse(store: Store, clock: Clock) -> None:
    all_taken(store, "a")
    clock.forward(timedelta(seconds=5) - SECOND)
    assert taken(store, "b") == 0
    clock.forward(SECOND)
    assert all_taken(store, "b") == 8


def test_an_engine_with_nothing_to_send_holds_nothing(engine: Engine, store: Store) -> None:
    taken(store, "a")
    assert taken(store, "a", wanted=0) == 0
    assert rows(engine, gate_share) == []
    taken(store, "a")
    with store.writing() as transaction:
        give_back_all(transaction, "a")
    assert all_taken(store, "b") == 8


def test_the_shares_of_one_destination_are_not_those_of_another(store: Store) -> None:
    taken(store, "a")
    with store.writing() as transaction:
        north = MAIN.model_copy(update={"window": 1})
        other = take(transaction, "north", north, "b", Ask(8), lasting=LASTING, lease=LEASE).slots
    assert other == 1


def test_none_is_free_before_the_grant_and_past_its_time() -> None:
    now = [0.0]
    slots = Slots(lambda: now[0])
    assert slots.free == 0, "nothing is held yet"
    slots.grant(2, 5.0)
    assert slots.free == 2
    slots.use()
    assert (slots.free, slots.in_use) == (1, 1)
    now[0] = 5.0
    assert (slots.free, slots.held, slots.in_use) == (0, 0, 1), "its time is over, but the request goes on"
    slots.grant(0, 10.0)
    assert slots.free == 0, "less is held than is in use"
    slots.grant(2, 10.0)
    slots.free_one()
    assert (slots.free, slots.in_use) == (2, 0)


def test_only_so_many_requests_begin_as_may_and_none_while_more_are_asked_for() -> None:
    slots = Slots(lambda: 0.0)
    slots.grant(8, 1.0, to_begin=2)
    slots.use()
    assert slots.free == 1
    slots.use()
    slots.free_one()
    assert slots.free == 0, "a slot that comes free is not enough"
    slots.grant(8, 1.0, to_begin=3)
    assert slots.take_back() == 3
    assert slots.free == 0, "they were handed back"
    slots.grant(8, 1.0)
    assert slots.free == 7
    assert slots.take_back() == 0, "where there is no limit nothing is left of one"
    assert slots.free == 7


def test_a_message_that_comes_after_a_pause_does_not_wait_for_a_slot(store: Store) -> None:
    now = [0.0]

    async def at_once(work: Callable[[], dict[str, Granted]]) -> dict[str, Granted]:
        return work()

    async def story() -> None:
        slots_of = Holding(store, destinations(), LEASE, at_once, lambda: now[0])
        await slots_of.renew({"main": 8})
        assert slots_of.slots["main"].held
        now[0] = 0.3
        await slots_of.renew({"main": 0})
        assert slots_of.slots["main"].held == 0, "it was given back"
        now[0] = 0.31
        assert slots_of.seconds_left({"main": 8}) <= 0
        await slots_of.renew({"main": 8})
        assert slots_of.slots["main"].held

    asyncio.run(story())


def test_an_engine_keeps_a_slot_for_the_next_message_for_a_while(store: Store) -> None:
    now = [0.0]

    async def at_once(work: Callable[[], dict[str, Granted]]) -> dict[str, Granted]:
        return work()

    async def story() -> None:
        slots_of = Holding(store, destinations(), LEASE, at_once, lambda: now[0])
        held = []
        await slots_of.renew({"main": 8})
        slots_of.begins("main")
        for seconds in (0.3, 1.5, 2.6, KEPT_SECONDS + 0.1, KEPT_SECONDS + 1.2):
            now[0] = seconds
            await slots_of.renew({"main": 0})
            held.append(slots_of.slots["main"].held)
        assert held == [1, 1, 1, 0, 0]

    asyncio.run(story())


@pytest.mark.parametrize(("ramp_to", "seconds"), [(64, 0.05), (WINDOW, 0.25)])
def test_a_window_that_doubles_is_asked_for_as_soon_as_all_of_it_was_answered(
    engine: Engine, store: Store, clock: Clock, ramp_to: int, seconds: float
) -> None:
    now = [0.0]
    put(engine)
    good = outcome(claim_one(store), DELIVERED, Reply(200, (), b"<ok/>"))

    async def at_once(work: Callable[[], dict[str, Granted]]) -> dict[str, Granted]:
        return work()

    with store.writing() as transaction:
        gate = gates.lock(transaction, "main")
        window = Window(WINDOW, ramp_to, clock.now)
        gates.write(transaction, "main", gate, replace(gate, window=window), None)

    async def story() -> None:
        limited = {"main": MAIN.model_copy(update={"window": 64})}
        slots_of = Holding(store, limited, LEASE, at_once, lambda: now[0])
        await slots_of.renew({"main": 64})
        for _ in range(slots_of.slots["main"].held):
            assert slots_of.seconds_left({"main": 64}) == pytest.approx(0.25)
            slots_of.answered(good)
        assert slots_of.seconds_left({"main": 64}) == pytest.approx(seconds)

    asyncio.run(story())


def test_a_slot_is_kept_only_where_there_are_plenty(store: Store) -> None:
    keeps = Ask(wanted=0, keeps=True)
    for others, kept in ((WINDOW - 1, 1), (WINDOW, 0)):
        with store.writing() as transaction:
            for engine, ask in (("a", Ask(others)), ("b", keeps), ("a", Ask(0))):
                slots = take(transaction, "main", MAIN, engine, ask, lasting=LASTING, lease=LEASE).slots
                if engine == "b":
                    assert slots == kept


def test_tokens_that_were_not_used_are_handed_back_with_the_next_question(store: Store) -> None:
    now = [0.0]
    rate = Rate(requests=6, per=timedelta(hours=1), burst=6)
    limited = {"main": MAIN.model_copy(update={"rate": rate})}

    async def at_once(work: Callable[[], dict[str, Granted]]) -> dict[str, Granted]:
        return work()

    async def story() -> None:
        slots_of = Holding(store, limited, LEASE, at_once, lambda: now[0])
        for _ in range(3):
            await slots_of.renew({"main": 8})
            assert slots_of.slots["main"].to_begin == 6
            now[0] += 0.3

    asyncio.run(story())


def test_a_probe_that_is_begun_is_not_begun_again_before_it_is_given_up(store: Store, clock: Clock) -> None:
    now = [0.0]
    with store.writing() as transaction:
        gate = gates.lock(transaction, "main")
        due = replace(gate.breaker, state=BreakerState.OPEN, probe_at=clock.now)
        gates.write(transaction, "main", gate, replace(gate, breaker=due), None)

    async def at_once(work: Callable[[], dict[str, Granted]]) -> dict[str, Granted]:
        return work()

    async def story() -> None:
        slots_of = Holding(store, {"main": MAIN}, LEASE, at_once, lambda: now[0])

        async def to_begin() -> int | None:
            now[0] += 0.3
            await slots_of.renew({"main": 8})
            return slots_of.slots["main"].to_begin

        assert await to_begin() == 1
        assert await to_begin() == 1, "it has not been begun"
        assert slots_of.begins("main")
        assert await to_begin() == 0
        clock.forward(LEASE)
        assert [await to_begin(), await to_begin()] == [1, 1], "another may be begun now"

    asyncio.run(story())


def test_while_a_database_is_away_slots_are_asked_for_four_times_a_second(store: Store) -> None:
    now, asked = [0.0], []

    async def away(_work: object) -> dict[str, Granted]:
        asked.append(now[0])
        raise OSError("away")

    async def story() -> None:
        slots_of = Holding(store, destinations(), LEASE, away, lambda: now[0])
        for _ in range(100):
            with suppress(OSError):
                await slots_of.renew({"main": 8})
            assert 0 < slots_of.seconds_left({"main": 8}) <= 0.25
            now[0] += 0.0125

    asyncio.run(story())
    assert len(asked) == 5


# With real workers.


@on_postgresql
def test_an_engine_that_is_frozen_while_it_takes_slots_keeps_the_others_waiting_for_seconds_only(
    engine: Engine, store: Store
) -> None:
    begun = time.monotonic()
    with pytest.raises(DBAPIError, match="idle-in-transaction"), store.writing() as transaction:  # noqa: PT012
        take(transaction, "main", MAIN, "frozen", Ask(8), lasting=LASTING, lease=LEASE)
        assert taken(Store(another_connection(engine)), "b") > 0
    assert IDLE_SECONDS - 0.5 < time.monotonic() - begun < LOCK_SECONDS


@on_postgresql
def test_four_workers_together_keep_the_window(place: Place) -> None:
    options = Options(faults=["slow:1.0:delay=0.1"])
    with rig(place, options, window=WINDOW, attempt_deadline="6s", lease=30) as made, ExitStack() as stack:
        made.orders(200)
        for _ in range(4):
            stack.enter_context(made.worker())
        eventually(lambda: made.states() == {"delivered"}, 60)
        summary = made.simulator.ledger.summary()
        assert WINDOW // 2 < summary["most_in_progress"] <= WINDOW
        assert summary["requests"] == 200
        with made.engine.connect() as connection:
            holders = connection.execute(select(gate_share)).all()
        assert sum(each.slots for each in holders) <= WINDOW


@on_postgresql
def test_the_slots_of_a_killed_worker_come_back_within_seconds(place: Place) -> None:
    options = Options(faults=["slow:1.0:delay=0.05"])
    with rig(place, options, window=2, attempt_deadline="6s", lease=30) as made:
        made.orders(100)
        with made.worker() as first:
            eventually(lambda: rows(made.engine, gate_share))
            eventually(lambda: made.simulator.ledger.summary()["requests"])
            first.signal(signal.SIGKILL)
        (lost,) = rows(made.engine, gate_share)
        assert lost["slots"] >= 1
        before = made.simulator.ledger.summary()["requests"]
        with made.worker():
            eventually(
                lambda: made.simulator.ledger.summary()["requests"] > before,  # type: ignore[operator]
                LASTING.total_seconds() + 5,
            )
        assert made.simulator.ledger.summary()["most_in_progress"] <= 2  # type: ignore[operator]


@on_sqlite
@pytest.mark.parametrize("stopping", [False, True])
def test_slots_are_kept_for_as_long_as_requests_last(
    place: Place, monkeypatch: pytest.MonkeyPatch, stopping: bool
) -> None:
    """Given a request that takes longer than slots last without being renewed."""
    monkeypatch.setattr(holding, "LASTING", timedelta(seconds=1.8))
    options = Options(faults=["slow:1.0:delay=2.5"])
    with rig(place, options, window=1, attempt_deadline="6s", lease=30, drain="10s") as made:
        made.order("SO-1")
        with engine_of(made) as thread:
            eventually(lambda: made.simulator.ledger.requests)
            stop = Thread(target=thread.stop, args=(20,))
            if stopping:
                stop.start()
            store = Store(made.engine)
            lapsed: list[datetime] = []

            def is_answered() -> bool:
                if not made.simulator.ledger.summary()["in_progress"]:
                    return True
                with store.reading() as transaction:
                    untils = transaction.connection.scalars(select(gate_share.c.until)).all()
                    lapsed.extend(until for until in untils or [transaction.now] if until <= transaction.now)
                return False

            eventually(is_answered)
            if stopping:
                stop.join()
        assert lapsed == []
        assert made.states() == {"delivered"}


def test_an_engine_that_stops_gives_its_slots_back(place: Place) -> None:
    with rig(place) as made:
        made.order("SO-1")
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        assert rows(made.engine, gate_share) == []
