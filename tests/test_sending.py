"""What is in hand is sent in its order, as soon as there are slots, and given back where there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Engine

from tests.steps import DELIVERED, LEASE, Clock, claim_all, destinations, outcome, put
from worker.deliveries import Claim, Outcome
from worker.holding import Holding
from worker.in_hand import InHand
from worker.ports import announce_nothing
from worker.sending import Sending
from worker.store.transactions import Store


class Attempts:
    """Attempts that wait until they are answered."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.judged_after: list[int] = []
        self.answer = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self, claim: Claim, _lease_ends: float) -> Outcome:
        self.begun.append(claim.id)
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            return Outcome(claim, None, in_doubt=True)
        if self.error is not None:
            raise self.error
        return outcome(claim, DELIVERED)

    def judge(self, answered: Outcome) -> Outcome:
        self.judged_after.append(len(self.begun))
        return answered

    def unsent(self, claim: Claim) -> Outcome:
        return Outcome(claim, None)


class Stage:
    """An engine's sending, with the messages that it has in hand and three slots."""

    def __init__(self, store: Store, claims: list[Claim]) -> None:
        async def at_once(work: Callable[[], object]) -> object:
            return work()

        self.ids = [each.id for each in claims]
        self.came: list[Outcome] = []
        self.attempts = Attempts()
        self.holding = Holding(store, destinations(), LEASE, at_once, lambda: 0.0)  # type: ignore[arg-type]
        self.in_hand = InHand(["main"])
        self.in_hand.take(claims, 0.0)
        self.slots = self.holding.slots["main"]
        self.slots.grant(3, 1.0)
        self.sending = Sending(
            self.holding,
            self.in_hand,
            self.attempts,  # type: ignore[arg-type]
            announce_nothing,
            self.came.append,
        )

    async def begin(self) -> None:
        self.sending.go_on()
        await asyncio.sleep(0)


Told = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(engine: Engine) -> Callable[[Told], None]:
    """Return what plays a story on a stage with five messages in hand."""
    store = Store(engine, Clock())
    for _ in range(5):
        put(engine)
    claims = claim_all(store).claims

    def played(story: Told) -> None:
        async def on_stage() -> None:
            await story(Stage(store, claims))

        asyncio.run(asyncio.wait_for(on_stage(), 10))

    return played


def test_as_many_are_sent_as_there_are_slots_and_the_next_as_one_comes_free(
    play: Callable[[Told], None],
) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        assert stage.attempts.begun == stage.ids[:3]
        assert (stage.in_hand.sending("main"), stage.in_hand.waiting("main")) == (3, 2)
        stage.attempts.answer.set()
        while len(stage.came) < 5:
            await asyncio.sleep(0)
        assert stage.attempts.begun == stage.ids
        assert (stage.slots.in_use, stage.in_hand.are_sending) == (0, False)

    play(story)


def test_where_many_are_answered_at_once_the_next_are_sent_before_one_is_judged(
    play: Callable[[Told], None],
) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        stage.attempts.answer.set()
        while len(stage.came) < 5:
            await asyncio.sleep(0)
        assert stage.attempts.judged_after[0] == 5

    play(story)


def test_what_waits_is_given_back_and_what_is_being_sent_goes_on(play: Callable[[Told], None]) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        stage.sending.give_back(["main"])
        assert [(each.claim.id, each.request) for each in stage.came] == [(n, None) for n in stage.ids[3:]]
        assert (stage.in_hand.sending("main"), stage.in_hand.waiting("main")) == (3, 0)

    play(story)


def test_after_a_stop_none_is_begun(play: Callable[[Told], None]) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin()
        stage.sending.stop()
        stage.attempts.answer.set()
        while len(stage.came) < 3:
            await asyncio.sleep(0)
        await stage.begin()
        assert stage.attempts.begun == stage.ids[:3]

    play(story)


def test_what_is_cut_short_says_so_even_before_its_first_step(play: Callable[[Told], None]) -> None:
    async def story(stage: Stage) -> None:
        stage.sending.go_on()
        stage.sending.stop()
        await stage.in_hand.cut_short()
        came = sorted((each.claim.id, each.in_doubt) for each in stage.came)
        assert came == [(number, True) for number in stage.ids[:3]]

    play(story)


def test_an_attempt_that_breaks_frees_its_slot(play: Callable[[Told], None]) -> None:
    async def story(stage: Stage) -> None:
        stage.attempts.error = ZeroDivisionError()
        await stage.begin()
        stage.attempts.answer.set()
        await asyncio.gather(*stage.in_hand._tasks, return_exceptions=True)
        assert (stage.slots.in_use, stage.in_hand.are_sending) == (0, False)

    play(story)


def test_the_outcome_of_a_probe_says_that_it_was_one(play: Callable[[Told], None]) -> None:
    async def story(stage: Stage) -> None:
        stage.slots.grant(3, 1.0, to_begin=1)
        stage.holding._probing.add("main")
        await stage.begin()
        stage.attempts.answer.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [each.probe for each in stage.came] == [True]

    play(story)
