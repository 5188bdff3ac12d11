"""A customer who asks for it is erased: nothing of what was said is left, all that was done still shows."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text, update

from orderflow_outbox import PREDEFINED, enqueue, status_of
from orderflow_outbox.tables import (
    attempt,
    audit,
    body,
    dead_letter,
    edit,
    gate,
    incident,
    item,
    metadata,
    replay_run,
    term,
    unindexed,
)
from tests.databases import on_postgresql, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.shell import Shell
from tests.steps import (
    DELIVERED,
    another_connection,
    bury,
    claim_all,
    configuration,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
)
from worker.by_hand import NotPossible, discard, hold, resume
from worker.commands import FAILED, USAGE_ERROR
from worker.deliveries import Reply
from worker.erase import erase, erase_elsewhere
from worker.indexer import index_some
from worker.personal_data import MASK, PersonalData
from worker.replays import runs
from worker.replays.editing import Editor
from worker.replays.replaying import replay
from worker.replays.run import Care
from worker.schemas import Schemas
from worker.store import erasing, gates, text_index
from worker.store.finding import Filter
from worker.store.resolving import note_audit
from worker.store.transactions import Store
from worker.verdicts import ItemResult, Refused, Why

NAME = "Zarathustrason"
CODE = "QX7 7XQ"
WHO = ("--why", "the customer asked for it", "--by", "ann")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("OUTBOX_PERSONAL_DATA__FIELDS", '["orderAddress.lastName", "deliveryPostCode", "sku"]')
    return Shell(capsys)


def document(reference: str = "SO-1001") -> str:
    named = f"orderAddress.lastName={NAME}\ndeliveryPostCode={CODE}\nplaced="
    return (
        order(reference, sku=f"SKU-{NAME}")
        .replace("deliveryPostCode=AB1 2CD\n", "")
        .replace("placed=", named)
    )


def of_a_customer(engine: Engine, store: Store) -> tuple[int, int, int]:
    """Have a customer with a message delivered, a dead one, and its replay; return their numbers."""
    of_it: dict[str, Any] = {
        "payload": document(),
        "key": "order:SO-1001",
        "query": {"deliveryPostCode": CODE},
    }
    of_it["headers"] = {"X-Customer": NAME}
    delivered = put(engine, **of_it)
    reply = Reply(200, (("x-name", NAME),), f"<r>welcome, <b>{NAME}</b></r>".encode())
    finish(store, DELIVERED, reply=reply)
    dead = put(engine, **of_it)
    refused = Refused(Why("items_failed", f"{NAME.upper()} is no customer", "a-rule"))
    made = outcome(claim_all(store).claims[0], refused, reply, items=(ItemResult(1, NAME, refused),))
    assert recorder(store).record([made])
    again = replay(store, dead, "ann", f"called {NAME}").replay
    finish(store, DELIVERED, reply=reply)
    with store.writing() as transaction:
        detail = {"query": "order-detail", "reply_body": f"<r><n>{NAME}</n></r>"}
        note_audit(transaction, verb="query", by="ann", why="asked", detail=detail)
        gates.lock(transaction, "main")
        transaction.connection.execute(update(gate).values(text=f"held by {NAME}"))
    return delivered, dead, again


def left_of(engine: Engine, *words: str) -> list[str]:
    """Return where any of some words still stands: in every byte of the file, or in every column."""
    forms = [word.encode() for word in words]
    if engine.dialect.name == "sqlite":
        engine.dispose()
        file = Path(str(engine.url.database))
        with sqlite3.connect(file, isolation_level=None) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        files = file.parent.glob(f"{file.name}*")
        return [str(each) for each in files for form in forms if form.lower() in each.read_bytes().lower()]
    found = []
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            for told in connection.scalars(text(f"SELECT CAST(t AS text) FROM {table.name} t")):
                in_hex = [form.hex() for form in forms]
                if any(word.lower() in told.lower() for word in (*words, *in_hex)):
                    found.append(f"{table.name}: {told}")
    return found


def test_nothing_is_left_of_who_is_erased_and_all_that_was_done_still_shows(
    engine: Engine, shell: Shell
) -> None:
    store = Store(engine)
    ids = of_a_customer(engine, store)
    other = put(engine, payload=order("SO-2"), key="order:SO-2")
    assert left_of(engine, NAME)
    before = {each: row(engine, each) for each in ids}
    tried = [
        (each["message_id"], each["n"], each["verdict"], each["status"]) for each in rows(engine, attempt)
    ]
    ran = shell.good("erase", "--reference", "SO-1001", *WHO, "--json")
    assert ran.json == {"erased": [*ids], "refused": []}
    assert left_of(engine, NAME, CODE) == []
    assert {each: row(engine, each) for each in ids} == before
    after = [
        (each["message_id"], each["n"], each["verdict"], each["status"]) for each in rows(engine, attempt)
    ]
    assert after == tried
    assert [each["payload"] is None for each in rows(engine, body)] == [True, True, True, False]
    assert [each["verdict"] for each in rows(engine, item)] == ["refused"]
    notes = [each for each in rows(engine, audit) if each["verb"] in ("erase", "erased")]
    assert {each["by"] for each in notes} == {"ann"}
    assert [each["message_id"] for each in notes] == [*ids, None]
    assert notes[-1]["detail"] == {"asked": ["externalReference=SO-1001"], "erased": 3, "refused": 0}
    assert shell.good("show", ids[0], "--payload").out.count("erased by ann: the customer asked for it") == 1
    assert row(engine, other)["state"] == "pending"


def test_what_is_erased_is_still_found_and_named_once(engine: Engine, shell: Shell) -> None:
    delivered, dead, again = of_a_customer(engine, Store(engine))
    shell.good("erase", "--key", "order:SO-1001", *WHO)
    assert shell.good("erase", "--key", "order:SO-1001", *WHO).out == "erased before: 3\nerased: 0\n"
    with engine.connect().execution_options(outbox_reads_only=True) as connection:
        status = status_of(connection, key="order:SO-1001")
    assert status is not None
    assert status.message_id == again > dead > delivered
    assert shell.good("erase", "--term", f"sku=SKU-{NAME}", *WHO).out == "erased: 0\n", (
        "it is a personal field"
    )


@on_sqlite_first
def test_the_reason_of_an_erasure_keeps_nothing_of_who_is_erased(engine: Engine, shell: Shell) -> None:
    of_a_customer(engine, Store(engine))
    shell.good("erase", "--reference", "SO-1001", "--why", f"asked by {NAME}", "--by", "ann")
    whys = {each["why"] for each in rows(engine, audit) if each["verb"] in ("erase", "erased")}
    assert whys == {f"asked by {MASK}"}


@on_sqlite_first
@pytest.mark.parametrize("erased", ["before", "after"])
def test_the_difference_of_an_edit_goes_with_either_of_its_documents(
    engine: Engine, shell: Shell, erased: str
) -> None:
    store = Store(engine)
    dead = bury(store, engine, payload=document(), key="order:SO-1001")
    mended = document().replace(CODE, "AB1 2CD").encode()
    again = Editor(PREDEFINED, Schemas({})).replay(store, dead, mended, "ann", "a new address").replay
    finish(store, DELIVERED)
    with engine.begin() as connection:  # as if only one of the two were the customer's
        of_the_other = again if erased == "before" else dead
        for table in (term, unindexed):
            connection.execute(table.delete().where(table.c.message_id == of_the_other))
    assert CODE in rows(engine, edit)[0]["difference"]
    shell.good("erase", "--reference", "SO-1001", *WHO)
    assert [each["payload"] is None for each in rows(engine, body)] == [
        erased == "before",
        erased == "after",
    ]
    assert rows(engine, edit) == []


@on_sqlite_first
def test_a_shop_that_repeats_itself_gets_the_same_message_still(engine: Engine, shell: Shell) -> None:
    with engine.begin() as connection:
        first = enqueue(connection, "order-import", document(), channel="SHOP", idempotency_key="so-1001")
    finish(Store(engine), DELIVERED)
    shell.good("erase", "--reference", "SO-1001", *WHO)
    with engine.begin() as connection:
        again = enqueue(connection, "order-import", document(), channel="SHOP", idempotency_key="so-1001")
    assert (again.id, again.created) == (first.id, False)


@on_sqlite_first
def test_what_has_not_ended_is_named_and_left(engine: Engine, shell: Shell) -> None:
    store = Store(engine)
    dead = bury(store, engine, payload=document())
    sending = put(engine, payload=document())
    claim_all(store)
    waiting = put(engine, payload=document())
    dry = shell.any("erase", "--reference", "SO-1001", *WHO, "--dry-run")
    assert (dry.status, dry.out) == (FAILED, "would be erased: 0\n")
    ran = shell.any("erase", "--reference", "SO-1001", *WHO)
    assert ran.status == FAILED
    assert ran.err == dry.err
    for told in (
        f"message {dead} is dead and its letter open",
        f"{sending} is sending",
        f"{waiting} is pending",
    ):
        assert told in ran.err
    assert all(NAME.encode() in each["payload"] for each in rows(engine, body))
    discard(store, dead, "ann", "not wanted")
    assert shell.any("erase", "--reference", "SO-1001", *WHO, "--json").json["erased"] == [dead]


@on_sqlite
def test_what_was_erased_is_not_replayed(engine: Engine, shell: Shell) -> None:
    store = Store(engine)
    dead = bury(store, engine, payload=document())
    discard(store, dead, "ann", "not wanted")
    shell.good("erase", "--reference", "SO-1001", *WHO)
    with engine.begin() as connection:  # whoever opens it again
        connection.execute(update(dead_letter).values(resolution="open"))
    with pytest.raises(NotPossible, match="was erased: its document is gone"):
        replay(store, dead, "ann", "try")


@on_sqlite
def test_the_audit_does_not_hold_what_was_erased_for_it(engine: Engine, shell: Shell) -> None:
    put(engine, payload=document())
    finish(Store(engine), DELIVERED)
    shell.good("erase", "--term", f"sku=SKU-{NAME}", *WHO)
    assert rows(engine, audit)[-1]["detail"]["asked"] == [f"sku={MASK}"]
    assert left_of(engine, NAME) == []


@on_sqlite_first
def test_the_audit_does_not_hold_a_reference_that_is_personal_in_a_message(
    engine: Engine, shell: Shell, store: Store
) -> None:
    put(engine, payload=document(NAME))
    put(engine, payload=order(NAME))  # in which it is no value of a personal field
    assert recorder(store).record([outcome(each, DELIVERED) for each in claim_all(store).claims])
    shell.good("erase", "--reference", NAME, "--reference", "SO-2", *WHO)
    asked = [each["detail"]["asked"] for each in rows(engine, audit)]
    assert asked == [[f"externalReference={MASK}", "externalReference=SO-2"]] * 3


@on_sqlite_first
def test_reasons_that_belong_to_no_message_are_looked_through_page_by_page(
    engine: Engine, shell: Shell, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "PAGE", 2)
    of_a_customer(engine, store)
    dead = bury(store, engine, payload=order("SO-2"))
    run = runs.begin(store, Filter(ids=[dead]), Care(), "ann", f"{NAME} may", configuration())
    runs.cancel_run(store, run.id, "ann", f"{NAME} may not")
    for _ in range(2):
        hold(store, "main", "ann", f"{NAME} called")
        resume(store, "main", "ann", f"{NAME} did not")
    shell.good("erase", "--reference", "SO-1001", *WHO)
    assert left_of(engine, NAME, CODE) == []
    told = [each["why"] for each in rows(engine, audit) if each["verb"] in ("hold", "resume")]
    assert told == [f"{MASK} called", f"{MASK} did not"] * 2
    assert (rows(engine, replay_run)[0]["why"], rows(engine, replay_run)[0]["said"]) == (
        f"{MASK} may",
        f"{MASK} may not",
    )


@pytest.mark.parametrize(
    ("newer", "left"), [("nobody called", "nobody called"), (f"{NAME} called again", f"{MASK} called again")]
)
def test_a_text_that_was_written_meanwhile_is_looked_through_itself(
    engine: Engine, store: Store, newer: str, left: str
) -> None:
    hold(store, "main", "ann", f"{NAME} called")
    asking, written = another_connection(engine), list[str]()

    def write(_c: object, _k: object, statement: str, *_: object) -> None:
        if gate.name in statement and not written:
            written.append(statement)
            hold(store, "main", "ann", newer)

    event.listen(asking, "after_cursor_execute", write)
    erase_elsewhere(Store(asking), {NAME})
    asking.dispose()
    assert rows(engine, gate)[0]["text"] == left


def test_beside_the_messages_only_whole_words_are_erased(engine: Engine, store: Store) -> None:
    hold(store, "main", "ann", "planned by Ann for Tom's customer, ANN said")
    assert erase_elsewhere(Store(engine), {"Ann", "tom"}) == 2
    assert rows(engine, gate)[0]["text"] == f"planned by {MASK} for {MASK}'s customer, {MASK} said"


def test_what_was_erased_beside_the_messages_is_not_erased_again(engine: Engine, store: Store) -> None:
    with store.writing() as transaction:
        detail = {"query": f"of-{NAME}", "parameters": {"name": NAME}, "reply": ""}
        note_audit(transaction, verb="query", by="ann", why="asked", detail=detail)
    assert [erase_elsewhere(store, {NAME}) for _ in range(2)] == [1, 0]


@on_postgresql
def test_a_text_of_an_incident_that_was_written_meanwhile_is_not_overwritten(
    engine: Engine, store: Store
) -> None:
    dead = bury(store, engine, payload=document())
    discard(store, dead, "ann", "not wanted")
    with engine.begin() as connection:  # as if another message had been the last of it
        connection.execute(update(incident).values(sample_message_id=dead + 1, text=f"no {NAME}"))
    asking = another_connection(engine)

    def write(_c: object, _k: object, statement: str, *_: object) -> None:
        if incident.name in statement and statement.startswith("SELECT"):
            with engine.begin() as connection:
                connection.execute(update(incident).values(text="nobody"))

    event.listen(asking, "after_cursor_execute", write)
    assert erase(Store(asking), dead, ["key=x"], PersonalData(["orderAddress.lastName"]), "ann", "asked")
    asking.dispose()
    assert rows(engine, incident)[0]["text"] == "nobody"


@on_sqlite
def test_what_is_looked_through_in_vain_keeps_nobody_waiting(engine: Engine, store: Store) -> None:
    hold(store, "main", "ann", "nobody called")
    asking = another_connection(engine)
    with store.writing():
        assert erase_elsewhere(Store(asking), {NAME}) == 0
    asking.dispose()


@on_sqlite
def test_the_index_of_texts_is_as_if_the_erased_had_never_been_there(
    engine: Engine, shell: Shell, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def index() -> list[bytes]:
        """Return the pages of the index, but for those that tell of its parts and sizes."""
        blocks = text("SELECT block FROM outbox_full_text_trigrams_data WHERE id > 10 ORDER BY block")
        with engine.connect() as connection:
            return list(connection.scalars(blocks))

    monkeypatch.setattr(text_index, "PAGES", 1)
    for payload in (order("SO-2"), *[document()] * 3):  # each is a part of the index
        put(engine, payload=payload)
        finish(store, DELIVERED)
        index_some(store)
    shell.good("erase", "--reference", "SO-1001", *WHO)
    left = index()
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO outbox_full_text_trigrams (outbox_full_text_trigrams) VALUES ('rebuild')")
        )
    assert left == index() != []


@on_sqlite
def test_nobody_is_erased_by_mistake(engine: Engine, shell: Shell) -> None:
    of_a_customer(engine, Store(engine))
    for wrong in ((), ("--term", "sku"), ("--key", " "), ("--reference", "")):
        assert shell.any("erase", *wrong, *WHO).status == USAGE_ERROR
    assert shell.good("erase", "--reference", "SO-100", *WHO).out == "erased: 0\n"
    assert left_of(engine, NAME)


@on_sqlite
def test_what_a_person_is_shown_is_masked_unless_asked_for(engine: Engine, shell: Shell) -> None:
    delivered, dead, _ = of_a_customer(engine, Store(engine))
    second = bury(Store(engine), engine, payload=document())
    with engine.begin() as connection:
        connection.execute(update(dead_letter).values(text=f"no {NAME.lower()} here"))
    for words in (("show", delivered, "--payload"), ("show", dead, "--payload"), ("dead", "show", second)):
        for more in ((), ("--json",)):
            if more and "--payload" in words:
                words = words[:-1]
            out = shell.good(*words, *more).out
            assert not re.search(f"{NAME}|{CODE}", out, re.IGNORECASE), out
    assert f"no {MASK} here" in shell.good("dead", "list").out
    (group,) = json.loads(shell.good("dead", "list", "--groups", "--json").out)
    assert group["text"] == f"no {MASK} here"
    with engine.begin() as connection:
        connection.execute(update(incident).values(text=f"no {NAME} there"))
        connection.execute(update(incident).values(sample_message_id=second))
    assert f"no {MASK} there" in shell.good("incidents").out
    with engine.begin() as connection:
        connection.execute(update(incident).values(sample_message_id=second + 1))
    assert "no " in shell.good("incidents").out, "though the message is there no longer"
    assert "state=created" in shell.good("show", delivered, "--payload").out
    assert NAME in shell.good("show", delivered, "--payload", "--unmasked").out
