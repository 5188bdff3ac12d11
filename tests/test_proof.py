"""A process that is killed, wherever it is, loses nothing, and sends nothing that was not counted before."""

from __future__ import annotations

import random
import signal
import sys

import pytest
from sqlalchemy import select

from orderflow_outbox import Catalogue, Operation, Scope, enqueue
from orderflow_outbox.tables import audit, dead_letter, message
from tests.databases import on_postgresql, on_postgresql_first, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.proof.checker import repeats, violations
from tests.proof.producer import EARLY, HINTED
from tests.proof.receiver import AFTER_LAST_BYTE, MID_BODY
from tests.proof.stage import REPLAY_ALL, UNHURRIED, Stage, stage
from tests.rig import Place, eventually
from tests.steps import REFUSED, claim_all, outcome, put, recorder
from worker.commands import main
from worker.failpoints import VARIABLE, Failpoint
from worker.store.transactions import Store

ORDERS, KEYS = 13, 5
"""The thirteenth is refused."""
SEED = 20_261_126
ON_THE_WAY = [
    Failpoint.BEFORE_CLAIM_COMMITS,
    Failpoint.AFTER_CLAIM_COMMITS,
    Failpoint.AFTER_REPLY,
    Failpoint.BEFORE_RESULT_COMMITS,
    Failpoint.AFTER_RESULT_COMMITS,
    Failpoint.IN_BURY,
    Failpoint.IN_UNPARK,
]
NEED_MORE = {Failpoint.IN_BURY, Failpoint.IN_UNPARK}
"""A quick engine may have recorded all that can die, or that others wait for, before it died itself."""
HOOKS = '[{ command = ["true"] }]'
STOCK_COUNT = """
[operations.stock-count]
path = "import/stock"
scope = "channel"
body_root = "imports"
supersedes = ["stock-count"]
"""


def test_engines_killed_at_each_step_on_the_way_lose_nothing(place: Place) -> None:
    with stage(place) as made:
        made.produce(3 * ORDERS, 3 * KEYS)
        in_flight, sold = set(), 3 * ORDERS
        for failpoint in ON_THE_WAY:
            if failpoint in NEED_MORE:
                made.produce(ORDERS, KEYS, first=sold)
                sold += ORDERS
            made.dies(failpoint)
            in_flight |= {(row.id, row.attempts) for row in made.rig.rows() if row.state == "sending"}
        assert repeats(made.assert_all_kept()) <= len(in_flight)


@on_sqlite
@pytest.mark.parametrize("stall", [MID_BODY, AFTER_LAST_BYTE])
def test_an_engine_killed_in_the_middle_of_a_request_loses_nothing(place: Place, stall: str) -> None:
    with stage(place, f"{stall}:7") as made:
        made.produce(ORDERS, KEYS)
        with made.engine() as doomed:
            eventually(lambda: any(each["event"] == "stalled" for each in made.received()))
            doomed.kill()
        in_flight = made.in_flight()
        assert repeats(made.assert_all_kept()) <= in_flight


@on_sqlite_first
def test_a_sweep_that_is_killed_takes_back_what_the_next_one_finds(place: Place) -> None:
    with stage(place) as made:
        made.produce(ORDERS, KEYS)
        made.dies(Failpoint.AFTER_CLAIM_COMMITS)
        made.dies(Failpoint.IN_SWEEP)
        seen = made.assert_all_kept()
        assert any(row.rescues for row in seen.messages)


@on_sqlite
def test_a_process_killed_while_it_alerts_loses_nothing(place: Place) -> None:
    with stage(place, hooks=HOOKS) as made:
        made.produce(ORDERS, KEYS)
        made.dies(Failpoint.IN_ALERT)
        seen = made.assert_all_kept()
        assert seen.letters
        assert all(each.alerts_sent == 0 for each in seen.incidents), "the alert is not called sent"


@on_postgresql_first
def test_a_replay_that_is_killed_leaves_nothing_and_can_be_repeated(place: Place) -> None:
    with stage(place) as made:
        made.produce(13, 13)
        made.assert_all_kept()
        with made.rig.engine.connect() as connection:
            (dead,) = connection.scalars(select(dead_letter.c.message_id))
        words = ("dead", "replay", str(dead), "--by", "ann", "--why", "mended")
        killed = made.start("worker", *words, more={VARIABLE: Failpoint.IN_REPLAY})
        assert killed.wait(30) == -signal.SIGKILL
        assert len(made.seen().messages) == 13, "no half of a replay is left"
        assert made.start("worker", *words).wait(30) == 0
        seen = made.assert_all_kept()
        assert [row.replay_of for row in seen.messages[13:]] == [dead]


def bury_many(made: Stage, count: int) -> list[int]:
    """Have orders die at once; return their numbers."""
    store = Store(made.rig.engine)
    ids = [put(made.rig.engine) for _ in range(count)]
    assert recorder(store).record([outcome(each, REFUSED) for each in claim_all(store, room=count).claims])
    return ids


def replays(made: Stage) -> list[int]:
    """Return the numbers of the messages that have been replayed."""
    with Store(made.rig.engine).reading() as transaction:
        origins = select(message.c.replay_of).where(message.c.replay_of.is_not(None))
        return sorted(transaction.connection.scalars(origins))


def replay_all() -> None:
    """Replay all dead letters, as the command does."""
    sys.exit(main(list(REPLAY_ALL)))


def replay_and_kill(made: Stage, enough: int) -> bool:
    """Have all dead letters replayed, and that killed after so many; return whether it was done by then."""
    replaying = made.fork(replay_all)
    eventually(lambda: len(replays(made)) >= enough or not replaying.is_alive())
    replaying.kill()
    replaying.join()
    assert replaying.exitcode in (0, -signal.SIGKILL)
    return replaying.exitcode == 0


@pytest.mark.parametrize(
    "letters", [18, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
@on_sqlite_first
def test_a_replay_of_many_that_is_killed_until_it_is_done_sends_each_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, letters: int
) -> None:
    chance, kills = random.Random(SEED), 0
    with stage(place, **UNHURRIED) as made:
        monkeypatch.setenv("OUTBOX_CONFIG", str(made.rig.file))
        dead = bury_many(made, letters)
        while not replay_and_kill(made, len(replays(made)) + chance.randint(1, 6)):
            kills += 1
        assert kills
        assert replays(made) == dead
        seen = made.assert_all_kept()
        assert {each.resolution for each in seen.letters} == {"replayed"}
        assert (len(seen.requests), repeats(seen)) == (letters, 0)
        with made.rig.engine.connect() as connection:
            assert sorted(connection.scalars(select(audit.c.message_id))) == dead


@on_postgresql_first
def test_an_engine_killed_while_it_retires_what_is_obsolete_loses_nothing(place: Place) -> None:
    unseen = Operation("stock-count", "import/stock", Scope.CHANNEL, body_root="imports")
    with stage(place, broker_keys='operations_file = "operations.toml"') as made:
        (place.folder / "operations.toml").write_text(STOCK_COUNT)
        for number in (1, 2):
            with made.rig.engine.begin() as connection:
                enqueue(
                    connection,
                    "stock-count",
                    order(f"COUNT-{number}"),
                    channel="web",
                    key="stock",
                    idempotency_key=f"count-{number}",
                    catalogue=Catalogue([unseen]),
                )
        made.dies(Failpoint.IN_SUPERSEDE)
        seen = made.assert_all_kept()
        assert [row.state for row in seen.messages] == ["superseded", "delivered"]


def test_a_shop_killed_around_its_commits_has_committed_what_it_noted(place: Place) -> None:
    with stage(place) as made:
        shop = made.shop(100_000, 50)
        eventually(lambda: len(made.seen().committed) >= 10)
        shop.kill()
        shop.wait()
        seen = made.assert_all_kept()
        unnoted = {row.id for row in seen.messages} - {each["id"] for each in seen.committed}
        assert len(unnoted) <= 1, "the one whose COMMIT was carried out, and not heard of"


SABOTAGE = {
    "the token is not raised": ("NEW.lease_token := OLD.lease_token", None, "lease: message"),
    "the attempt is not counted before it is made": ("NEW.attempts := OLD.attempts", None, "uncounted: "),
    "a follower goes before its elder has ended": (
        "NEW.blocks := FALSE",
        Failpoint.AFTER_REPLY,
        "order: message",
    ),
}


@on_postgresql
@pytest.mark.parametrize(("harm", "dies", "told"), SABOTAGE.values(), ids=SABOTAGE.keys())
def test_a_service_without_one_of_its_guards_is_found_out(
    place: Place, harm: str, dies: Failpoint | None, told: str
) -> None:
    with stage(place) as made:
        with made.rig.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF OLD.state = 'pending' AND NEW.state = 'sending' THEN {harm}; END IF; RETURN NEW; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER sabotage BEFORE UPDATE ON outbox_message "
                "FOR EACH ROW EXECUTE FUNCTION sabotage()"
            )
        made.produce(ORDERS, keys=1)
        if dies is not None:
            made.dies(dies, times=2)
        with pytest.raises(AssertionError, match=told):
            made.assert_all_kept()


@on_sqlite
def test_a_shop_that_hints_before_its_commit_is_found_out(place: Place) -> None:
    with stage(place) as made:
        made.produce(1, 1, EARLY)
        broken = violations(made.seen(), at_rest=False)
    assert broken == ["early: a hint left while the transaction of 'order-0' was open"]


@on_sqlite
def test_a_shop_goes_on_whose_commit_was_kept_though_it_broke_off(place: Place) -> None:
    with stage(place) as made:
        made.produce(1, 1)
        made.produce(1, 1)  # as it tries again, not knowing
        assert len(made.rig.rows()) == 1


@on_sqlite
def test_without_being_asked_a_failpoint_does_nothing(place: Place) -> None:
    with stage(place) as made:
        made.produce(5, 5)
        seen = made.assert_all_kept()
        assert any(each["event"] == HINTED for each in seen.shop), "that hints come in time means something"
        with made.rig.engine.connect() as connection:
            assert set(connection.scalars(select(message.c.attempts))) == {1}
