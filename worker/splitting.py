"""From results per item to messages of their own: pure, a function of values and `now`.

Of a message whose items went different ways, those that are delivered are done with. The refused ones become
a dead message, those to be sent again a waiting one, each with just their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from config import RetryPolicy
from orderflow_outbox import State, WhenDead
from orderflow_outbox.terms import terms_of_imports

from .deliveries import Child, Outcome
from .documents import cut, items_of
from .retry import end_of_life, next_retry_at
from .rules.words import in_one_line
from .verdicts import ItemResult, Refused, RetryLater, Why, failures_in_words, most_common_reason


def split(
    outcome: Outcome,
    now: datetime,
    policy: RetryPolicy,
    followers: WhenDead,
    chance: Callable[[], float],
) -> tuple[Child, ...]:
    """Return the children of a message whose items went different ways; none where all are done.

    Args:
        followers: whether later messages of its key wait for a dead letter.
        chance: gives a number from 0 to 1, for the jitter.
    """
    refused = [item for item in outcome.items if isinstance(item.verdict, Refused)]
    again = [item for item in outcome.items if isinstance(item.verdict, RetryLater)]
    children = []
    if refused:
        text = in_one_line(failures_in_words(refused, len(outcome.items)))
        why = Why(most_common_reason(refused), text, refused[0].verdict.why.rule)
        children.append(_dead(outcome, refused, why, followers, outcome.claim.tries))
    if again:
        children.append(_sent_again(outcome, again, now, policy, followers, chance()))
    return tuple(children)


def _sent_again(
    outcome: Outcome,
    items: Sequence[ItemResult],
    now: datetime,
    policy: RetryPolicy,
    followers: WhenDead,
    chance: float,
) -> Child:
    """Return a child that waits for its next try, or is dead where that was the last."""
    claim, why = outcome.claim, items[0].verdict.why
    tries = claim.tries + 1
    due_at = next_retry_at(now, tries, policy, chance=chance)
    if due_at is None or due_at >= end_of_life(claim.created_at, claim.expires_at, policy):
        last = Why(why.reason, f"after {tries} tries: {why.text}", why.rule)
        return _dead(outcome, items, last, followers, tries)
    return _child(outcome, items, why, State.PENDING, due_at, tries, claim.key is not None)


def _dead(outcome: Outcome, items: Sequence[ItemResult], why: Why, followers: WhenDead, tries: int) -> Child:
    blocks = outcome.claim.key is not None and followers is WhenDead.WAIT
    return _child(outcome, items, why, State.DEAD, None, tries, blocks)


def _child(
    outcome: Outcome,
    items: Sequence[ItemResult],
    why: Why,
    state: State,
    due_at: datetime | None,
    tries: int,
    blocks: bool,
) -> Child:
    payload = outcome.claim.payload
    assert payload is not None  # noqa: S101 (only a document has items)
    sent = items_of(payload)
    places = {item.place for item in items}
    return Child(
        payload=cut(payload, sent, places),
        terms=terms_of_imports(
            outcome.claim.key, [each.found for n, each in enumerate(sent, 1) if n in places]
        ),
        state=state,
        due_at=due_at,
        tries=tries,
        in_doubt=outcome.claim.in_doubt or not all(item.mentioned for item in items),
        blocks=blocks,
        why=why,
    )
