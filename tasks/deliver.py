"""The tasks: each sets an event in the child's engine and returns at once."""

from __future__ import annotations

from orderflow_outbox.publishing import TASK

from . import children
from .app import SWEEP, app


@app.task(name=TASK, send_events=False)
def deliver() -> None:
    """Wake this child's engine: there may be something due."""
    if children.engine is not None:
        children.engine.wake()


@app.task(name=SWEEP, send_events=False)
def sweep() -> None:
    """Have this child's engine sweep now; it also does so by itself."""
    if children.engine is not None:
        children.engine.sweep_soon()
