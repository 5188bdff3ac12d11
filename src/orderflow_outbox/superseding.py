"""Retiring what a new message makes obsolete."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, null, select, update

from .clock import database_now
from .messages import CheckedMessage
from .states import State
from .tables import message

# A row that another transaction holds is about to be sent, or was: it is let go its way.
_waiting_elders = (
    select(message.c.id)
    .where(
        message.c.destination == bindparam("of_destination"),
        message.c.key == bindparam("of_key"),
        message.c.blocks,
        message.c.position < bindparam("before"),
        message.c.state == State.PENDING,
        message.c.operation.in_(bindparam("operations", expanding=True)),
        func.coalesce(message.c.version <= bindparam("up_to", type_=message.c.version.type), True),
    )
    .with_for_update(skip_locked=True)
)
_retire = (
    update(message)
    .where(message.c.id.in_(_waiting_elders))
    .values(state=State.SUPERSEDED, blocks=False, due_at=null(), finished_at=database_now())
)


def retire_elders(connection: Connection, checked: CheckedMessage, number: int) -> None:
    """End the older messages that wait and that this new one, stored under `number`, makes obsolete."""
    connection.execute(
        _retire,
        {
            "of_destination": checked.destination,
            "of_key": checked.key,
            "before": number,
            "operations": list(checked.operation.supersedes),
            "up_to": checked.version,
        },
    )
