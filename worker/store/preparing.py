"""Statements that PostgreSQL plans once instead of each time, where a session is the service's own.

To plan a claim takes longer than to carry it out. But what is prepared belongs to a session, and a pooler
between us and the server may give each transaction another one: then nothing is prepared.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, event

PREPARED_AFTER = 5
"""So often a statement is run before it is prepared, and once more so often before one plan serves all."""
PLANNED_ANEW_SECONDS = 30.0
"""How old plans may become: an outbox that was empty when they were made may be full by now."""

_PLANNED_AT = "worker.store.preparing.planned_at"


def prepare_what_is_run_often(engine: Engine) -> None:
    """Have the sessions of a PostgreSQL engine keep the plans of what they run again and again."""
    event.listen(engine, "connect", _prepare_in_own_session)
    event.listen(engine, "begin", _plan_anew)


def _prepare_in_own_session(connection: Any, record: Any) -> None:
    """Have a new connection prepare statements, unless a pooler answers: that names a process it made up."""
    answering = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    connection.rollback()
    if answering == connection.info.backend_pid:
        connection.prepare_threshold = PREPARED_AFTER
        record.info[_PLANNED_AT] = time.monotonic()


def _plan_anew(connection: Connection) -> None:
    planned_at, now = connection.info.get(_PLANNED_AT), time.monotonic()
    if planned_at is not None and now - planned_at >= PLANNED_ANEW_SECONDS:
        connection.info[_PLANNED_AT] = now
        connection.exec_driver_sql("DISCARD PLANS")
