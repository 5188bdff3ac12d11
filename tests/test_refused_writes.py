"""The database refuses what came of requests: it waits in the engine, and nothing is sent a second time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.refusals import results_refused
from tests.rig import Place, engine_of, eventually, rig

ORDERS = 4
LATE = timedelta(seconds=0.5)
REFUSING_SECONDS = 1.5
"""Longer than an engine waits between two looks, or between two tries to write."""
CANNOT = "results cannot be written"
CAN = "results are written again"


def test_results_that_cannot_be_written_wait_and_nothing_is_sent_meanwhile_or_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("orderflow_outbox.sqlite.BUSY_TIMEOUT_SECONDS", 0.2)
    with rig(place, window=2 * ORDERS, lease=20, attempt_deadline="6s") as made:
        made.simulator.set_faults(["slow:1.0:delay=1"])
        made.orders(ORDERS)
        with engine_of(made):
            eventually(lambda: len(made.simulator.ledger.requests) == ORDERS)
            made.order("SO-LATE", deliver_after=datetime.now(UTC) + LATE)
            with results_refused(made.engine):
                eventually(lambda: CANNOT in caplog.text)
                since = time.monotonic()
                eventually(lambda: time.monotonic() - since > REFUSING_SECONDS)
                assert len(made.simulator.ledger.requests) == ORDERS
            made.simulator.set_faults([])
            eventually(lambda: made.states() == {"delivered"})
        assert len(made.simulator.ledger.requests) == ORDERS + 1
        assert {(row.attempts, row.rescues, row.in_doubt) for row in made.rows()} == {(1, 0, False)}
        assert {each.verdict for row in made.rows() for each in made.attempts(row.id)} == {"delivered"}
        assert (caplog.text.count(CANNOT), caplog.text.count(CAN)) == (1, 1)
