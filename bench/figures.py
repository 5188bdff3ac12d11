"""Which figures there are, and what takes each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeAlias

from . import (
    bulk,
    claiming,
    drain_figures,
    enqueue,
    fair,
    hinting,
    history,
    judging,
    latency,
    memory,
    purging,
    searched_drain,
    searching,
    snapshot,
    window,
)
from .comparing import Comparison
from .plan import Plan
from .stage import DATABASES, Stage
from .watching import Watch

Take: TypeAlias = Callable[[Stage, Plan, Watch], list[Comparison]]
"""Takes one figure, or several from the same rounds."""

FIGURES: Mapping[str, Take] = {
    "drain": drain_figures.take,
    "drain-bare": drain_figures.take,
    "cpu": drain_figures.take,
    "drain-embedded": drain_figures.take_embedded,
    "in-flight-64": partial(drain_figures.take_in_flight, figure="in-flight-64", window=64, target=0.9),
    "in-flight-256": partial(drain_figures.take_in_flight, figure="in-flight-256", window=256, target=0.8),
    "latency-p50": latency.take,
    "latency-p99": latency.take,
    **{
        f"enqueue-{each}": partial(enqueue.take, figure=f"enqueue-{each}", database=each)
        for each in DATABASES
    },
    "enqueue-many": bulk.take,
    "hints": hinting.take,
    **{f"claim-{each}": partial(claiming.take, figure=f"claim-{each}", database=each) for each in DATABASES},
    **{f"purge-{each}": partial(purging.take, figure=f"purge-{each}", database=each) for each in DATABASES},
    "judge-1": partial(judging.take, figure="judge-1", items=1, target=5.0),
    "judge-500": partial(judging.take, figure="judge-500", items=500, target=2.0),
    "window": window.take,
    "fair": fair.take,
    "history": history.take,
    "snapshot": snapshot.take,
    "memory": memory.take,
    **{
        f"search-term-{each}": partial(searching.take_terms, figure=f"search-term-{each}", database=each)
        for each in DATABASES
    },
    **{
        f"search-text-{each}": partial(searching.take_texts, figure=f"search-text-{each}", database=each)
        for each in DATABASES
    },
    **{
        f"search-drain-{each}": partial(searched_drain.take, figure=f"search-drain-{each}", database=each)
        for each in DATABASES
    },
}
"""By name, in the order they are taken and told. What stands under several names is taken once."""


def taken(chosen: Collection[str], stage: Stage, plan: Plan, watch: Watch) -> list[Comparison]:
    """Take the chosen figures."""
    takes = dict.fromkeys(take for name, take in FIGURES.items() if name in chosen)
    found = (each for take in takes for each in take(stage, plan, watch))
    return [each for each in found if each.figure in chosen]
