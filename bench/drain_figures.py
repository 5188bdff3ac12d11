"""The figures of a full outbox: `drain`, `drain-bare`, `cpu`, `drain-embedded`, those of `in-flight`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from . import ceiling, where, with_bare_loop
from .comparing import Comparison
from .contestant import Place
from .drain import DATABASE, RECEIVER, DrainRound, drained
from .plan import Plan
from .stage import SQLITE, Stage
from .tally import Tally
from .turns import in_turn
from .watching import Watch
from .with_outbox import Outbox
from .with_plain_task import PlainTask

RATE = "messages/s"
OURS = ("broker", "worker")
"""Whose processor time is ours: the broker's, the worker's and its children's. Beat and Flower do not run."""
EMBEDDED_MESSAGES = 12_000
PROFILED_MESSAGES = 5_000
LATENCY_SECONDS = 0.05
FULL_WINDOW_SECONDS = 4.0
"""How long the messages of `in-flight` would take at a full window."""


def take(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figures `drain`, `drain-bare` and `cpu`, all three from the same rounds."""
    ours, plain, bare = in_turn(
        "drain",
        plan.rounds,
        watch,
        {
            Outbox.name: lambda: drained(stage, plan.outbox, plan.messages, watch),
            PlainTask.name: lambda: drained(stage, plan.plain, plan.plain_messages, watch),
            with_bare_loop.NAME: lambda: with_bare_loop.sent(stage, plan.messages, plan.window, watch),
        },
    )
    profile = where.shares(stage, min(plan.messages, PROFILED_MESSAGES), plan.window, watch)
    limits = {
        f"the receiver takes from {number}, requests/s": ceiling.taken(stage, number, watch)
        for number in range(1, ceiling.CLIENTS + 1)
    }
    return [
        Comparison(
            figure="drain",
            unit=RATE,
            against="a Celery task a message",
            ours=_rates(ours),
            baseline=_rates(plain),
            better="higher",
            target=10.0,
            tallies=_tallies(ours, plain),
            notes={"hoped for, ratio": 20.0, **profile},
        ),
        Comparison(
            figure="drain-bare",
            unit=RATE,
            against="the same requests alone",
            ours=_rates(ours),
            baseline=_rates(bare),
            better="higher",
            target=0.5,
            tallies=_tallies(ours, bare),
            notes={"hoped for, ratio": 0.65, **limits},
        ),
        _processor(ours, plain, bare),
    ]


def _processor(
    ours: Sequence[DrainRound], plain: Sequence[DrainRound], bare: Sequence[DrainRound]
) -> Comparison:
    contestants = {Outbox.name: ours, PlainTask.name: plain, with_bare_loop.NAME: bare}
    besides = {
        f"{part} beside {name}": statistics.median(each.processor_per_thousand(part) for each in rounds)
        for name, rounds in contestants.items()
        for part in (DATABASE, RECEIVER)
    }
    alone = [
        1000
        * sum(each.processor[part] for part in each.processor.keys() - {DATABASE, RECEIVER})
        / each.tally.messages
        for each in bare
    ]
    return Comparison(
        figure="cpu",
        unit="s of processor/1,000",
        against="a Celery task a message",
        ours=tuple(each.processor_per_thousand(*OURS) for each in ours),
        baseline=tuple(each.processor_per_thousand("worker") for each in plain),
        better="lower",
        target=0.125,
        tallies=_tallies(ours, plain),
        notes={**besides, "the same requests alone": statistics.median(alone)},
    )


def take_embedded(stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the figure `drain-embedded`: SQLite instead of a database server, for both."""
    messages = min(plan.messages, EMBEDDED_MESSAGES)
    ours, plain = in_turn(
        "drain-embedded",
        plan.rounds,
        watch,
        {
            Outbox.name: lambda: drained(stage, plan.outbox, messages, watch, SQLITE),
            PlainTask.name: lambda: drained(stage, plan.plain, plan.plain_messages, watch, SQLITE),
        },
    )
    return [
        Comparison(
            figure="drain-embedded",
            unit=RATE,
            against="a Celery task a message",
            ours=_rates(ours),
            baseline=_rates(plain),
            better="higher",
            target=4.0,
            tallies=_tallies(ours, plain),
        )
    ]


def take_in_flight(
    stage: Stage, plan: Plan, watch: Watch, figure: str, window: int, target: float
) -> list[Comparison]:
    """Take one of the figures `in-flight`: how full a window is kept, on average, by a receiver far away."""
    full = window / LATENCY_SECONDS * min(FULL_WINDOW_SECONDS, plan.seconds)
    messages = max(1, round(full))

    def make(place: Place) -> Outbox:
        return Outbox(place, window)

    (ours,) = in_turn(
        figure,
        plan.rounds,
        watch,
        {Outbox.name: lambda: drained(stage, make, messages, watch, latency=LATENCY_SECONDS)},
    )
    return [
        Comparison(
            figure=figure,
            unit="requests in progress",
            against="the window",
            ours=tuple(each.in_flight for each in ours),
            baseline=(float(window),) * len(ours),
            better="higher",
            target=target,
            tallies=_tallies(ours),
            notes={RATE: statistics.median(_rates(ours))},
        )
    ]


def _rates(rounds: Sequence[DrainRound]) -> tuple[float, ...]:
    return tuple(each.rate for each in rounds)


def _tallies(*contestants: Sequence[DrainRound]) -> tuple[Tally, ...]:
    return tuple(each.tally for rounds in contestants for each in rounds)
