"""Claiming: leasing due messages to an engine in one short transaction.

The claim counts the attempt and raises the fencing token before the first byte leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Boolean, Select, and_, bindparam, exists, func, literal_column, or_, select, update

from orderflow_outbox import State
from orderflow_outbox.tables import body, gate, message
from worker.breaker import BreakerState
from worker.deliveries import Claim
from worker.gate import OPEN

from .given import is_given
from .leasing import MOST_BYTES, OF_A_CLAIM, OF_ITS_BODY, claim_of, fitting, is_pending, lease_all, leasing
from .transactions import Transaction

QUARANTINED_FROM = 2
"""A message whose lease has run out so often is in quarantine."""

_elder = message.alias("elder")

is_sending = message.c.state == literal_column(f"'{State.SENDING}'")
is_due = and_(is_pending, message.c.due_at.is_not(None))
is_parked = and_(is_pending, message.c.due_at.is_(None), message.c.blocks, message.c.key.is_not(None))
# As the index has it, and literal for the same reason as `is_pending`.
is_in_quarantine = message.c.rescues >= literal_column(str(QUARANTINED_FROM))
has_elder = and_(
    message.c.key.is_not(None),
    exists().where(
        _elder.c.destination == message.c.destination,
        _elder.c.key == message.c.key,
        _elder.c.blocks,
        _elder.c.position < message.c.position,
    ),
)

LOOK_AGAIN_AFTER = timedelta(milliseconds=50)
"""When a message is due again whose elder was in other hands."""
PARKED_AT_ONCE = 500
PARKING_ROUNDS = 10
"""So often a claim looks past messages that it has parked, for others that it may send."""
THE_START = datetime(1970, 1, 1, tzinfo=UTC)
"""Earlier than any message."""

_is_shut = exists().where(
    gate.c.destination == bindparam("of_destination"),
    or_(
        gate.c.state != OPEN,
        gate.c.breaker != BreakerState.CLOSED.value,
        gate.c.paused_until > bindparam("moment", type_=gate.c.paused_until.type),
    ),
)

_of_destination = and_(
    message.c.destination == bindparam("of_destination"), is_due, message.c.due_at >= bindparam("since")
)
_in_order_of_time = (message.c.due_at, message.c.id)
_all_candidates = (
    select(message.c.id, message.c.operation, message.c.due_at, has_elder.label("blocked"))
    .where(
        _of_destination,
        message.c.due_at <= bindparam("moment"),
        or_(bindparam("though_shut", type_=Boolean()), ~_is_shut),
    )
    .order_by(*_in_order_of_time)
    .limit(bindparam("room"))
    .with_for_update(skip_locked=True, of=message)
)
_candidates = _all_candidates.where(~is_in_quarantine)
_quarantined_candidates = _all_candidates.where(is_in_quarantine)
_found = _candidates.cte("found")
_size = select(func.length(body.c.payload)).where(body.c.message_id == _found.c.id).scalar_subquery()
_in_order = (_found.c.due_at, _found.c.id)
_sized = select(
    *_found.c,
    func.row_number().over(order_by=_in_order).label("place"),
    func.sum(func.coalesce(_size, 0)).over(order_by=_in_order, rows=(None, 0)).label("bytes_so_far"),
).cte("sized")
_fits = and_(~_sized.c.blocked, or_(_sized.c.place == 1, _sized.c.bytes_so_far <= MOST_BYTES))
_taken = leasing.where(message.c.id.in_(select(_sized.c.id).where(_fits))).returning(*OF_A_CLAIM).cte("taken")
_as_found = (_found.c.id.label("found"), _found.c.due_at, _found.c.blocked)
_find_and_lease = (
    select(*_taken.c, *OF_ITS_BODY, *_as_found)
    .select_from(
        _found.outerjoin(_taken, _taken.c.id == _found.c.id).outerjoin(body, body.c.message_id == _taken.c.id)
    )
    .order_by(_found.c.id)
)
_all_due = select(message.c.due_at).where(_of_destination).order_by(*_in_order_of_time).limit(1)
_next_due = _all_due.where(~is_in_quarantine)
_next_quarantined = _all_due.where(is_in_quarantine)
_in_front = (
    select(_elder.c.id)
    .where(
        _elder.c.destination == message.c.destination,
        _elder.c.key == message.c.key,
        _elder.c.blocks,
        _elder.c.position < message.c.position,
    )
    .order_by(_elder.c.position)
    .limit(1)
    .scalar_subquery()
)
_elders = select(message.c.id, _in_front.label("elder")).where(is_given(message.c.id))
_hold = (
    select(message.c.id)
    .where(is_given(message.c.id), message.c.blocks)
    .order_by(message.c.id)
    .with_for_update(read=True, skip_locked=True)
)
_set_due = (
    update(message)
    .where(is_given(message.c.id), is_pending)
    .values(due_at=bindparam("when_due", type_=message.c.due_at.type))
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim got.

    Attributes:
        more: whether more may be due than there was room for.
        earliest: when the first was due that it met, whether it may be sent or not; None where none was due.
    """

    claims: list[Claim]
    more: bool
    earliest: datetime | None = None


def next_due(
    transaction: Transaction, destination: str, since: datetime | None = None, quarantined: bool = False
) -> datetime | None:
    """Return when the next message of `destination` is due, or None when none waits for a time.

    Args:
        since: look no further back than this.
        quarantined: whether those in quarantine are meant, instead of the others.
    """
    return transaction.connection.execute(
        _next_quarantined if quarantined else _next_due,
        {"of_destination": destination, "since": since or THE_START},
    ).scalar_one_or_none()


def claim(
    transaction: Transaction,
    destination: str,
    room: int,
    lease: timedelta,
    since: datetime | None = None,
    paused: Mapping[str, datetime] = MappingProxyType({}),
    unless_shut: bool = False,
    quarantined: bool = False,
) -> Claimed:
    """Lease up to `room` due messages of `destination`, and park those that wait for an elder.

    They are fewer where their documents would be more than `MOST_BYTES` together.

    Args:
        since: look no further back than this.
        paused: operations of which nothing is sent until the moment given; their messages are due then.
        unless_shut: whether the gate is looked at here; else it was, and may be shut but for a probe.
        quarantined: whether those in quarantine are meant, instead of the others.
    """
    given = {
        "of_destination": destination,
        "since": since or THE_START,
        "moment": transaction.now,
        "though_shut": not unless_shut,
    }
    if transaction.connection.dialect.name == "postgresql" and not (paused or quarantined):
        return _claim_in_one(transaction, given, room, lease)
    candidates = _quarantined_candidates if quarantined else _candidates
    free, more, earliest = _free(transaction, candidates, given, room, paused)
    fits = fitting(transaction, free)
    return Claimed(lease_all(transaction, fits, lease), more or len(fits) < len(free), earliest)


def _claim_in_one(transaction: Transaction, given: Mapping[str, Any], room: int, lease: timedelta) -> Claimed:
    """Claim by one statement, as far as nothing is in the way of what is due; then look past that."""
    now = transaction.now
    rows = transaction.connection.execute(
        _find_and_lease, {**given, "room": room, "until": now + lease}
    ).all()
    claims = [claim_of(row[: -len(_as_found)], now) for row in rows if row.id is not None]
    blocked = [row.found for row in rows if row.blocked]
    earliest = min((row.due_at for row in rows), default=None)
    all_taken = len(claims) + len(blocked) == len(rows)
    if blocked:
        _park_behind_elders(transaction, blocked)
    if not (blocked and all_taken and len(rows) == room):
        return Claimed(claims, not all_taken or len(rows) == room, earliest)
    further, more, _ = _free(transaction, _candidates, given, room - len(claims), {})
    fits = fitting(transaction, further)
    further_claims = lease_all(transaction, fits, lease)
    return Claimed([*claims, *further_claims], more or len(fits) < len(further), earliest)


def _free(
    transaction: Transaction,
    due: Select[Any],
    given: Mapping[str, Any],
    room: int,
    paused: Mapping[str, datetime],
) -> tuple[list[int], bool, datetime | None]:
    """Return up to `room` due messages that wait for nobody, whether more may be due, and since when any is.

    The others it meets are parked or put off, so many of them that they do not keep the rest waiting.
    """
    looked_at, earliest = room, None
    for _ in range(PARKING_ROUNDS):
        candidates = transaction.connection.execute(due, {**given, "room": looked_at}).all()
        earliest = earliest or (candidates[0].due_at if candidates else None)
        blocked = [row.id for row in candidates if row.blocked]
        put_off = [row for row in candidates if row.operation in paused and not row.blocked]
        free = [row.id for row in candidates if not (row.blocked or row.operation in paused)]
        if blocked:
            _park_behind_elders(transaction, blocked)
        if put_off:
            _put_off(transaction, put_off, paused)
        more = len(candidates) == looked_at
        if len(free) >= room or not ((blocked or put_off) and more):
            break
        looked_at = max(room, PARKED_AT_ONCE)
    return free[:room], more, earliest


def _put_off(transaction: Transaction, rows: Sequence[Any], paused: Mapping[str, datetime]) -> None:
    """Have messages of paused operations due at the end of the pause, which spends no try of theirs."""
    for operation in sorted({row.operation for row in rows}):
        ids = [row.id for row in rows if row.operation == operation]
        transaction.connection.execute(_set_due, {"ids": ids, "when_due": paused[operation]})


def _park_behind_elders(transaction: Transaction, ids: list[int]) -> None:
    """Park the messages whose elder blocks at this very moment; the others are looked at again shortly.

    An elder being recorded may have looked for followers already, and found these not parked yet: so it
    is held here until they are. One that is held by another is not waited for, since that may be a shop,
    which ends it with a commit of its own.
    """
    connection = transaction.connection
    elders = {row.id: row.elder for row in connection.execute(_elders, {"ids": ids}) if row.elder is not None}
    if not elders:
        return
    held = set(connection.scalars(_hold, {"ids": sorted(set(elders.values()))}))
    parked = [message_id for message_id, elder in elders.items() if elder in held]
    if parked:
        connection.execute(_set_due, {"ids": parked, "when_due": None})
    uncertain = [message_id for message_id, elder in elders.items() if elder not in held]
    if uncertain:
        connection.execute(_set_due, {"ids": uncertain, "when_due": transaction.now + LOOK_AGAIN_AFTER})
