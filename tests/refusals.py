"""A database that takes no writes for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine


@contextmanager
def inserts_refused(
    engine: Engine, table: str, when_reply: bytes | None = None, because: str = "check_violation"
) -> Iterator[None]:
    """Have the database refuse new rows of `table`, or only those with a certain reply.

    Args:
        because: PostgreSQL's name of the condition that it gives.
    """
    if engine.dialect.name == "sqlite":
        condition = "" if when_reply is None else f"WHEN NEW.reply_body = x'{when_reply.hex()}'"
        made = [
            f"CREATE TRIGGER no BEFORE INSERT ON {table} {condition} BEGIN SELECT RAISE(ABORT, 'no'); END"
        ]
        undone = "DROP TRIGGER no"
    else:
        condition = "" if when_reply is None else f"WHEN (NEW.reply_body = '\\x{when_reply.hex()}')"
        made = [
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE {because} USING MESSAGE = 'no'; END $$",
            f"CREATE TRIGGER no BEFORE INSERT ON {table} FOR EACH ROW {condition} EXECUTE FUNCTION no()",
        ]
        undone = "DROP FUNCTION no CASCADE"
    with engine.begin() as connection:
        for statement in made:
            connection.exec_driver_sql(statement)
    yield
    with engine.begin() as connection:
        connection.exec_driver_sql(undone)


@contextmanager
def results_refused(engine: Engine) -> Iterator[None]:
    """Have no result written: SQLite is locked by someone else, the disk of PostgreSQL's attempts is full."""
    if engine.dialect.name == "sqlite":
        with engine.begin():
            yield
    else:
        with inserts_refused(engine, "outbox_attempt", because="disk_full"):
            yield
