"""Whatever happens in whatever order, the promises hold: on a model, and on a real store that is as it is.

The stories here are always the same; in the longer storms they are new each time.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from sqlalchemy import Engine

from tests.model import JUMP
from tests.real_outbox import RealOutbox
from tests.world import STORIES, Step, World

ON_ONE_DATABASE = [HealthCheck.function_scoped_fixture]
"""It is emptied before each story."""

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""To make a story of a database shorter would take minutes."""

TAKEN_EARLY = [
    Step("enqueue", key="A"),
    Step("enqueue", key="A"),
    Step("claim"),
    Step("jump", ahead=JUMP),
    Step("sweep"),
    Step("claim"),
    Step("answer", which=1, answer="check"),
    Step("answer"),
]
"""The clock is set forward: a message is taken from a holder who carries it out all the same."""
PUT_OFF = [
    Step("enqueue", key="A"),
    Step("enqueue", key="B"),
    Step("claim"),
    Step("jump", ahead=-JUMP),
    Step("answer", answer="busy"),
    Step("crash", carried_out=True),
    Step("enqueue", key="B"),
    Step("wait"),
    Step("sweep"),
    Step("claim"),
    Step("answer"),
]
"""The clock is set back in the middle of two leases; of one of them nobody hears before it is right again."""


def told(world: World, story: list[Step]) -> None:
    """Have a story happen in `world`, and come to its end."""
    for step in story:
        world.take(step)
    world.come_to_an_end()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(story=STORIES)
@example(story=TAKEN_EARLY)
@example(story=PUT_OFF)
def test_a_model_keeps_its_promises_whatever_happens(story: list[Step]) -> None:
    told(World(), story)


@settings(
    max_examples=3, deadline=None, derandomize=True, phases=UNSHRUNK, suppress_health_check=ON_ONE_DATABASE
)
@given(story=STORIES)
@example(story=TAKEN_EARLY)
@example(story=PUT_OFF)
def test_the_real_store_stands_as_the_model_whatever_happens(engine: Engine, story: list[Step]) -> None:
    told(World(RealOutbox(engine)), story)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@settings(max_examples=500, deadline=None, phases=UNSHRUNK, suppress_health_check=ON_ONE_DATABASE)
@given(story=STORIES)
def test_the_real_store_stands_as_the_model_in_many_stories(engine: Engine, story: list[Step]) -> None:
    told(World(RealOutbox(engine)), story)
