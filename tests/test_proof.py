"""A process that is killed, wherever it is, loses nothing, and sends nothing that was not counted before."""

from __future__ import annotations

import signal

import pytest
from sqlalchemy import select

from orderflow_outbox import Catalogue, Operation, Scope, enqueue
from orderflow_outbox.tables import dead_letter, message
from tests.databases import on_postgresql, on_sqlite
from tests.documents import order
from tests.proof.book import entries
from tests.proof.checker import repeats
from tests.proof.receiver import AFTER_LAST_BYTE, MID_BODY
from tests.proof.stage import stage
from tests.rig import Place, eventually
from worker.failpoints import VARIABLE, Failpoint

ORDERS, KEYS = 30, 10
ON_THE_WAY = [
    Failpoint.BEFORE_CLAIM_COMMITS,
    Failpoint.AFTER_CLAIM_COMMITS,
    Failpoint.AFTER_REPLY,
    Failpoint.BEFORE_RESULT_COMMITS,
    Failpoint.AFTER_RESULT_COMMITS,
    Failpoint.IN_BURY,
    Failpoint.IN_UNPARK,
]
HOOKS = '[{ command = ["true"] }]'
STOCK_COUNT = """
[operations.stock-count]
path = "import/stock"
scope = "channel"
body_root = "imports"
supersedes = ["stock-count"]
"""


@pytest.mark.parametrize("failpoint", ON_THE_WAY)
def test_an_engine_killed_on_the_way_loses_nothing(place: Place, failpoint: Failpoint) -> None:
    with stage(place) as made:
        made.produce(ORDERS, KEYS)
        made.dies(failpoint)
        in_flight = made.in_flight()
        assert repeats(made.assert_all_kept()) <= in_flight


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
        shop = made.start("tests.proof.producer", str(made.committed_book), "0", "100000", "50")
        eventually(lambda: len(entries(made.committed_book)) >= 20)
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
def test_without_being_asked_a_failpoint_does_nothing(place: Place) -> None:
    with stage(place) as made:
        made.produce(5, 5)
        made.assert_all_kept()
        with made.rig.engine.connect() as connection:
            assert set(connection.scalars(select(message.c.attempts))) == {1}
