"""What only PostgreSQL can do to us: sessions that change, strict isolation, rows locked by others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, pool, text

from orderflow_outbox import Resolution
from orderflow_outbox.tables import dead_letter, incident
from tests import pgbouncer
from tests.databases import Databases, on_postgresql
from tests.rig import Place, engine_of, eventually, rig
from tests.steps import (
    ALERT_TIMES,
    DELIVERED,
    LATER,
    REFUSED,
    bury,
    claim_all,
    claim_one,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    set_row,
    swept,
)
from worker.by_hand import discard, hold, resume
from worker.replays.replaying import replay
from worker.store import gates
from worker.store.causes import note_incident
from worker.store.transactions import (
    IDLE_SECONDS,
    LOCK_SECONDS,
    STATEMENT_SECONDS,
    Store,
    Transaction,
    database_clock,
)
from worker.sweep import Swept

pytestmark = on_postgresql

BOUNDS = {
    "lock_timeout": LOCK_SECONDS,
    "statement_timeout": STATEMENT_SECONDS,
    "idle_in_transaction_session_timeout": IDLE_SECONDS,
}


def impatient(connection: Connection) -> datetime:
    """A clock for the store that also has it wait for a lock a moment only."""
    now = database_clock(connection)
    connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
    return now


def waits_for_a_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(connection.execute(text(statement)).scalar_one())


# A pooler gives each transaction another session.


def test_nothing_is_left_in_a_session(engine: Engine, store: Store) -> None:
    def shown(connection: Connection) -> dict[str, str]:
        return {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in BOUNDS}

    with engine.connect() as connection:
        before = shown(connection)
    with store.writing() as transaction:
        inside = shown(transaction.connection)
        session = transaction.connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    assert inside == {name: f"{seconds}s" for name, seconds in BOUNDS.items()}
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == session
        assert shown(connection) == before
        assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0


@contextmanager
def two_sessions(engine: Engine) -> Iterator[set[int]]:
    """Give every transaction of `engine` the other of two sessions, wiped clean; yield those used."""
    queue = pool.QueuePool(engine.pool._creator, pool_size=2, max_overflow=0, use_lifo=False)
    both = [queue.connect() for _ in range(2)]
    for each in both:
        each.close()
    used: set[int] = set()

    def wiped(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
        used.add(dbapi_connection.info.backend_pid)
        dbapi_connection.autocommit = True
        dbapi_connection.execute("DISCARD ALL")
        dbapi_connection.autocommit = False

    event.listen(queue, "checkout", wiped)
    before, engine.pool = engine.pool, queue
    yield used
    engine.pool = before
    queue.dispose()


def test_every_transaction_may_get_another_session(engine: Engine, store: Store) -> None:
    with two_sessions(engine) as used:
        dead = bury(store, engine)
        replayed = replay(store, dead, "ann", "mended").replay
        finish(store, DELIVERED)
        for n in range(10):
            put(engine, key=f"order:{n % 2}")
        for _ in range(5):
            claims = claim_all(store).claims
            assert recorder(store).record([outcome(each, DELIVERED) for each in claims])
            swept(store)
        hold(store, "main", "ann", "their night")
        resume(store, "main", "ann", "morning")
    assert len(used) == 2
    assert row(engine, replayed)["state"] == "delivered"
    assert Counter(each["state"] for each in rows(engine, incident.metadata.tables["outbox_message"])) == {
        "dead": 1,
        "delivered": 11,
    }


@pytest.mark.skipif(
    pgbouncer.program() is None, reason="PgBouncer is not installed: install it to have this run"
)
def test_a_worker_delivers_through_pgbouncer_in_transaction_mode(place: Place, databases: Databases) -> None:
    with pgbouncer.pooler(databases.server) as folder:
        address = place.database_url.partition("?")[0]
        pooled = Place(place.folder, f"{address}?host={folder}&port={pgbouncer.PORT}")
        with rig(pooled) as made:
            made.simulator.set_faults(["500:times=5"])
            made.orders(60)
            with made.worker(children=2) as worker:
                eventually(lambda: made.states() == {"delivered"})
                assert worker.terminate() == 0
                assert not worker.said("does not answer")
                assert not worker.said("Traceback")


# A database may be set up more strictly than we need it.


@pytest.mark.parametrize("count", [20, pytest.param(60, marks=pytest.mark.soak)])
def test_a_database_that_isolates_more_strictly_by_default_shows_nobody_a_serialisation_failure(
    place: Place, databases: Databases, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    name = place.database_url.partition("@/")[2].partition("?")[0]
    setting = "default_transaction_isolation"
    databases.server.execute(f"ALTER DATABASE {name} SET {setting} = 'serializable'")
    try:
        with rig(place, retry_after=["50ms"]) as made:
            made.simulator.set_faults(["500:times=5"])
            made.orders(count)
            with engine_of(made), engine_of(made):
                eventually(lambda: made.states() == {"delivered"})
    finally:
        databases.server.execute(f"ALTER DATABASE {name} RESET {setting}")
    assert "serialize" not in caplog.text
    assert "does not answer" not in caplog.text


@pytest.mark.parametrize(("setting", "value"), [("TimeZone", "Asia/Tokyo"), ("DateStyle", "German")])
def test_a_database_that_writes_moments_in_its_own_way_delivers_all_the_same(
    place: Place, databases: Databases, caplog: pytest.LogCaptureFixture, setting: str, value: str
) -> None:
    name = place.database_url.partition("@/")[2].partition("?")[0]
    with rig(place) as made:
        for stored in made.orders(5):
            set_row(made.engine, stored.id, expires_at=datetime.max.replace(tzinfo=UTC))
        databases.server.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
        try:
            with engine_of(made):
                eventually(lambda: made.states() == {"delivered"})
        finally:
            databases.server.execute(f"ALTER DATABASE {name} RESET {setting}")
    assert "does not answer" not in caplog.text


# Others hold what we want.


def test_results_wait_while_someone_has_their_message_locked(engine: Engine) -> None:
    store = Store(engine, impatient)
    message_id = put(engine)
    claimed = claim_one(store)
    recording = recorder(store)
    with engine.begin() as person:
        person.execute(text("SELECT * FROM outbox_message FOR UPDATE"))
        assert not recording.record([outcome(claimed, DELIVERED)])
        assert recording.is_stuck
    assert recording.record([outcome(claimed, DELIVERED)])
    assert row(engine, message_id)["state"] == "delivered"


def test_a_claim_passes_over_what_someone_has_locked(engine: Engine) -> None:
    store = Store(engine, impatient)
    locked, free = put(engine), put(engine)
    with engine.begin() as person:
        person.execute(text(f"SELECT * FROM outbox_message WHERE id = {locked} FOR UPDATE"))
        assert [each.id for each in claim_all(store).claims] == [free]
    assert [each.id for each in claim_all(store).claims] == [locked]


def test_a_sweep_passes_over_what_someone_has_locked(engine: Engine) -> None:
    store = Store(engine, impatient)
    left_behind, forgotten, expired = (put(engine, key=f"order:{n}") for n in range(3))
    long_ago = datetime.now(UTC) - timedelta(days=30)
    set_row(engine, left_behind, state="sending", lease_until=long_ago)
    set_row(engine, forgotten, due_at=None)
    set_row(engine, expired, created_at=long_ago)
    with engine.begin() as person:
        person.execute(text("SELECT * FROM outbox_message FOR UPDATE"))
        assert swept(store) == Swept(rescued=0, unparked=0, aging=0, expired=0)
    assert swept(store) == Swept(rescued=1, unparked=1, aging=0, expired=1)


def test_results_wait_while_the_server_only_reads(engine: Engine, store: Store) -> None:
    message_id = put(engine)
    claimed = claim_one(store)

    def only_reads(connection: Connection) -> datetime:
        connection.execute(text("SET LOCAL transaction_read_only = on"))
        return database_clock(connection)

    assert not recorder(Store(engine, only_reads)).record([outcome(claimed, DELIVERED)])
    assert row(engine, message_id)["state"] == "sending"
    assert recorder(store).record([outcome(claimed, DELIVERED)])


# Two at once.


def test_two_that_open_the_same_incident_at_once_are_both_counted(engine: Engine, store: Store) -> None:
    def note(transaction: Transaction) -> int:
        return note_incident(
            transaction,
            cause="dead-letters",
            destination="main",
            operation="order-import",
            reason="http_400",
            text="bad",
            message_id=None,
            alert_times=ALERT_TIMES,
        )

    def second() -> int:
        with store.writing() as transaction:
            return note(transaction)

    with ThreadPoolExecutor(1) as other:
        with store.writing() as transaction:
            first = note(transaction)
            waiting = other.submit(second)
            eventually(lambda: waits_for_a_lock(engine))
        assert waiting.result(10) == first
    (only,) = rows(engine, incident)
    assert only["occurrences"] == 2


def test_two_that_write_the_same_gate_at_once_both_succeed(engine: Engine, store: Store) -> None:
    def second() -> None:
        hold(store, "main", "ann", "their night")

    with ThreadPoolExecutor(1) as other:
        with store.writing() as transaction:
            before = gates.lock(transaction, "main")
            gates.write(transaction, "main", before, replace(before, refusals=2), None)
            waiting = other.submit(second)
            eventually(lambda: waits_for_a_lock(engine))
        waiting.result(10)
    with store.reading() as transaction:
        found = gates.read(transaction, ["main"])["main"]
    assert (found.is_held, found.refusals) == (True, 2)


def test_an_incident_is_not_closed_over_a_letter_that_comes_at_that_moment(
    engine: Engine, store: Store
) -> None:
    last = bury(store, engine)
    another = put(engine)
    claimed = claim_one(store)
    recording = recorder(store)
    with ThreadPoolExecutor(1) as other, engine.connect() as connection:
        transaction = Transaction(connection, database_clock(connection))
        recording._store = _Lent(transaction)  # type: ignore[assignment]
        assert recording.record([outcome(claimed, REFUSED)])
        waiting = other.submit(discard, store, last, "ann", "a test")
        eventually(lambda: waits_for_a_lock(engine))
        connection.commit()
        waiting.result(10)
    (letter,) = rows(engine, dead_letter, resolution=Resolution.OPEN.value)
    assert letter["message_id"] == another
    (only,) = rows(engine, incident)
    assert only["resolved_at"] is None


class _Lent:
    """A store whose one transaction the test commits itself."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        yield self._transaction


@pytest.mark.parametrize("seconds", [2.5, pytest.param(15.0, marks=pytest.mark.soak)])
def test_many_at_once_never_deadlock(engine: Engine, store: Store, seconds: float) -> None:
    for n in range(300):
        put(engine, key=f"order:{n % 20}")
    stop = threading.Event()
    errors: list[BaseException] = []

    def again_and_again(act: Callable[[], object]) -> None:
        while not stop.is_set():
            try:
                act()
            except Exception as error:
                errors.append(error)
                stop.set()

    def deliver() -> None:
        claims = claim_all(store, 20).claims
        verdicts = (DELIVERED, REFUSED, LATER)
        results = [outcome(each, verdicts[each.id % 3]) for each in claims]
        if not recorder(store).record(results):
            raise AssertionError("results could not be written")

    def resolve() -> None:
        for letter in rows(engine, dead_letter, resolution="open")[:5]:
            (replay if letter["message_id"] % 2 else discard)(store, letter["message_id"], "ann", "mended")

    def enqueue() -> None:
        put(engine, key="order:1")

    acts = [deliver, deliver, deliver, lambda: swept(store), resolve, enqueue]
    engine.pool = create_engine(engine.url, pool_size=10).pool
    threads = [threading.Thread(target=again_and_again, args=(act,)) for act in acts]
    for each in threads:
        each.start()
    stop.wait(seconds)
    stop.set()
    for each in threads:
        each.join(20)
    assert not errors, errors
    with engine.connect() as connection:
        statement = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert connection.execute(statement).scalar_one() == 0
