"""The dead letters that Flower's page shows, and what its buttons do, on both kinds of database."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine

from orderflow_outbox.errors import OutboxError
from orderflow_outbox.tables import dead_letter
from tasks.flower import desk
from tasks.flower.dead_letters import DeadLetters
from tasks.flower.desk import Cause, Done
from tests.databases import on_sqlite
from tests.documents import order
from tests.steps import Clock, bury, finish, put, rows, why
from worker.store.transactions import Store
from worker.verdicts import Refused

MISSING = Cause("no_article", "order-import", "main")
BROKEN = Cause("broken", "order-import", "main")
SECOND = timedelta(seconds=1)


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def dead(engine: Engine, store: Store, clock: Clock, number: int, cause: Cause = MISSING) -> list[int]:
    """Have messages die of one cause, each a second after the one before."""
    ids = []
    for _ in range(number):
        clock.forward(SECOND)
        ids.append(bury(store, engine, cause.reason))
    return ids


@pytest.mark.parametrize("space", [" ", "\t", "  "])
def test_who_did_it_is_the_login_however_its_parts_are_parted(space: str) -> None:
    given = {"Authorization": f"Basic{space}{b64encode(b'ann:secret').decode()}"}
    assert DeadLetters._name_given(SimpleNamespace(request=SimpleNamespace(headers=given))) == "ann"


@on_sqlite
def test_nothing_personal_is_shown(engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_PERSONAL_DATA__FIELDS", '["deliveryPostCode"]')
    put(engine, payload=order("SO-1"), key="order:AB1 2CD")
    finish(store, Refused(why("no_such", "nobody lives at AB1 2CD")))
    (letter,) = desk.look(Cause(), 1).letters
    assert (letter.key, letter.text) == ("order:•••", "nobody lives at •••")


def test_letters_are_grouped_by_cause_and_listed_the_newest_first(
    engine: Engine, store: Store, clock: Clock
) -> None:
    broken = dead(engine, store, clock, 1, BROKEN)
    missing = dead(engine, store, clock, 2)
    shown = desk.look(Cause(), 1)
    assert [(each.cause, each.number, each.in_doubt) for each in shown.groups] == [
        (MISSING, 2, 0),
        (BROKEN, 1, 0),
    ]
    assert [each.message_id for each in shown.letters] == [*reversed(missing), *broken]
    assert [each.message_id for each in desk.look(BROKEN, 1).letters] == broken
    group = shown.groups[0]
    assert group.first < group.last == f"{clock.now:%Y-%m-%d %H:%M:%S}"


@on_sqlite
def test_a_page_is_bounded_and_no_letter_is_between_two(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "LETTERS_A_PAGE", 2)
    monkeypatch.setattr(desk, "MOST_PAGES", 2)
    ids = dead(engine, store, clock, 5)
    pages = [desk.look(MISSING, number) for number in (1, 2, 3)]
    assert [[each.message_id for each in page.letters] for page in pages] == [
        [ids[4], ids[3]],
        [ids[2], ids[1]],
        [ids[2], ids[1]],
    ]
    assert {(page.pages, page.is_cut) for page in pages} == {(2, True)}


def test_a_group_is_replayed_as_one(engine: Engine, store: Store, clock: Clock) -> None:
    missing, broken = dead(engine, store, clock, 2), dead(engine, store, clock, 1, BROKEN)
    done = desk.act_on_group(desk.REPLAY, MISSING, clock.now, 3, "ann", "article added")
    assert (done.text, done.well) == ("replayed: 2", True)
    letters = {each["message_id"]: each for each in rows(engine, dead_letter)}
    told = [(letters[each]["resolution"], letters[each]["resolved_by"]) for each in (*missing, *broken)]
    assert told == [("replayed", "ann"), ("replayed", "ann"), ("open", None)]


@pytest.mark.parametrize("verb", [desk.REPLAY, desk.DISCARD])
def test_what_dies_after_a_group_was_shown_is_left_alone(
    engine: Engine, store: Store, clock: Clock, verb: str
) -> None:
    dead(engine, store, clock, 2)
    (shown,) = desk.look(Cause(), 1).groups
    (later,) = dead(engine, store, clock, 1)
    until = datetime.fromisoformat(shown.until)
    assert desk.act_on_group(verb, MISSING, until, shown.number - 1, "ann", "a test") == Done(
        "there are 2 by now, and 1 were shown: look at them first", well=False
    )
    assert desk.act_on_group(verb, MISSING, until, shown.number, "ann", "a test").well
    open_ones = [each["message_id"] for each in rows(engine, dead_letter) if each["resolution"] == "open"]
    assert open_ones == [later]


@on_sqlite
def test_a_group_that_is_too_large_is_for_the_command_line(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_AT_ONCE", 2)
    dead(engine, store, clock, 3)
    (group,) = desk.look(Cause(), 1).groups
    assert group.is_too_large
    done = desk.act_on_group(desk.REPLAY, MISSING, clock.now, 3, "ann", "article added")
    command = (
        "python -m worker dead replay --reason no_article --operation order-import --destination main --why …"
    )
    assert (done.text, done.well) == (f"more than 2 are too many for a page: {command}", False)
    assert group.command == command
    assert {each["resolution"] for each in rows(engine, dead_letter)} == {"open"}


@on_sqlite
def test_what_cannot_be_done_is_said_and_the_rest_is_done(engine: Engine, store: Store, clock: Clock) -> None:
    first, second = dead(engine, store, clock, 2)
    assert desk.act_on(desk.DISCARD, [first], "ann", "a test").well
    done = desk.act_on(desk.DISCARD, [first, second, 999], "ann", "a test")
    assert not done.well
    assert done.text == (
        f"discarded: 1; message {first} was discarded already: nothing is left to discard; "
        "there is no message 999"
    )
    again = desk.act_on(desk.REPLAY, [first], "ann", "after all")
    assert (again.text, again.well) == (f"message {first} was discarded: enqueue it anew", False)


@on_sqlite
def test_after_its_time_nothing_more_of_a_group_is_begun(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "ACTING_SECONDS", -1.0)
    dead(engine, store, clock, 2)
    done = desk.act_on_group(desk.DISCARD, MISSING, clock.now, 3, "ann", "a test")
    assert (done.text, done.well) == (
        "discarded: 0; 2 are left, for which there was no time: do it again",
        False,
    )


def test_a_letter_is_shown_without_what_it_repeats_of_the_document(
    engine: Engine, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = order("SO-PRIVATE")
    repeated = document[40:90]
    message_id = put(engine, payload=document)
    finish(store, Refused(why("broken", f"cannot read {repeated} here")))
    (letter,) = desk.look(Cause(), 1).letters
    assert repeated not in letter.text
    assert letter.text.startswith("cannot read")
    monkeypatch.setattr(desk, "LARGEST_COMPARED", 10)
    (letter,) = desk.look(Cause(), 1).letters
    assert letter.text == f"its document is too large to tell here: python -m worker show {message_id}"


@on_sqlite
def test_a_database_of_another_release_is_said_in_one_line(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM outbox_schema_version")
    with pytest.raises(OutboxError) as caught:
        desk.look(Cause(), 1)
    assert "\n" not in str(caught.value)


def test_text_is_shown_on_one_line_with_dots_for_what_is_not_for_the_eye() -> None:
    assert desk.shown("a\x1b[2Jb\nc\u202ed") == "a·[2Jb·c·d"
    assert desk.shown("x" * 301) == "x" * 300 + "…"
    assert desk.shown(None) == "–"
