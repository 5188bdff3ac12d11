"""The database of a simulated world: a real file, whose clock is virtual and which keeps a journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copyfile
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine, event

from worker import schema
from worker.database import connect

from .clock import Time

_JOURNAL = """
CREATE TABLE journal (
    n INTEGER PRIMARY KEY, at TEXT, writer TEXT, message INTEGER, was TEXT, state TEXT,
    token_was INTEGER, token INTEGER, attempts_was INTEGER, attempts INTEGER, elders INTEGER,
    passes BOOLEAN
)"""
_NOTE = """
CREATE TRIGGER note AFTER UPDATE ON outbox_message BEGIN
    INSERT INTO journal (
        at, writer, message, was, state, token_was, token, attempts_was, attempts, elders, passes
    ) VALUES (
        strftime('%Y-%m-%d %H:%M:%f', 'now'), writer(), NEW.id, OLD.state, NEW.state,
        OLD.lease_token, NEW.lease_token, OLD.attempts, NEW.attempts,
        (SELECT count(*) FROM outbox_message AS elder
          WHERE elder.destination = NEW.destination AND elder.key = NEW.key
            AND elder.blocks AND elder.position < NEW.position),
        NEW.key IS NOT NULL AND NOT NEW.blocks
    );
END"""
_HARM = """
CREATE TRIGGER harm AFTER UPDATE ON outbox_message WHEN OLD.state = 'pending' AND NEW.state = 'sending' BEGIN
    UPDATE outbox_message SET {harm} WHERE id = NEW.id;
END"""
JOURNAL = """
SELECT at, writer, message, was, state, token_was, token, attempts_was, attempts, elders, passes
  FROM journal"""


class Opened:
    """The database as one process has it open.

    Attributes:
        writer: the name by which its writes are noted.
        before_statement: is called before each statement.
    """

    def __init__(self, file: Path) -> None:
        self.writer = ""
        self.clock: Time | None = None
        self.before_statement: Callable[[], None] = _do_nothing
        self.engine: Engine = connect(SecretStr(f"sqlite:///{file}"))
        event.listen(self.engine, "connect", self._prepare)
        event.listen(self.engine, "before_cursor_execute", lambda *_: self.before_statement())

    def _prepare(self, driver: Any, _record: Any) -> None:
        driver.create_function("strftime", -1, self._now)
        driver.create_function("writer", 0, lambda: self.writer)
        # Processes are killed here, and no machine is: what is written needs no disk.
        driver.execute("PRAGMA synchronous = OFF")

    def _now(self, *_: Any) -> str:
        assert self.clock is not None
        return f"{self.clock.date():%Y-%m-%d %H:%M:%S.%f}"[:-3]


class Database:
    """A database for one story after the other.

    Args:
        folder: where its file is.
    """

    def __init__(self, folder: Path) -> None:
        self._empty, self._file = folder / "empty.db", folder / "outbox.db"
        self._free: list[Opened] = []
        engine = connect(SecretStr(f"sqlite:///{self._empty}"))
        schema.upgrade(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(_JOURNAL)
            connection.exec_driver_sql(_NOTE)
        engine.dispose()

    def empty(self, harm: str = "") -> None:
        """Begin anew.

        Args:
            harm: what a trigger does to a message that is claimed, to see whether it is found out.
        """
        for suffix in ("-wal", "-shm"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)
        copyfile(self._empty, self._file)
        if harm:
            with closing(sqlite3.connect(self._file)) as connection:
                connection.execute(_HARM.format(harm=harm))

    def open(self, clock: Time, writer: str) -> Opened:
        """Return it as a process opens it; statements that another one had compiled are known to it."""
        opened = self._free.pop() if self._free else Opened(self._file)
        opened.clock, opened.writer = clock, writer
        return opened

    def close(self, opened: Opened) -> None:
        """Close every connection of a process."""
        opened.engine.dispose()
        opened.before_statement = _do_nothing
        self._free.append(opened)


def _do_nothing() -> None:
    """What comes before a statement that nobody watches."""
