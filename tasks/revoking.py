"""Celery's remote control, extended: to revoke the row of a message is to cancel the message.

A message that waits is cancelled in the database; one that is being sent, or has ended, is left alone.
No process is ever ended for a message: the child that sends it sends others too. Tasks are revoked by
Celery as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from celery.worker.control import Panel, control_command

from config import load_settings
from orderflow_outbox import State
from orderflow_outbox.errors import OutboxError
from worker.by_hand import NotPossible, cancel
from worker.store.finding import message_row
from worker.store.transactions import Store
from worker.visiting import hurried_store_of

from .aside import Aside
from .rows import cancelled, message_of

BY = "flower"
WHY = "revoked in Flower"
MOST_AT_ONCE = 100
"""So many messages one command may name."""
ANSWER_SECONDS = 3.0
"""How long the worker's main process waits for the database: it takes no hint meanwhile."""
STATEMENT_SECONDS = 2

_IDS = "[id1 [id2 [... [idN]]]]"

_revoke_tasks = Panel.data["revoke"]
_aside = Aside(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one message.

    Attributes:
        done: whether it is cancelled, now or before.
        now: whether it was this that cancelled it.
    """

    message_id: int
    text: str
    done: bool
    now: bool = False


@control_command(name="revoke", variadic="task_id", signature=_IDS)
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **options: Any) -> Any:
    """Revoke tasks, and cancel messages, by the ids of their rows."""
    rows = [task_id] if isinstance(task_id, str) else list(task_id or ())
    messages = sorted({number for row in rows if (number := message_of(row)) is not None})
    tasks = [row for row in rows if message_of(row) is None]
    if not messages:
        return _revoke_tasks(state, tasks, terminate=terminate, signal=signal, **options)
    told = _cancel_all(state, messages)
    if tasks:
        answered = _revoke_tasks(state, tasks, terminate=terminate, signal=signal, **options)
        told = {kind: f"{text}; {answered.get('ok', answered)}" for kind, text in told.items()}
    return told


@control_command(name="terminate", args=[("signal", str)], variadic="task_id", signature=f"<signal> {_IDS}")
def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> Any:
    """End the processes of tasks, and cancel messages, by the ids of their rows."""
    return revoke(state, task_id, terminate=True, signal=signal)


def _cancel_all(state: Any, messages: Sequence[int]) -> dict[str, str]:
    """Cancel messages, tell watchers of it, and answer in the way of Celery's commands."""
    if len(messages) > MOST_AT_ONCE:
        return {"error": f"{len(messages)} messages are too many at once: {MOST_AT_ONCE} at most"}
    try:
        answers = _within_its_time(_aside.begin(lambda: _cancelled(messages)))
    except OutboxError as error:
        return {"error": str(error)}
    for each in answers:
        if each.now and state.consumer.event_dispatcher is not None:
            kind, fields = cancelled(each.message_id, WHY)
            state.consumer.event_dispatcher.send(kind, **fields)
    kind = "ok" if all(each.done for each in answers) else "error"
    return {kind: "; ".join(each.text for each in answers)}


def _within_its_time(work: Future[list[Answer]]) -> list[Answer]:
    try:
        return work.result(ANSWER_SECONDS)
    except TimeoutError:
        raise OutboxError(
            f"the database did not answer within {ANSWER_SECONDS:g} s: look what became of it "
            "with `python -m worker show`"
        ) from None


def _cancelled(messages: Sequence[int]) -> list[Answer]:
    with hurried_store_of(load_settings(), STATEMENT_SECONDS) as store:
        return [_cancel(store, message_id) for message_id in messages]


def _cancel(store: Store, message_id: int) -> Answer:
    try:
        cancel(store, message_id, BY, WHY)
    except NotPossible as error:
        with store.reading() as transaction:
            row = message_row(transaction, message_id)
        # Every worker is asked, and one of them was first.
        is_cancelled = row is not None and row["state"] == State.CANCELLED
        text = f"message {message_id} is cancelled" if is_cancelled else str(error)
        return Answer(message_id, text, done=is_cancelled)
    return Answer(message_id, f"message {message_id} is cancelled", done=True, now=True)
