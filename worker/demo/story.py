"""The demo's story: a day of business, a receiver that misbehaves, a mended mistake, the reckoning."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine, func, select

from config import load
from orderflow_outbox import State
from orderflow_outbox.tables import attempt, incident, message
from worker import schema
from worker.broker import remove_socket
from worker.database import connect
from worker.replays.replaying import replay
from worker.store import finding
from worker.store.causes import DEAD_LETTERS
from worker.store.finding import Filter
from worker.store.standing import totals
from worker.store.transactions import Store
from worker.supervisor import Supervisor
from worker.up import parts_of

from .shop import MISSING_PRODUCT, RolledBack, Sale, day_of_business, sell, shop_metadata
from .stage import AlertReceiver, environment, ledger_of, simulator, write_configuration
from .summary import Summary, compare

SETTLE_SECONDS = 90.0
LOOK_SECONDS = 0.1
CHILDREN = 2
SHOWN_TROUBLES = 6


class DemoFailed(Exception):
    """The demo did not come to its end."""


class Demo:
    """One run of the demo."""

    def __init__(self, engine: Engine, console: Console) -> None:
        self.engine = engine
        self.store = Store(engine)
        self.console = console
        self.sales: dict[int, Sale] = {}

    def trade(self, orders: int) -> Sale:
        """Enqueue a day of business; return the sale that was rolled back."""
        for sale in day_of_business(orders):
            self.sales[sell(self.engine, sale).id] = sale
        rolled_back = Sale("order-import", "SO-NEVER")
        with suppress(RolledBack):
            sell(self.engine, rolled_back, change_of_mind=True)
        return rolled_back

    def watch(self, what: str, done: Callable[[], bool]) -> None:
        """Show progress until `done`.

        Raises:
            DemoFailed: it takes longer than `SETTLE_SECONDS`.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        with Live(console=self.console, transient=True, refresh_per_second=8) as live:
            while not done():
                if time.monotonic() > deadline:
                    raise DemoFailed(f"{what}: not within {SETTLE_SECONDS:g} s")
                live.update(self._progress(what))
                time.sleep(LOOK_SECONDS)

    def _progress(self, what: str) -> Group:
        states = self.states()
        ended = sum(count for state, count in states.items() if state not in {"pending", "sending"})
        grid = Table.grid(padding=(0, 2))
        counts = [f"{states[s.value]} {s.value}" for s in (State.DELIVERED, State.SENDING, State.PENDING)]
        bar = ProgressBar(total=sum(states.values()) or 1, completed=ended, width=30)
        grid.add_row(what, bar, *counts, f"[red]{states['dead']} dead[/red]")
        return Group(grid, self._troubles())

    def _troubles(self) -> Table:
        """Show the attempts that failed last, as they happen."""
        statement = (
            select(message.c.key, attempt.c.n, attempt.c.verdict, attempt.c.reason, attempt.c.error)
            .join_from(attempt, message)
            .where(attempt.c.verdict != "delivered")
            .order_by(attempt.c.finished_at.desc())
            .limit(SHOWN_TROUBLES)
        )
        with self.store.reading() as transaction:
            rows = transaction.connection.execute(statement).all()
        grid = Table.grid(padding=(0, 2))
        for row in rows:
            style = "red" if row.verdict == "refused" else "yellow"
            texts = (f"  {row.key}", f"attempt {row.n}", row.reason, row.error)
            grid.add_row(*(Text(text, style=style, no_wrap=True, overflow="ellipsis") for text in texts))
        return grid

    def states(self) -> Counter[str]:
        """Return how many messages stand in each state."""
        with self.store.reading() as transaction:
            by_destination = totals(transaction).values()
        return Counter({state.value: sum(each[state] for each in by_destination) for state in State})

    def settled(self) -> bool:
        """Tell whether every message has ended."""
        states = self.states()
        return not states["pending"] and not states["sending"]

    def all_told(self) -> bool:
        """Tell whether every dead letter was counted in an alert."""
        with self.store.reading() as transaction:
            untold = transaction.connection.execute(
                select(incident.c.id).where(incident.c.alerted_occurrences < incident.c.occurrences)
            )
            return untold.first() is None

    def mend_and_replay(self) -> int:
        """Send the product that was missing, then replay one order that died of it."""
        with self.store.reading() as transaction:
            letters = finding.dead_letters(transaction, Filter(reason="items_failed"))
        if not letters:
            raise DemoFailed("no order died of its missing product")
        product = Sale("product-import", MISSING_PRODUCT)
        self.sales[sell(self.engine, product).id] = product
        self.watch("the missing product goes out", self.settled)
        why = f"{MISSING_PRODUCT} is known now"
        return replay(self.store, letters[-1]["message_id"], by="the demo", why=why).replay

    def summary(self, rolled_back: Sale, replayed: int, alerts: int, url: str, begun: float) -> Summary:
        """Reckon up, against the receiver's own books."""
        with self.store.reading() as transaction:
            rows = transaction.connection.execute(
                select(message.c.id, message.c.state, message.c.attempts, message.c.replay_of)
            ).all()
        own = [row for row in rows if row.id in self.sales]
        delivered = [row for row in rows if row.state == State.DELIVERED]
        ledger = ledger_of(url)
        compared = compare(
            [self.sales[row.replay_of or row.id] for row in delivered],
            len(self.sales) - sum(1 for row in own if row.state in {State.DELIVERED, State.DEAD}),
            rolled_back,
            ledger["accepted"],
        )
        return Summary(
            enqueued=len(self.sales),
            delivered=sum(1 for row in own if row.state == State.DELIVERED),
            retried=sum(1 for row in own if row.attempts > 1),
            dead=sum(1 for row in own if row.state == State.DEAD),
            dead_reasons=self._reasons(),
            alerts=alerts,
            replayed=sum(1 for row in delivered if row.id == replayed),
            lost=compared.lost,
            duplicates_at_receiver=compared.duplicates_at_receiver,
            requests=len(ledger["requests"]),
            seconds=round(time.monotonic() - begun, 1),
        )

    def _reasons(self) -> dict[str, int]:
        with self.store.reading() as transaction:
            of_letters = incident.c.cause == DEAD_LETTERS
            counted = select(incident.c.reason, func.sum(incident.c.occurrences).label("number"))
            rows = transaction.connection.execute(counted.where(of_letters).group_by(incident.c.reason)).all()
        return {row.reason: row.number for row in rows}


def run(orders: int, console: Console) -> tuple[Summary, dict[str, Any] | None]:
    """Run the demo and return its summary and the first alert.

    Args:
        orders: how many orders the shop takes; products, returns and cancellations come with them.
        console: where progress is shown.

    Raises:
        DemoFailed: something did not come to its end.
    """
    begun = time.monotonic()
    receiver = AlertReceiver()
    with tempfile.TemporaryDirectory(prefix="outbox-demo-") as name:
        folder = Path(name).resolve()
        with receiver.listening(), simulator(folder, console.print) as url:
            file = write_configuration(folder, url, receiver.url)
            with environment(file):
                summary = _play(orders, console, url, receiver, begun)
    return summary, receiver.alerts[0] if receiver.alerts else None


def _play(orders: int, console: Console, url: str, receiver: AlertReceiver, begun: float) -> Summary:
    settings = load().settings
    settings.state_dir.mkdir(mode=0o700)
    engine = connect(settings.database_address())
    try:
        schema.upgrade(engine)
        shop_metadata.create_all(engine)
        demo = Demo(engine, console)
        with Supervisor(parts_of(settings, CHILDREN), console.print, settings.state_dir):
            console.print(f"broker, worker, beat, Flower and a receiver that misbehaves run; {orders} orders")
            rolled_back = demo.trade(orders)
            demo.watch("messages travel", demo.settled)
            demo.watch("alerts go out", demo.all_told)
            replayed = demo.mend_and_replay()
            demo.watch("one dead letter is replayed", demo.settled)
            return demo.summary(rolled_back, replayed, len(receiver.alerts), url, begun)
    finally:
        engine.dispose()
        remove_socket(settings.state_dir)
