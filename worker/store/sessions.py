"""Sessions of the console: who is signed in, by the digest of a token that only the browser has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import RowMapping, delete, insert, or_, select, update

from orderflow_outbox.tables import session

from .transactions import Transaction


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts: while nothing is done, and in all."""

    idle: timedelta
    longest: timedelta


def begin(transaction: Transaction, digest: bytes, user: str, proof: bytes, limits: Limits) -> None:
    """Write a new session down, and take out those that are over.

    Args:
        proof: what the user signed in by, as a digest; the session is over once that is another.
    """
    connection, now = transaction.connection, transaction.now
    over = or_(session.c.seen_at <= now - limits.idle, session.c.begun_at <= now - limits.longest)
    connection.execute(delete(session).where(over))
    values = {"digest": digest, "user": user, "proof": proof, "begun_at": now, "seen_at": now}
    connection.execute(insert(session), values)


def find(transaction: Transaction, digest: bytes, limits: Limits) -> RowMapping | None:
    """Return the session of a token, None where there is none or it is over."""
    now = transaction.now
    statement = select(session).where(
        session.c.digest == digest,
        session.c.seen_at > now - limits.idle,
        session.c.begun_at > now - limits.longest,
    )
    return transaction.connection.execute(statement).mappings().one_or_none()


def see(transaction: Transaction, digest: bytes) -> None:
    """Write that something was done in a session just now."""
    transaction.connection.execute(
        update(session).where(session.c.digest == digest).values(seen_at=transaction.now)
    )


def end(transaction: Transaction, digest: bytes) -> None:
    """End a session."""
    transaction.connection.execute(delete(session).where(session.c.digest == digest))
