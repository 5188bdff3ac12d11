"""A small world for an outbox: a shop, engines that crash, a receiver, and a person; told as a list of steps.

The receiver tells the truth, and takes each item in once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from hypothesis import strategies as st

from tests.model import (
    AGAIN,
    CATALOGUE,
    DONE,
    ENDED,
    JUMP,
    LEASE,
    OPEN,
    QUARANTINED_FROM,
    Model,
    New,
    Row,
    Told,
)


class Outbox(Protocol):
    """What the model and the real store have in common."""

    def enqueue(self, given: New) -> None: ...
    def claim(self, quarantined: bool = False) -> list[int]: ...
    def record(self, number: int, token: int, told: Told) -> None: ...
    def die(self, number: int, token: int) -> None: ...
    def sweep(self) -> None: ...
    def replay(self, number: int, force: bool) -> bool: ...
    def discard(self, number: int) -> bool: ...
    def cancel(self, number: int) -> bool: ...
    def forward(self, seconds: float) -> None: ...
    def standing(self) -> list[tuple[Any, ...]]: ...


class Step(NamedTuple):
    """One thing that happens, with what it needs to be told of; what it does not need is ignored.

    Attributes:
        unseen: the shop enqueues without seeing what its message makes obsolete, as where two do so at once.
        ahead: how far, from now on, the database's clock is ahead of the true time.
    """

    what: str
    which: int = 0
    operation: str = "entry"
    key: str | None = None
    version: int | None = None
    items: int = 1
    life: float | None = None
    unseen: bool = False
    answer: str = "good"
    carried_out: bool = False
    seconds: float = 1.0
    force: bool = False
    ahead: float = 0.0


VERSIONED = "V"
"""The key of which every message has a version; the others' have none."""
ANSWERS = ("good", "busy", "lost", "refuse", "mixed", "omits", "stop", "cut", "check")
OFTEN = {
    "enqueue": 10,
    "claim": 14,
    "isolate": 3,
    "answer": 22,
    "crash": 3,
    "repeat": 2,
    "wait": 9,
    "jump": 1,
    "sweep": 3,
    "replay": 4,
    "discard": 2,
    "cancel": 1,
}
"""How often each step is taken, beside the others."""
STEPS = st.builds(
    Step,
    st.sampled_from([what for what, often in OFTEN.items() for _ in range(often)]),
    which=st.integers(0, 20),
    operation=st.sampled_from([*CATALOGUE, "price", "price", "price", "label"]),
    key=st.sampled_from(["A", "A", VERSIONED, VERSIONED, "B", None]),
    version=st.sampled_from([1, 2, 3]),
    items=st.sampled_from([1, 1, 2, 3]),
    life=st.sampled_from([None, None, None, None, 2.5, 150.0]),
    unseen=st.booleans(),
    answer=st.sampled_from(ANSWERS),
    carried_out=st.booleans(),
    seconds=st.sampled_from([1.0, 2.0, 2.0, LEASE + 1]),
    force=st.booleans(),
    ahead=st.sampled_from([-JUMP, 0.0, JUMP]),
)
STORIES = st.lists(STEPS, min_size=40, max_size=60)


@dataclass
class Hand:
    """A claim in an engine's hands.

    Attributes:
        ends: when its lease does, by the engine's own clock, which is true as nobody sets it.
    """

    number: int
    token: int
    ends: float
    in_doubt: bool
    carried_out: bool | None = None
    """What a request did that outlived its lease: by then it has ended, whatever is written of it later."""


class World:
    """Takes the steps on a model, and on other outboxes that must then stand as it does."""

    def __init__(self, *others: Outbox) -> None:
        self.model = Model()
        self.others = others
        self.hands: list[Hand] = []
        self.recorded: list[tuple[int, int, Told]] = []
        self.taken_in: dict[str, int] = {}
        self.ended: dict[int, str] = {}
        self.ahead = self.furthest = 0.0
        self.taken_early: set[str] = set()
        """Items of messages that may be taken from a holder who still works on them, since the clock was set
        forward: he may carry them out after somebody has asked and was told that they are not there."""

    @property
    def true_now(self) -> float:
        return self.model.now - self.ahead

    # The steps.

    def take(self, step: Step) -> None:
        getattr(self, f"_{step.what}")(step)
        self._compare(step)
        self._keep_promises()

    def _enqueue(self, step: Step) -> None:
        number = len(self.model.rows)
        items = tuple(f"{number}-{n}" for n in range(step.items))
        version = step.version if step.key == VERSIONED else None
        for outbox in (self.model, *self.others):
            outbox.enqueue(New(step.operation, step.key, version, items, step.life, step.unseen))

    def _claim(self, _step: Step, quarantined: bool = False) -> None:
        claimed = self.model.claim(quarantined)
        for outbox in self.others:
            assert outbox.claim(quarantined) == claimed, "others were claimed"
        for number in claimed:
            row = self.model.rows[number]
            self._may_be_sent(row)
            self.hands.append(Hand(number, row.token, self.true_now + LEASE, row.in_doubt))

    def _isolate(self, step: Step) -> None:
        self._claim(step, quarantined=True)

    def _answer(self, step: Step) -> None:
        if not self.hands:
            return
        hand = self.hands.pop(step.which % len(self.hands))
        row = self.model.rows[hand.number]
        told = self._told(hand, row, step)
        self._record(hand.number, hand.token, told)

    def _crash(self, step: Step) -> None:
        """An engine dies: nobody learns what became of its request; in quarantine somebody may."""
        if self.hands:
            hand = self.hands.pop(step.which % len(self.hands))
            row = self.model.rows[hand.number]
            if hand.carried_out is None:
                self._carry_out(hand, row.items, step.carried_out)
            if row.rescues >= QUARANTINED_FROM and step.force:
                for outbox in (self.model, *self.others):
                    outbox.die(hand.number, hand.token)

    def _repeat(self, step: Step) -> None:
        """A result is written again, as by an engine whose commit was not answered."""
        if self.recorded:
            self._record(*self.recorded[step.which % len(self.recorded)])

    def _wait(self, step: Step) -> None:
        for hand in self.hands:
            if hand.carried_out is None and hand.ends < self.true_now + step.seconds:
                self._carry_out(hand, self.model.rows[hand.number].items, step.carried_out)
        self._forward(step.seconds)

    def _jump(self, step: Step) -> None:
        """The database's clock is set: forward, back, or right."""
        if step.ahead > self.ahead:
            self.taken_early |= {item for hand in self.hands for item in self.model.rows[hand.number].items}
        by, self.ahead = step.ahead - self.ahead, step.ahead
        self.furthest = max(self.furthest, self.ahead)
        self._forward(by)

    def _forward(self, seconds: float) -> None:
        self.model.now += seconds
        for outbox in self.others:
            outbox.forward(seconds)

    def _sweep(self, _step: Step) -> None:
        for outbox in (self.model, *self.others):
            outbox.sweep()

    def _replay(self, step: Step) -> None:
        self._act(step, "dead", lambda outbox, number: outbox.replay(number, step.force))

    def _discard(self, step: Step) -> None:
        self._act(step, "dead", lambda outbox, number: outbox.discard(number))

    def _cancel(self, step: Step) -> None:
        self._act(step, "pending", lambda outbox, number: outbox.cancel(number))

    def _act(self, step: Step, state: str, act: Any) -> None:
        """A person acts on a message, mostly on one in the state it is meant for."""
        meant = [row.number for row in self.model.rows if row.state == state] or range(len(self.model.rows))
        if meant:
            number = meant[step.which % len(meant)]
            done = act(self.model, number)
            for outbox in self.others:
                assert act(outbox, number) == done, f"{step} of {number} was done by one alone"

    def _record(self, number: int, token: int, told: Told) -> None:
        for outbox in (self.model, *self.others):
            outbox.record(number, token, told)
        self.recorded.append((number, token, told))

    # The receiver.

    def _carry_out(self, hand: Hand, items: Sequence[str], carried_out: bool) -> None:
        hand.carried_out = carried_out
        for item in items if carried_out else ():
            self.taken_in.setdefault(item, hand.number)

    def _told(self, hand: Hand, row: Row, step: Step) -> Told:
        known = [item in self.taken_in for item in row.items]
        if hand.carried_out is not None:
            return Told("delivered", False) if all(known) else Told("later", True)
        if step.answer == "check" and hand.in_doubt:
            verdict = "delivered" if all(known) else "untold" if any(known) else "absent"
            return Told(verdict, verdict == "untold")
        match step.answer:
            case "busy":
                return Told("later", hand.in_doubt)
            case "lost" | "cut":
                self._carry_out(hand, row.items, step.carried_out)
                return Told("later" if step.answer == "lost" else "unsent", True)
            case "stop":
                return Told("unsent", hand.in_doubt)
            case _:
                return self._reported(hand, row, known, step.answer)

    def _reported(self, hand: Hand, row: Row, known: Sequence[bool], answer: str) -> Told:
        results = [self._result(answer, place, known[place]) for place in range(len(row.items))]
        for item, result in zip(row.items, results, strict=True):
            if result in ("success", "omitted"):
                self.taken_in.setdefault(item, row.number)
        kinds = {"done" if each in DONE else "again" if each in AGAIN else "refused" for each in results}
        if len(kinds) > 1:
            return Told("split", hand.in_doubt, tuple(results))
        if kinds == {"done"}:
            return Told("delivered", False)
        return Told("refused", hand.in_doubt) if kinds == {"refused"} else Told("later", True)

    @staticmethod
    def _result(answer: str, place: int, known: bool) -> str:
        if answer == "omits" and place % 2 == 0:
            return "omitted"
        if known:
            return "duplicate"
        return {"refuse": "refused", "mixed": ("success", "refused", "retry")[place % 3]}.get(
            answer, "success"
        )

    # What must hold after each step.

    def _compare(self, step: Step) -> None:
        mine = standing(self.model)
        for outbox in self.others:
            theirs = outbox.standing()
            for number, (one, other) in enumerate(zip(mine, theirs, strict=False)):
                assert one == other, f"after {step}: message {number} stands otherwise than by the model"
            assert len(mine) == len(theirs), f"after {step}"

    def _keep_promises(self) -> None:
        for row in self.model.rows:
            if row.number in self.ended:
                assert row.state == self.ended[row.number], "what has ended stays so"
            elif row.state in ENDED:
                self.ended[row.number] = row.state
            assert (row.letter is None) == (row.state != "dead")
            assert (row.state == "sending") == (row.lease is not None)
            if row.split_from is None:  # a child begins with its parent's tries
                assert row.tries + row.rescues <= row.attempts
            open_yet = row.state == "pending" or row.letter == OPEN
            if open_yet and any(item in self.taken_in.keys() - self.taken_early for item in row.items):
                assert row.in_doubt, f"message {row.number} may have been carried out, and nobody says so"
            if row.state == "delivered" and row.number not in self._parents():
                assert all(item in self.taken_in for item in row.items), "delivered, and never taken in"

    def _parents(self) -> set[int | None]:
        return {row.split_from for row in self.model.rows}

    def _may_be_sent(self, row: Row) -> None:
        """Nothing earlier of its key is unsettled, and nothing that makes it obsolete was delivered."""
        if row.key is None:
            return
        for other in self.model.rows:
            if other.key == row.key and other.position < row.position:
                waits = other.waits_when_dead and other.letter == OPEN
                assert other.state in ENDED, f"message {row.number} overtakes {other.number}"
                assert not waits, f"message {row.number} overtakes the dead {other.number}"
            replaces = other.key == row.key and other.operation in row.superseded_by
            if replaces and other.state == "delivered" and other.number != row.number:
                later = other.position > row.position
                lower = None not in (row.version, other.version) and row.version < other.version  # type: ignore[operator]
                higher = None not in (row.version, other.version) and row.version > other.version  # type: ignore[operator]
                assert not lower, f"message {row.number} is outrun by {other.number}"
                assert not later or higher, f"message {row.number} is obsolete by {other.number}"

    # The end of every story.

    def come_to_an_end(self) -> None:
        """All goes well from now on, the clock too; a person replays what is dead: everything is settled."""
        self.take(Step("jump", ahead=0.0))
        self.take(Step("wait", seconds=self.furthest))  # what is due by a clock that was ahead is due by then
        for _ in range(60):
            self.take(Step("wait", seconds=LEASE + 1))
            self.take(Step("sweep"))
            self.take(Step("claim"))
            self.take(Step("isolate"))
            while self.hands:
                self.take(Step("answer"))
            for row in list(self.model.rows):
                if row.letter == OPEN:
                    self._act_on(row.number)
            if all(row.state in ENDED and row.letter != OPEN for row in self.model.rows):
                break
        else:
            raise AssertionError("it does not come to an end")
        self._nothing_is_lost()

    def _act_on(self, number: int) -> None:
        for outbox in (self.model, *self.others):
            assert outbox.replay(number, True)
        self._compare(Step("replay", which=number, force=True))
        self._keep_promises()

    def _nothing_is_lost(self) -> None:
        for row in self.model.rows:
            if row.state == "superseded":
                outlived = any(other.state != "superseded" for other in self.model.replacing(row))
                assert outlived, f"message {row.number} gave way to what gave way itself"
        given_up = {
            item
            for row in self.model.rows
            if row.state in ("superseded", "cancelled") or row.letter == "discarded"
            for item in row.items
        }
        for row in self.model.rows:
            for item in row.items:
                assert item in self.taken_in or item in given_up, f"item {item} is lost"


def standing(model: Model) -> list[tuple[Any, ...]]:
    """Return how each message of a model stands, as it is compared."""
    return [
        (
            row.operation,
            row.key,
            row.version,
            row.state,
            None if row.due is None or row.state == "sending" else max(row.due - model.now, 0.0),
            row.blocks,
            row.position,
            row.attempts,
            row.tries,
            row.rescues,
            row.in_doubt,
            row.replay_of,
            row.split_from,
            row.letter,
            row.items,
        )
        for row in model.rows
    ]
