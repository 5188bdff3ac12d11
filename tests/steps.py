"""The steps of a message's life taken one by one, at moments the test chooses."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, RowMapping, Table, select

from config import Configuration, Destination, load
from orderflow_outbox import enqueue
from orderflow_outbox.tables import message
from tests.documents import order
from worker.database import connect
from worker.deliveries import Claim, Outcome, Reply, Request
from worker.recorder import Recorder
from worker.store.causes import AlertTimes
from worker.store.claiming import Claimed, claim
from worker.store.transactions import Store
from worker.sweep import Swept, sweep
from worker.verdicts import Delivered, Hold, Refused, RetryLater, Verdict, Why

LEASE = timedelta(seconds=90)
ALERT_TIMES = AlertTimes(grouping=timedelta(seconds=30), reminder=timedelta(hours=1))
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)

_numbers = itertools.count(1)


class Clock:
    """A clock for the store that stands still until it is moved."""

    def __init__(self) -> None:
        # Messages are enqueued by the database's own clock: a little later they are all due.
        self.now = datetime.now(UTC) + timedelta(minutes=1)

    def __call__(self, _connection: Connection) -> datetime:
        return self.now

    def forward(self, by: timedelta) -> None:
        self.now += by


def another_connection(engine: Engine) -> Engine:
    """Return the same database as another process would open it."""
    return connect(SecretStr(str(engine.url)))


def configuration() -> Configuration:
    """Return what the settings of this test say, but for its database and folder: read once for all alike."""
    own = ("OUTBOX_DATABASE_URL", "OUTBOX_STATE_DIR")
    shared = {name for name in os.environ if name.startswith("OUTBOX_")} - {*own}
    return _configuration(frozenset((name, os.environ[name]) for name in shared))


@cache
def _configuration(_environment: frozenset[tuple[str, str]]) -> Configuration:
    return load(need_secrets=False)


def destinations() -> dict[str, Destination]:
    return dict(configuration().destinations)


def put(engine: Engine, key: str | None = None, **others: Any) -> int:
    """Enqueue an order import; return its id."""
    with engine.begin() as connection:
        return enqueue(
            connection,
            others.pop("operation", "order-import"),
            others.pop("payload", order(f"SO-{next(_numbers)}")),
            channel=others.pop("channel", "SHOP"),
            key=key,
            **others,
        ).id


def claim_all(store: Store, room: int = 100, destination: str = "main") -> Claimed:
    with store.writing() as transaction:
        return claim(transaction, destination, room, LEASE)


def claim_one(store: Store) -> Claim:
    (only,) = claim_all(store).claims
    return only


def recorder(store: Store) -> Recorder:
    return Recorder(store, configuration(), ALERT_TIMES, lambda *_: None)


def swept(store: Store) -> Swept:
    return sweep(store, configuration(), ALERT_TIMES)


def why(reason: str, text: str = "as the reply said") -> Why:
    return Why(reason, text, "a-rule")


DELIVERED = Delivered(why("imported"))
REFUSED = Refused(why("items_failed"))
LATER = RetryLater(why("http_503"), systemic=True)
TURNED_AWAY = Hold(why("http_401"))


def outcome(claim: Claim, verdict: Verdict | None, reply: Reply | None = None, **others: Any) -> Outcome:
    """Return what came of a claim whose request was sent and answered."""
    headers = {"Idempotency-Key": claim.idempotency_key, "Authorization": "Basic c2VjcmV0"}
    shown = {**headers, "Authorization": "********"}
    sent = Request("POST", "http://127.0.0.1:1/web", headers, shown, claim.payload)
    reply = reply or Reply(200, (("content-type", "text/xml"),), b"<ok/>")
    return Outcome(claim, verdict, sent, reply, **{"seconds": 0.2, **others})


def finish(store: Store, verdict: Verdict, **others: Any) -> Claim:
    """Claim the one message that is due and record `verdict` on it."""
    claimed = claim_one(store)
    assert recorder(store).record([outcome(claimed, verdict, **others)])
    return claimed


def bury(store: Store, engine: Engine, reason: str = "items_failed", **others: Any) -> int:
    """Enqueue a message and let it die; return its id."""
    message_id = put(engine, **others)
    assert finish(store, Refused(why(reason, others.get("text", "bad article")))).id == message_id
    return message_id


def rows(engine: Engine, table: Table, **equal: Any) -> list[RowMapping]:
    """Return the rows of a table whose columns have the values given, in order of their key."""
    wanted = [table.c[name] == value for name, value in equal.items()]
    statement = select(table).where(*wanted).order_by(*table.primary_key.columns)
    with engine.connect() as connection:
        return list(connection.execute(statement).mappings().all())


def row(engine: Engine, message_id: int) -> RowMapping:
    (only,) = rows(engine, message, id=message_id)
    return only


def set_row(engine: Engine, message_id: int, **values: Any) -> None:
    """Put a message into a state that takes long to come about."""
    with engine.begin() as connection:
        connection.execute(message.update().where(message.c.id == message_id).values(**values))
