"""A night of a shop, so that the pages of the console have something to tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine, case, update

import config
from config import Rate
from orderflow_outbox import enqueue
from orderflow_outbox.tables import attempt, audit, dead_letter, incident, message
from tests.consoles import USERS
from tests.documents import order
from tests.rig import free_port
from tests.steps import ALERT_TIMES, claim_all, set_row
from worker import schema
from worker.acknowledging import acknowledge
from worker.by_hand import discard, hold
from worker.database import connect
from worker.deliveries import Outcome, Reply
from worker.indexer import index_some
from worker.limiting import limit
from worker.limits import Limits
from worker.recorder import Recorder
from worker.replays import runs
from worker.replays.driving import drive
from worker.replays.run import Care
from worker.requests import RequestBuilder
from worker.store.finding import Filter
from worker.store.transactions import Store
from worker.store.watching import note_life
from worker.verdicts import Delivered, Refused, RetryLater, Verdict, Why

MINUTES = 60
"""Of traffic, each with so many orders that there is a wave to be seen."""
XML = (("content-type", "text/xml;charset=UTF-8"), ("server", "OrderFlow"))
NO_ANSWER = RetryLater(Why("http_503", "the reply was HTTP 503", "unavailable"), systemic=True)
CUT_OFF = RetryLater(
    Why("connection_lost", "the connection was closed before a reply", "no-reply"), systemic=True
)
IMPORTED = Delivered(Why("imported", "every item was imported", "imported"))

OUTBOX = """
database_url = "sqlite:///{folder}/outbox.db"
state_dir = "{folder}/state"
[web]
port = {port}
users = [{users}]
"""
DESTINATION = """
[destinations.{name}]
url = "https://{name}.orderflow.example/web"
user = "shop"
password = {{ env = "ORDERFLOW_MAIN_PASSWORD" }}
window = {window}
[destinations.{name}.breaker]
first_probe = "10m"
"""


def _report(reference: str, text: str) -> bytes:
    item = (
        f'<import externalReference="{reference}" type="order" result="error"><error>{text}</error></import>'
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><imports>{item}</imports>'.encode()


class Night:
    """Lets messages go their ways, and moves what became of them into the past.

    Attributes:
        numbers: of a message and a run, by what they are in the story.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "outbox.toml"
        self.file.write_text(OUTBOX.format(folder=folder, port=free_port(), users=USERS))
        windows = {"main": 8, "marketplace": 4, "outlet": 4}
        (folder / "destinations.toml").write_text(
            "".join(DESTINATION.format(name=name, window=window) for name, window in windows.items())
        )
        self.configuration = config.load(self.file)
        self.engine: Engine = connect(self.configuration.settings.database_address())
        schema.upgrade(self.engine)
        self.store = Store(self.engine)
        self.now = datetime.now(UTC)
        self.numbers: dict[str, int] = {}
        self._recorder = Recorder(self.store, self.configuration, ALERT_TIMES, lambda *_: None)
        self._builders = {
            name: RequestBuilder(each, SecretStr("demo"))
            for name, each in self.configuration.destinations.items()
        }

    def put(self, *references: str, destination: str = "main", **others: Any) -> list[int]:
        """Enqueue an order for each reference."""
        sku = others.pop("sku", "SKU-1")
        with self.engine.begin() as connection:
            return [
                enqueue(
                    connection,
                    "order-import",
                    order(each, sku=sku),
                    destination=destination,
                    channel="SHOP",
                    key=f"order:{each}",
                    **others,
                ).id
                for each in references
            ]

    def send(
        self, verdict: Verdict, reply: Reply | None, seconds: float = 0.3, destination: str = "main"
    ) -> None:
        """Have all that is due end so."""
        outcomes = [
            Outcome(
                each,
                verdict,
                self._builders[destination].build(each, self.configuration.catalogue[each.operation]),
                reply,
                seconds=seconds * (1 + 0.15 * (each.id % 7)),
            )
            for each in claim_all(self.store, destination=destination).claims
        ]
        assert not outcomes or self._recorder.record(outcomes)

    def deliver(self) -> None:
        """Have all that is due delivered."""
        self.send(IMPORTED, Reply(200, XML, b'<imports><import result="ok"/></imports>'))

    def ago(self, minutes: float) -> datetime:
        return self.now - timedelta(minutes=minutes)

    def move(self, ids: Sequence[int], minutes: float, n: int = 1) -> None:
        """Move messages, and their attempt of a number, so far into the past."""
        ended = self.ago(minutes)
        finished = case((message.c.finished_at.is_(None), None), else_=ended)
        with self.engine.begin() as connection:
            values = {"finished_at": finished} | (
                {"created_at": ended - timedelta(seconds=2)} if n == 1 else {}
            )
            connection.execute(update(message).where(message.c.id.in_(ids)).values(values))
            tried = update(attempt).where(attempt.c.message_id.in_(ids), attempt.c.n == n)
            connection.execute(tried.values(started_at=ended - timedelta(seconds=1), finished_at=ended))
            died = update(dead_letter).where(dead_letter.c.message_id.in_(ids))
            connection.execute(died.values(died_at=ended))

    def bury(
        self, references: Sequence[str], reason: str, text: str, minutes: float, **others: Any
    ) -> list[int]:
        """Have orders die of one cause."""
        ids = self.put(*references, **others)
        status = int(reason[-3:]) if reason.startswith("http_") else 200
        reply = Reply(status, XML, _report(references[0], text))
        self.send(Refused(Why(reason, text, "items-failed")), reply)
        self.move(ids, minutes)
        return ids


def tell(folder: Path) -> Night:
    """Let a night pass, up to the call."""
    night = Night(folder)
    _traffic(night)
    others = [f"SO-{n}" for n in (4402, 4533, 4688)]
    unknown = "Article SKU-90210 is not known"
    night.bury(others, "items_failed", unknown, 41, sku="SKU-90210")
    night.bury(["SO-4519"], "http_400", "line 7: currency is missing", 33)
    incomplete = night.bury(
        [f"SO-{n}" for n in range(4490, 4502)], "http_422", "The delivery address is incomplete", 52
    )
    night.numbers["dead"] = _order_of_the_call(night)
    discard(night.store, incomplete.pop(), "otto", "the customer has ordered anew as SO-4502")
    _run(night, incomplete)
    _troubles(night)
    with night.store.writing() as transaction:
        note_life(transaction, "an-engine", "shop-1", night.now, {})
    while index_some(night.store):
        pass
    return night


def _run(night: Night, ids: Sequence[int]) -> None:
    """Have letters replayed with care: the canary is delivered, and the rest has begun."""
    care = Care(canary=2, rate=Rate(requests=6, per="1m"), stop_share=0.2)  # type: ignore[arg-type]
    wanted = Filter(ids=tuple(ids))
    why = "the addresses were completed"
    night.numbers["run"] = runs.begin(night.store, wanted, care, "otto", why, night.configuration).id
    for _ in range(3):
        drive(night.store, night.configuration.catalogue)
        night.deliver()


def _traffic(night: Night) -> None:
    for minute in range(MINUTES, 0, -1):
        number = 14 + round(8 * math.sin(minute / 7)) + minute % 3
        ids = night.put(*(f"SO-{5000 + minute * 40 + n}" for n in range(number)))
        slow = 3 if 22 <= minute <= 27 else 1
        night.send(IMPORTED, Reply(200, XML, b"<imports/>"), 0.22 * slow)
        night.move(ids, minute - 0.5)


def _order_of_the_call(night: Night) -> int:
    """Have an order fail twice and then be refused; return its number."""
    (number,) = night.put("SO-4711", sku="SKU-90210")
    for n, (verdict, reply) in enumerate(
        (
            (NO_ANSWER, Reply(503, (("content-type", "text/plain"), ("retry-after", "5")), b"Maintenance")),
            (CUT_OFF, None),
            (
                Refused(Why("items_failed", "Article SKU-90210 is not known", "items-failed")),
                Reply(200, XML, _report("SO-4711", "Article SKU-90210 is not known")),
            ),
        ),
        1,
    ):
        set_row(night.engine, number, due_at=night.ago(1))
        night.send(verdict, reply, 0.4)
        night.move([number], 24 - 3 * n, n)
    return number


def _troubles(night: Night) -> None:
    """Have one destination be down, one be held, one be limited, and people say what they do."""
    store = night.store
    for n in range(12):
        ids = night.put(f"SO-{4800 + n}", destination="outlet")
        night.send(NO_ANSWER, Reply(503, (), b"Maintenance"), destination="outlet")
        night.move(ids, 9 - n / 3)
    night.put(*(f"SO-{4820 + n}" for n in range(9)), destination="outlet")
    night.put(*(f"MP-{77 + n}" for n in range(6)), destination="marketplace")
    hold(store, "marketplace", "otto", "they move house until 04:00")
    main = night.configuration.destinations["main"]
    limits = Limits(6, Rate(requests=900, per="1m"))  # type: ignore[arg-type]
    limit(store, "main", main, limits, "anna", "their new server is slow")
    acknowledge(store, 1, "otto", "I am looking at it")
    with night.engine.begin() as connection:
        for table, moments in ((incident, ("opened_at", "updated_at", "oldest_at")), (audit, ("at",))):
            for row in connection.execute(table.select()).mappings().all():
                moved = {name: night.ago(40 - 4 * (row["id"] % 9)) for name in moments}
                connection.execute(update(table).where(table.c.id == row["id"]).values(moved))
