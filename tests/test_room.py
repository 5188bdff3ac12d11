"""How much an engine takes on: what it is about to send, and no more than it can hold."""

from __future__ import annotations

from tests.steps import destinations
from worker.deliveries import Claim, Outcome, Request
from worker.in_hand import InHand
from worker.room import MOST_AHEAD, MOST_AHEAD_OF_A_SLOT, MOST_BYTES_IN_HAND, Pace, Room
from worker.slots import Slots

REQUEST = Request("POST", "https://orderflow.example/", {}, {}, b"")


class Held:
    """Slots of one destination, held by an engine."""

    def __init__(self, slots: int, to_begin: int | None = None) -> None:
        self.slots = {"main": Slots(lambda: 0.0)}
        self.slots["main"].grant(slots, 1.0, to_begin)


def room_with(
    slots: int,
    answers: int = 0,
    waiting: int = 0,
    size: int = 0,
    to_begin: int | None = None,
    request: Request | None = REQUEST,
) -> dict[str, int]:
    """Return the room of an engine with so many answers in the last second, and messages in hand."""
    now = [0.0]
    in_hand = InHand(["main"])
    room = Room(destinations(), Held(slots, to_begin), in_hand, lambda: now[0])  # type: ignore[arg-type]
    for _ in range(answers):
        room.answered(Outcome(claim_of_bytes(0), None, request=request))
    now[0] = 1.0
    in_hand.take([claim_of_bytes(size)] * waiting, 0.0)
    return room.free()


def claim_of_bytes(size: int) -> Claim:
    claim = object.__new__(Claim)
    object.__setattr__(claim, "destination", "main")
    object.__setattr__(claim, "payload", b"x" * size)
    return claim


def test_as_many_wait_as_there_are_slots_while_nothing_is_answered() -> None:
    assert room_with(slots=8) == {"main": 16}
    assert room_with(slots=8, waiting=12) == {}, "a claim of a few takes hardly less than one of many"


def test_the_more_are_answered_the_more_are_claimed_ahead() -> None:
    assert room_with(slots=40, answers=1000) == {"main": 40 + 150}
    assert room_with(slots=128, answers=100_000) == {"main": 128 + MOST_AHEAD}


def test_what_was_given_back_unsent_makes_no_room() -> None:
    assert room_with(slots=40, answers=1000, request=None) == {"main": 80}


def test_with_few_slots_few_wait_however_fast_the_answers() -> None:
    assert room_with(slots=2, answers=100_000) == {"main": 2 + 2 * MOST_AHEAD_OF_A_SLOT}


def test_nothing_is_claimed_without_a_slot_or_with_too_many_bytes_in_hand() -> None:
    assert room_with(slots=0, answers=1000) == {}
    assert room_with(slots=8, waiting=2, size=MOST_BYTES_IN_HAND // 2) == {}
    assert room_with(slots=8, waiting=2, size=MOST_BYTES_IN_HAND // 2 - 1) == {"main": 14}


def test_where_only_so_many_may_begin_no_more_are_claimed() -> None:
    assert room_with(slots=8, to_begin=1) == {"main": 1}
    assert room_with(slots=8, to_begin=0) == {}


def test_the_pace_is_that_of_the_latest_answers() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for _ in range(50):
        pace.count()
    now[0] = 0.1
    assert pace.per_second == 0, "too soon to tell"
    now[0] = 0.5
    assert pace.per_second == 100
    now[0] = 1.0
    assert pace.per_second == 0


def test_documents_are_in_hand_until_their_results_are_written() -> None:
    in_hand, claim = InHand(["main"]), claim_of_bytes(10)
    in_hand.take([claim], 0.0)
    assert in_hand.bytes == 10
    assert in_hand.next("main")
    assert in_hand.bytes == 10, "it is being sent"
    in_hand.recorded([Outcome(claim, None)])
    assert in_hand.bytes == 0
