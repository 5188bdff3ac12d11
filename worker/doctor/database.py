"""Checks of the database: that it answers, keeps what it confirms, and is swept and cleaned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

from config import ConfigError, Settings, in_words
from orderflow_outbox.errors import UnsupportedSchema
from orderflow_outbox.schema import check_version, version_of
from worker.database import DatabaseTrouble, connect, trouble_in_one_line
from worker.durability import RISKS, risks_of
from worker.store import health, text_index
from worker.store.durability import give_up_connecting_after, settings_in_force
from worker.store.indexing import lag
from worker.store.transactions import Store, Transaction
from worker.sweep import LONGEST_SWEEP_PAUSE_SECONDS
from worker.watching import pause_between_looks

from .finding import CannotTell, Check, Finding, State

CONNECT_SECONDS = 2
LARGEST_SKEW = timedelta(seconds=2)
SIGNS_MISSED = 3
"""An engine that has missed so many signs of life counts no more."""
DEAD_SHARE = 0.1
DEAD_ROWS = 10_000
"""Fewer dead rows than this slow nothing down, whatever their share."""
LONGEST_TRANSACTION = timedelta(minutes=10)
LARGEST_LAG = timedelta(minutes=15)
ENCODING = "server_encoding"
ON_SQLITE = "not applicable on SQLite"
_SYNCHRONOUS_FULL = 2

Clock = Callable[[], datetime]


def here() -> datetime:
    """Return the moment by this machine's clock."""
    return datetime.now(UTC)


class DatabaseChecks:
    """The configured database, of which each check asks one thing over the same connection.

    Once it has not answered it is asked no more: every further wait would be as long and as vain.

    Args:
        settings: say where it is.
        store: the database, already open; by default it is opened by the first check.
        clock: this machine's.
    """

    def __init__(self, settings: Settings, store: Store | None = None, clock: Clock = here) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._is_away = False

    def checks(self) -> list[Check]:
        """Return the checks, the one that must be first at the front."""
        return [
            Check("database", self.answers),
            Check("durability", self.is_durable),
            Check("encoding", self.takes_every_character),
            Check("clock", self.has_our_time),
            Check("leases", self.is_swept),
            Check("engines", self.hears_of_engines),
            Check("dead rows", self.is_cleaned),
            Check("oldest transaction", self.has_no_old_transaction),
            Check("search", self.is_searched_by_text),
        ]

    def close(self) -> None:
        """Close its connections."""
        if self._store is not None:
            self._store.close()

    def answers(self, name: str) -> Finding:
        """Check that the database answers and has tables that this release works with."""
        try:
            with self._asked() as transaction:
                found = version_of(transaction.connection)
            check_version(found)
        except (ConfigError, DatabaseTrouble) as error:
            return Finding(
                name, State.TROUBLE, str(error), "mend this first: all the rest needs the database"
            )
        except UnsupportedSchema as error:
            fix = "run `python -m worker db upgrade` of the release that is to work with it"
            return Finding(name, State.TROUBLE, str(error), fix)
        return Finding(name, State.WELL, f"it answers, and its tables are of version {found}")

    def is_durable(self, name: str) -> Finding:
        """Check that the database keeps what it confirms."""
        with self._asked() as transaction:
            if self._settings.database_is_sqlite:
                return _sqlite_durability(name, *health.write_ahead_settings(transaction))
            risks = risks_of(settings_in_force(transaction, RISKS))
        if risks:
            told = "; ".join(f"{setting} = off: {risk.breaks}" for setting, risk in risks.items())
            return Finding(name, State.TROUBLE, told, "; ".join(risk.fix for risk in risks.values()))
        return Finding(name, State.WELL, f"{', '.join(RISKS)} are not off")

    def takes_every_character(self, name: str) -> Finding:
        """Check that the database can hold whatever a document, or the reply to it, is written in."""
        if self._settings.database_is_sqlite:
            return Finding(name, State.WELL, ON_SQLITE)
        with self._asked() as transaction:
            encoding = settings_in_force(transaction, [ENCODING])[ENCODING]
        if encoding != "UTF8":
            fix = "move the tables to a database made WITH ENCODING 'UTF8' TEMPLATE template0"
            return Finding(
                name, State.TROUBLE, f"{encoding}: a character beyond it is refused when it comes", fix
            )
        return Finding(name, State.WELL, encoding)

    def has_our_time(self, name: str) -> Finding:
        """Check that the clocks of this machine and of the database agree."""
        with self._asked() as transaction:
            before = self._clock()
            there = health.clock(transaction)
            after = self._clock()
        if before - LARGEST_SKEW <= there <= after + LARGEST_SKEW:
            return Finding(name, State.WELL, f"within {in_words(LARGEST_SKEW)} of the database's")
        skew = there - after if there > after else before - there
        which = "behind" if there > after else "ahead of"
        told = f"this machine's is {in_words(_rounded(skew))} {which} the database's"
        return Finding(name, State.TROUBLE, told, "have NTP (chrony, systemd-timesyncd) set both")

    def is_swept(self, name: str) -> Finding:
        """Check that leases which ran out are taken back."""
        grace = 2 * self._settings.engine.sweep + timedelta(seconds=LONGEST_SWEEP_PAUSE_SECONDS)
        with self._asked() as transaction:
            overdue = health.overdue_leases(transaction, grace)
            now = transaction.now
        if overdue.oldest is None:
            return Finding(
                name, State.WELL, f"none ran out more than {in_words(grace)} ago and is still held"
            )
        told = f"{overdue.number} ran out, the first {_ago(now, overdue.oldest)}, and none was taken back"
        return Finding(name, State.TROUBLE, told, "start a worker, or run `python -m worker sweep`")

    def hears_of_engines(self, name: str) -> Finding:
        """Check that an engine gives signs of life."""
        within = SIGNS_MISSED * timedelta(seconds=pause_between_looks(self._settings))
        with self._asked() as transaction:
            signs = health.signs_of_life(transaction, within)
            now = transaction.now
        if signs.recent:
            told = f"{signs.recent} gave a sign of life within {in_words(within)}"
            return Finding(name, State.WELL, told)
        last = "none was ever seen" if signs.last is None else f"the last was seen {_ago(now, signs.last)}"
        return Finding(name, State.TROUBLE, f"none is alive: {last}", "start a worker, and read its log")

    def is_cleaned(self, name: str) -> Finding:
        """Check that dead rows of the messages' table are cleaned away."""
        if self._settings.database_is_sqlite:
            return Finding(name, State.WELL, ON_SQLITE)
        with self._asked() as transaction:
            counts = health.row_counts(transaction)
        if counts is None:
            raise CannotTell("there is no table of messages", "run `python -m worker db upgrade`")
        told = f"{counts.dead} of outbox_message, beside {counts.living} living"
        if counts.dead > max(DEAD_ROWS, DEAD_SHARE * counts.living):
            fix = (
                "end the oldest transaction, and see that autovacuum is on for outbox_message: "
                "docs/production.md"
            )
            return Finding(name, State.WARNING, told, fix)
        return Finding(name, State.WELL, told)

    def has_no_old_transaction(self, name: str) -> Finding:
        """Check that no transaction keeps dead rows from being cleaned away for long."""
        if self._settings.database_is_sqlite:
            return Finding(name, State.WELL, ON_SQLITE)
        with self._asked() as transaction:
            oldest = health.oldest_transaction(transaction)
        told = "none is open" if oldest.age is None else f"open for {in_words(_rounded(oldest.age))}"
        if oldest.age is not None and oldest.age > LONGEST_TRANSACTION:
            fix = (
                "find it in pg_stat_activity by xact_start; end what was forgotten with pg_terminate_backend"
            )
            return Finding(name, State.WARNING, told, fix)
        if oldest.hidden:
            hidden = f"{told}, of those this role may see; sessions it may not: {oldest.hidden}"
            fix = "GRANT pg_read_all_stats to the service's role"
            return Finding(name, State.UNKNOWN, hidden, fix)
        return Finding(name, State.WELL, told)

    def is_searched_by_text(self, name: str) -> Finding:
        """Check that messages are found by pieces of text, and soon."""
        if not self._settings.search.texts:
            return Finding(name, State.WELL, "texts are not searched, as search.texts says")
        with self._asked() as transaction:
            if not text_index.is_there(transaction):
                told, fix = "messages are not found by their text", text_index.fix_on(transaction)
                return Finding(name, State.WARNING, told, fix)
            behind, now = lag(transaction), transaction.now
        if behind.oldest is None:
            return Finding(name, State.WELL, "everything is found")
        told = f"{behind.messages} messages and {behind.texts} texts are not found yet"
        told = f"{told}, the first of {_ago(now, behind.oldest)}"
        if now - behind.oldest < LARGEST_LAG:
            return Finding(name, State.WELL, told)
        return Finding(name, State.WARNING, told, "deliveries come first: wait, or run one engine more")

    @contextmanager
    def _asked(self) -> Iterator[Transaction]:
        """Open a transaction that only reads, unless the database did not answer before."""
        if self._is_away:
            raise CannotTell("not looked at: the database could not be asked", "mend the database first")
        with trouble_in_one_line(), ExitStack() as stack:
            try:
                transaction = stack.enter_context(self._opened().reading())
            except BaseException:
                self._is_away = True
                raise
            yield transaction

    def _opened(self) -> Store:
        if self._store is None:
            engine = connect(self._settings.database_address(), must_exist=True)
            if not self._settings.database_is_sqlite:
                give_up_connecting_after(engine, CONNECT_SECONDS)
            self._store = Store(engine)
        return self._store


def _sqlite_durability(name: str, journal_mode: str, synchronous: int) -> Finding:
    told = f"journal_mode = {journal_mode}, synchronous = {synchronous}"
    if (journal_mode, synchronous) == ("wal", _SYNCHRONOUS_FULL):
        return Finding(name, State.WELL, f"{told}: what is confirmed is on the disk")
    fix = "have the file on a local disk, and no journal_mode or synchronous set besides the service's own"
    return Finding(name, State.TROUBLE, f"{told}, not wal and {_SYNCHRONOUS_FULL}", fix)


def _ago(now: datetime, moment: datetime) -> str:
    return f"{in_words(_rounded(now - moment))} ago"


def _rounded(span: timedelta) -> timedelta:
    return timedelta(seconds=round(span.total_seconds()))
