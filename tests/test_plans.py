"""Plans do not rot: with a long history every statement still finds its few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from config import RetentionSettings
from tests.databases import Databases
from tests.plans import Planned, planned
from tests.steps import ALERT_TIMES, DELIVERED, LATER, LEASE, REFUSED, outcome, recorder, swept
from worker.by_hand import cancel, discard
from worker.database import connect
from worker.looking import Looker
from worker.purge import Purger
from worker.replays.replaying import replay
from worker.store import finding, incidents, standing, surveying, watching
from worker.store.claiming import claim
from worker.store.transactions import Store

FINISHED = [150_000, pytest.param(1_000_000, marks=pytest.mark.soak)]
PENDING = 50_000
GROUP = 100
DEEPER_BLOCKS = 4 * GROUP
"""What deeper indexes may cost a statement: a block or two more at each descent."""

_COLUMNS = """
    INSERT INTO outbox_message (id, destination, operation, channel, key, position, blocks, idempotency_key,
        fingerprint, state, due_at, attempts, tries, rescues, lease_token, in_doubt, created_at, finished_at)
    OVERRIDING SYSTEM VALUE
"""
_HISTORY = (
    f"""{_COLUMNS}
    SELECT n, 'main', 'order-import', 'SHOP', 'order:' || n % 300000, n, false, 'key-' || n, '\\x00',
           CASE WHEN n % 100 = 0 THEN 'dead' WHEN n % 1000 = 1 THEN 'cancelled' ELSE 'delivered' END,
           NULL, 1, 0, 0, 1, false, now() - interval '1 day', now() - interval '1 day'
      FROM generate_series(1, :finished) n""",
    """INSERT INTO outbox_incident (cause, destination, operation, reason, text, opened_at, updated_at,
           oldest_at, occurrences, alerted_occurrences, alert_tries, alerts_sent, lease_token, resolved_at)
       SELECT 'dead-letters', 'main', 'order-import', 'http_' || n, 'bad', now(), now(), now(),
              1, 1, 0, 1, 1, now()
         FROM generate_series(1, :finished / 100) n""",
    """INSERT INTO outbox_dead_letter (message_id, incident_id, reason, text, in_doubt, died_at, resolution)
       SELECT m.id, (SELECT max(id) FROM outbox_incident), 'http_400', 'bad', false, now(), 'discarded'
         FROM outbox_message m WHERE state = 'dead'""",
    """INSERT INTO outbox_audit (at, by, verb, why, message_id)
       SELECT now(), 'ann', 'discard', 'a test', id FROM outbox_message WHERE state = 'dead'""",
    """INSERT INTO outbox_attempt (message_id, n, finished_at, verdict, in_doubt)
       SELECT id, 1, now() - interval '1 day', 'delivered', false FROM outbox_message WHERE id % 5 = 0""",
)
_WAITING = (
    f"""{_COLUMNS}
    SELECT n, 'main', 'order-import', 'SHOP', CASE WHEN n % 2 = 0 THEN 'order:' || n % 300000 END, n,
           n % 2 = 0, 'key-' || n, '\\x00', 'pending', now() - interval '1 minute', 0, 0, 0, 0, false,
           now(), NULL
      FROM generate_series(:finished + 1, :finished + :pending) n""",
    """INSERT INTO outbox_body (message_id, payload, query, headers)
       SELECT id, '\\x3c612f3e', '{}', '{}' FROM outbox_message WHERE state = 'pending'""",
    "SELECT setval(pg_get_serial_sequence('outbox_message', 'id'), :finished + :pending)",
)


@dataclass(frozen=True)
class Stocked:
    """A database with a history and a backlog."""

    engine: Engine
    store: Store

    def run(self, *statements: str, **values: int) -> None:
        with self.engine.begin() as connection:
            for each in statements:
                connection.execute(text(each), values)

    def vacuum(self) -> None:
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with autocommit.connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))


def stocked(databases: Databases, finished: int) -> Stocked:
    """Return a database with `finished` messages, looked at by ANALYZE, and a backlog that it never saw."""
    engine = connect(SecretStr(databases.server.url(databases.take())))
    made = Stocked(engine, Store(engine))
    made.run(*_HISTORY, finished=finished)
    made.run("ANALYZE")
    made.run(*_WAITING, finished=finished, pending=PENDING)
    return made


@pytest.fixture(scope="module", params=FINISHED)
def old(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Stocked]:
    made = stocked(databases, request.param)
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def young(databases: Databases) -> Iterator[Stocked]:
    made = stocked(databases, finished=0)
    yield made
    made.engine.dispose()


def claimed(made: Stocked, room: int = GROUP) -> list[Any]:
    with made.store.writing() as transaction:
        return claim(transaction, "main", room, LEASE).claims


def a_days_work(made: Stocked) -> dict[str, list[Planned]]:
    """Do once everything the service and a person do all day, and return the plans of each."""
    store, engine, seen = made.store, made.engine, {}

    def watch(name: str, act: Callable[[], Any]) -> Any:
        result: list[Any] = []
        seen[name] = planned(engine, lambda: result.append(act()))
        return result[0]

    looker = Looker(store, LEASE)
    claims = watch("look", lambda: looker.look({"main": GROUP})).claims
    assert len(claims) == GROUP
    verdicts = [DELIVERED, DELIVERED, LATER, REFUSED]
    results = [outcome(each, verdicts[n % 4]) for n, each in enumerate(claims)]
    assert watch("record", lambda: recorder(store).record(results))
    watch("sweep", lambda: swept(store))
    dead = [each.id for n, each in enumerate(claims) if n % 4 == 3]
    watch("replay", lambda: replay(store, dead[0], "ann", "mended"))
    watch("discard", lambda: discard(store, dead[1], "ann", "a test"))
    pending = claims[2].id
    watch("cancel", lambda: cancel(store, pending, "ann", "unwanted"))
    watch("show", lambda: read(made, lambda transaction: finding.life_of(transaction, pending)))
    watch("dead list", lambda: read(made, lambda t: finding.dead_letters(t, finding.Filter(), 20)))
    watch("dead by cause", lambda: read(made, lambda t: surveying.groups(t, finding.Filter())))
    watch("status", lambda: read(made, standing.standing))
    watch("latest", lambda: read(made, lambda t: standing.latest_attempts(t, GROUP)))
    watch("alert due", lambda: read(made, incidents.has_due_alert))
    watch("alert", lambda: alert(made))
    watch("watch", lambda: read(made, watching.look))
    watch("purge", lambda: purged(made))
    return seen


def read(made: Stocked, look: Callable[[Any], Any]) -> Any:
    with made.store.reading() as transaction:
        return look(transaction)


def purged(made: Stocked) -> None:
    """Purge a batch: of the history where there is one, and otherwise look for what there is none of."""
    keep = RetentionSettings.model_construct(delivered=timedelta(0), cancelled=timedelta(0))
    Purger(made.store, keep).purge_some()


def alert(made: Stocked) -> None:
    made.run("UPDATE outbox_incident SET alert_due_at = now() WHERE alert_due_at IS NOT NULL")
    with made.store.writing() as transaction:
        due = incidents.lease_due_alert(transaction, LEASE)
        assert due is not None
        incidents.record_alert_sent(transaction, due, due.occurrences, ALERT_TIMES)


@pytest.fixture(scope="module", params=["stale", "fresh"])
def day(request: pytest.FixtureRequest, old: Stocked) -> dict[str, list[Planned]]:
    """A day's work, before the statistics know of the backlog and after."""
    if request.param == "fresh":
        old.vacuum()
    return a_days_work(old)


GROWING = {
    "outbox_message",
    "outbox_body",
    "outbox_attempt",
    "outbox_dead_letter",
    "outbox_incident",
    "outbox_audit",
}


def test_no_statement_reads_a_whole_table_whatever_the_statistics_say(day: dict[str, list[Planned]]) -> None:
    bad = [
        f"{name}, {kind}: {table}: {each.statement}"
        for name, statements in day.items()
        for each in statements
        for kind, plan in (("for these values", each.custom), ("for any values", each.generic))
        for table in sorted(GROWING)
        if "everything" in each.scans(plan, table)
    ]
    assert not bad, "\n".join(bad)


def test_no_statement_reads_more_because_of_the_history(old: Stocked, young: Stocked) -> None:
    with_history, without = a_days_work(old), a_days_work(young)
    for name, statements in without.items():
        before = sum(each.blocks for each in statements)
        after = sum(each.blocks for each in with_history[name])
        assert after <= before * 1.5 + DEEPER_BLOCKS, f"{name}: {before} blocks, with a history {after}"


def of(statements: list[Planned], *words: str) -> Planned:
    """Return the one statement that has all these words."""
    (found,) = (each for each in statements if all(word in each.statement for word in words))
    return found


def test_claims_records_sweeps_and_keys_use_the_indexes_made_for_them(day: dict[str, list[Planned]]) -> None:
    by_number = {"outbox_message_pkey"}
    expected = [
        (of(day["look"], "SKIP LOCKED"), by_number | {"outbox_message_due", "outbox_message_order"}),
        (of(day["look"], "SELECT outbox_message.due_at"), {"outbox_message_due"}),
        (of(day["record"], "FOR UPDATE", "lease_token"), {"outbox_message_pkey", "outbox_message_sending"}),
        (of(day["record"], "UPDATE", "settled"), by_number),
        (of(day["record"], "UPDATE", "unblocked"), {"outbox_message_order", "outbox_message_pkey"}),
        (of(day["sweep"], "lease_until <", "LIMIT"), {"outbox_message_sending"}),
    ]
    for statement, indexes in expected:
        for plan in (statement.custom, statement.generic):
            assert statement.scans(plan, "outbox_message") <= indexes, statement.statement


@pytest.mark.usefixtures("day")
def test_the_latest_attempts_are_found_without_the_history(old: Stocked) -> None:
    look = of(planned(old.engine, lambda: read(old, standing.latest_attempts)), "outbox_attempt")
    for plan in (look.custom, look.generic):
        assert look.scans(plan, "outbox_attempt") == {"outbox_attempt_finished"}
        assert look.scans(plan, "outbox_message") == {"outbox_message_pkey"}


def test_an_index_on_leases_would_not_ruin_the_record(old: Stocked) -> None:
    old.run("CREATE INDEX outbox_message_lease ON outbox_message (lease_until) WHERE state = 'sending'")
    try:
        claims = claimed(old)
        results = [outcome(each, DELIVERED) for each in claims]
        record = planned(old.engine, lambda: recorder(old.store).record(results))
    finally:
        old.run("DROP INDEX outbox_message_lease")
    for each in record:
        for plan in (each.custom, each.generic):
            assert "outbox_message_lease" not in each.scans(plan, "outbox_message"), each.statement


def test_an_old_snapshot_does_not_put_the_past_in_front_of_the_claim(young: Stocked) -> None:
    passed = PENDING // 2
    spared = passed // 30  # blocks: each holds so many of them, or a few more
    with young.engine.connect().execution_options(isolation_level="REPEATABLE READ") as report:
        report.execute(text("SELECT count(*) FROM outbox_message"))
        young.run(
            """UPDATE outbox_message SET state = 'delivered', due_at = NULL, blocks = false
                WHERE id IN (SELECT id FROM outbox_message WHERE state = 'pending' ORDER BY due_at, id
                              LIMIT :passed)""",
            """UPDATE outbox_message SET due_at = now() WHERE state = 'pending' AND due_at IS NOT NULL""",
            passed=passed,
        )
        looker = Looker(young.store, LEASE)
        from_the_start = planned(young.engine, lambda: looker.look({"main": GROUP}))
        after = planned(young.engine, lambda: looker.look({"main": GROUP}))
        for words in ("SKIP LOCKED", "SELECT outbox_message.due_at"):
            burdened = of(from_the_start, words).blocks
            assert burdened > spared, "else the snapshot is no burden here"
            assert of(after, words).blocks < burdened - spared
