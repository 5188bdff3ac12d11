"""The figure `judge`: what it takes to judge a report by the rules, and to parse it alone.

Both run in this process, in rounds that alternate. The rules are the interface's, as they are shipped.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

from lxml import etree

from config import load_rules
from orderflow_outbox import PREDEFINED
from worker.deliveries import Reply
from worker.rules import Judge

from .comparing import Comparison
from .orders import OPERATION
from .plan import Plan
from .stage import Stage
from .watching import Watch

ROUNDS = 50
ITEMS_A_ROUND = 1000
DESTINATION = "main"


def report(items: int) -> bytes:
    """Return OrderFlow's answer to an import of so many orders that went well."""
    successes = "".join(
        f'<import type="order" operation="insert" externalReference="SO-{n}" entity="Order {n}" '
        f'item="{n}" queryTime="12"/>'
        for n in range(1, items + 1)
    )
    return f"<importResult><importSuccesses>{successes}</importSuccesses></importResult>".encode()


def take(stage: Stage, plan: Plan, watch: Watch, figure: str, items: int, target: float) -> list[Comparison]:
    """Take the figure for a report on so many items; it takes neither a database nor a plan."""
    del stage, plan
    body = report(items)
    reply = Reply(200, (("Content-Type", "application/xml"), ("Content-Length", str(len(body)))), body)
    judge, operation, now = _judge(), PREDEFINED[OPERATION], datetime.now(UTC)
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    times = max(1, ITEMS_A_ROUND // items)
    judging, parsing = [], []
    watch.round(figure)
    watch.begin("rounds", ROUNDS)
    for n in range(ROUNDS):
        judging.append(_each(lambda: judge.judge(reply, DESTINATION, operation, False, now), times))
        parsing.append(_each(lambda: etree.fromstring(body, parser), times))
        watch.at(n + 1)
    return [
        Comparison(
            figure=figure,
            unit="µs",
            against="parsing alone",
            ours=tuple(judging),
            baseline=tuple(parsing),
            better="lower",
            target=target,
            notes={"replies/s": 1e6 / statistics.median(judging)},
        )
    ]


def _judge() -> Judge:
    return Judge(load_rules(None, PREDEFINED, [DESTINATION]))


def _each(work: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return 1e6 * (time.perf_counter() - begun) / times
