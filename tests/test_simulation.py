"""Whatever happens to engines, at whatever step, the promises hold: each seed is a story of its own.

What a story is made of: `tests/simulation/world.py`. To see one that failed, add its seed to `SEEDS`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import SystemRandom

import pytest

from config import Configuration, load
from tests.simulation.database import Database
from tests.simulation.world import World

SEEDS = (2, 3, 4, 5, 7, 11)
MORE_SEEDS = (1, 6, 8, 9, 10, *range(12, 20))
ONCE_FAILED = (1215,)
"""Seeds of stories in which a promise was broken."""
SOAK_SECONDS = 900.0

CONFIGURATION = """
[engine]
lease = "3s"
sweep = "2s"
drain = "100ms"
[alerts]
grouping = "1s"
reminder = "3s"
disk_free = 0.0
hooks = [{ command = ["true"] }]
"""
DESTINATION = """
[destinations.{name}]
url = "http://127.0.0.1:1/"
private_addresses = true
user = "shop"
password = {{ env = "ORDERFLOW_MAIN_PASSWORD" }}
window = {window}
attempt_deadline = "500ms"
[destinations.{name}.breaker]
first_probe = "500ms"
longest_probe = "2s"
[destinations.{name}.retry]
retry_after = ["200ms", "500ms", "1s", "2s"]
"""


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configuration]:
    folder = tmp_path_factory.mktemp("configuration")
    (folder / "outbox.toml").write_text(f'database_url = "sqlite:///{folder}/unused.db"\n{CONFIGURATION}')
    (folder / "destinations.toml").write_text(
        DESTINATION.format(name="main", window=4) + DESTINATION.format(name="second", window=1)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERFLOW_MAIN_PASSWORD", "demo")
        yield load(folder / "outbox.toml")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database(tmp_path_factory.mktemp("database"))


def story(seed: int, database: Database, configuration: Configuration, harm: str = "") -> World:
    database.empty(harm)
    world = World(seed, database, configuration)
    world.run()
    return world


@pytest.mark.parametrize(
    "seed", [*SEEDS, *ONCE_FAILED, *(pytest.param(seed, marks=pytest.mark.soak) for seed in MORE_SEEDS)]
)
def test_whatever_happens_at_whatever_step_the_promises_hold(
    seed: int, database: Database, configuration: Configuration
) -> None:
    world = story(seed, database, configuration)
    assert not world.violations, world.told()


def test_the_same_seed_tells_the_same_story(database: Database, configuration: Configuration) -> None:
    once, again = (story(2, database, configuration) for _ in range(2))
    assert once.kills
    assert once.trace == again.trace


SABOTAGE = {
    "the token is not raised": ("lease_token = OLD.lease_token", "lease: "),
    "the attempt is not counted before it is made": ("attempts = OLD.attempts", "uncounted: "),
    "a follower goes before its elder has ended": ("blocks = 0", "order: "),
    "the lease ends before the attempt does": ("lease_until = OLD.created_at", "evidence: "),
    "the claim is given up at once": ("state = 'pending', lease_until = NULL", "evidence: "),
}


@pytest.mark.parametrize(("harm", "told"), SABOTAGE.values(), ids=SABOTAGE.keys())
def test_an_engine_without_one_of_its_guards_is_found_out(
    harm: str, told: str, database: Database, configuration: Configuration
) -> None:
    world = story(1, database, configuration, harm)
    assert [line for line in world.violations if line.startswith(told)], world.told()


@pytest.mark.soak
@pytest.mark.timeout(2 * SOAK_SECONDS)
def test_in_thousands_of_stories_the_promises_hold(database: Database, configuration: Configuration) -> None:
    first, ends = SystemRandom().randrange(10**9), time.monotonic() + SOAK_SECONDS
    stories = kills = 0
    while time.monotonic() < ends:
        world = story(first + stories, database, configuration)
        assert not world.violations, world.told()
        stories, kills = stories + 1, kills + world.kills
    print(f"\n{stories} stories from seed {first} on, in which {kills} processes were killed")  # noqa: T201
