"""The figure `search-drain`: how fast a full outbox is emptied while it is indexed, and with no indexing."""

from __future__ import annotations

from worker.store.indexing import index
from worker.store.transactions import Store

from .comparing import Comparison
from .contestant import Place
from .drain import drained
from .plan import Plan
from .stage import Stage, reaching
from .turns import in_turn
from .watching import Watch
from .with_outbox import Outbox

TARGET = 0.9
RATE = "messages/s"


class Unsearched(Outbox):
    """The same with nothing to index: no texts, and terms are made before the clock starts."""

    name = "outbox without search"

    def prepare(self) -> None:
        """Make the tables and the two configuration files."""
        super().prepare()
        with self.file.open("a") as file:
            file.write("[search]\ntexts = false\n")

    def settle(self) -> None:
        """Have all terms made that wait, too."""
        with reaching(self.place.url) as engine:
            store = Store(engine)
            more = True
            while more:
                with store.writing() as transaction:
                    more = index(transaction)
        super().settle()


def take(stage: Stage, plan: Plan, watch: Watch, figure: str, database: str) -> list[Comparison]:
    """Take the figure on one kind of database."""

    def unsearched(place: Place) -> Outbox:
        return Unsearched(place, plan.window)

    ours, without = in_turn(
        figure,
        plan.rounds,
        watch,
        {
            Outbox.name: lambda: drained(stage, plan.outbox, plan.messages, watch, database),
            Unsearched.name: lambda: drained(stage, unsearched, plan.messages, watch, database),
        },
    )
    return [
        Comparison(
            figure=figure,
            unit=RATE,
            against="nothing to index",
            ours=tuple(each.rate for each in ours),
            baseline=tuple(each.rate for each in without),
            better="higher",
            target=TARGET,
            tallies=tuple(each.tally for each in (*ours, *without)),
        )
    ]
