"""Edit and replay: one dead message sent again with its document mended."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from config import load
from orderflow_outbox import PREDEFINED, Catalogue, InvalidMessage
from orderflow_outbox.tables import audit, body, dead_letter, edit, message, unindexed
from simulator import Options
from tests.databases import on_sqlite
from tests.documents import order
from tests.rig import Place, engine_of, eventually, rig
from tests.steps import (
    DAY,
    DELIVERED,
    REFUSED,
    Clock,
    another_connection,
    bury,
    claim_all,
    claim_one,
    finish,
    outcome,
    put,
    recorder,
    row,
    rows,
    set_row,
)
from tests.test_checks import CHECK
from tests.test_schemas import SCHEMA
from tests.test_splitting import AGAIN, OK, split
from worker.by_hand import NotPossible, discard
from worker.deliveries import Reply
from worker.replays.editing import Editor
from worker.replays.replaying import replay
from worker.rules import Judge
from worker.schemas import Schemas
from worker.store.resolving import note_audit
from worker.store.transactions import Store
from worker.verdicts import Delivered, Refused, Verdict

EDITOR = Editor(PREDEFINED, Schemas({}))
BEFORE, AFTER = order("SO-1").encode(), order("SO-1", sku="SKU-2").encode()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def edited(store: Store, message_id: int, document: bytes = AFTER) -> int:
    return EDITOR.replay(store, message_id, document, "ann", "article renamed").replay


def set_document(store: Store, message_id: int, document: bytes) -> None:
    with store.writing() as transaction:
        transaction.connection.execute(
            body.update().where(body.c.message_id == message_id).values(payload=document)
        )


def everything(engine: Engine) -> list[Any]:
    return [rows(engine, table) for table in (body, dead_letter, edit, audit, unindexed)]


def test_an_edited_replay_has_the_new_bytes_and_an_identity_of_its_own(engine: Engine, store: Store) -> None:
    dead = bury(
        store, engine, payload=BEFORE, idempotency_key="so-1", key="order:1", headers={"X-Trace": "7"}
    )
    younger = put(engine, key="order:1")
    new = edited(store, dead)
    was, now = row(engine, dead), row(engine, new)
    kept = ("destination", "operation", "channel", "key", "position", "version")
    assert [now[name] for name in kept] == [was[name] for name in kept]
    assert (now["replay_of"], now["idempotency_key"], now["edited"]) == (dead, "so-1/edit-1", True)
    assert now["fingerprint"] != was["fingerprint"]
    sent = rows(engine, body, message_id=new)[0]
    assert (sent["payload"], sent["sha256"]) == (AFTER, hashlib.sha256(AFTER).digest())
    assert sent["headers"] == {"X-Trace": "7"}
    assert rows(engine, body, message_id=dead)[0]["payload"] == BEFORE
    claimed = claim_one(store)
    assert (claimed.id, claimed.payload, claimed.edited) == (new, AFTER, True)
    recorder(store).record([outcome(claimed, DELIVERED)])
    assert claim_one(store).id == younger


def test_what_was_changed_is_kept_beside_the_document_and_who_and_why_in_the_audit(
    engine: Engine, store: Store, clock: Clock
) -> None:
    dead = bury(store, engine, payload=BEFORE)
    told = EDITOR.preview(store, dead, AFTER)
    new = edited(store, dead)
    (kept,) = rows(engine, edit)
    assert (kept["message_id"], kept["difference"]) == (new, told)
    assert "-orderLine.1.product.externalReference=SKU-1" in told
    assert "+orderLine.1.product.externalReference=SKU-2" in told
    (noted,) = rows(engine, audit)
    assert (noted["verb"], noted["by"], noted["why"], noted["at"], noted["message_id"], noted["detail"]) == (
        "edit",
        "ann",
        "article renamed",
        clock.now,
        dead,
        {"replay": new},
    )
    (letter,) = rows(engine, dead_letter)
    assert (letter["resolution"], letter["resolved_by"], letter["note"]) == (
        "replayed",
        "ann",
        "article renamed",
    )


def test_an_edited_replay_is_found_by_what_its_own_document_says(engine: Engine, store: Store) -> None:
    dead = bury(store, engine, payload=BEFORE)
    new = edited(store, dead)
    (terms,) = (each["terms"] for each in rows(engine, unindexed, message_id=new))
    assert "SKU-2" in terms
    assert "SKU-1" not in terms


def test_an_edit_of_an_edit_counts_on_and_a_replay_of_one_keeps_its_identity(
    engine: Engine, store: Store
) -> None:
    put(engine, idempotency_key="so-1/edit-1", channel="web")
    recorder(store).record([outcome(each, DELIVERED) for each in claim_all(store).claims])
    dead = bury(store, engine, payload=BEFORE, idempotency_key="so-1")
    first = edited(store, dead)
    assert row(engine, first)["idempotency_key"] == "so-1/edit-2", "the shop has given the one before itself"
    finish(store, REFUSED)
    second = edited(store, first, BEFORE)
    assert row(engine, second)["idempotency_key"] == "so-1/edit-3"
    finish(store, REFUSED)
    again = replay(store, second, "ann", "mended").replay
    assert (row(engine, again)["idempotency_key"], row(engine, again)["edited"]) == ("so-1/edit-3", True)


@pytest.mark.parametrize(
    ("document", "error", "text"),
    [
        (BEFORE, NotPossible, "is unchanged"),
        (b"", InvalidMessage, "sends a <imports> document"),
        (BEFORE[:-3], InvalidMessage, "well-formed"),
        (b"<!DOCTYPE a>" + AFTER, InvalidMessage, "DOCTYPE"),
        (b"<orders/>", InvalidMessage, "the root is <imports>"),
    ],
)
def test_a_document_is_checked_as_when_it_is_enqueued(
    engine: Engine, store: Store, document: bytes, error: type[Exception], text: str
) -> None:
    dead = bury(store, engine, payload=BEFORE)
    before = everything(engine)
    for act in (lambda: EDITOR.preview(store, dead, document), lambda: edited(store, dead, document)):
        with pytest.raises(error, match=text):
            act()
    assert everything(engine) == before


def test_no_one_waits_for_a_document_that_is_looked_at_and_checked(engine: Engine, store: Store) -> None:
    dead = bury(store, engine, payload=BEFORE)
    writers = Store(another_connection(engine))

    class Checked(Schemas):
        def problem(self, operation: str, document: bytes | None) -> str | None:
            with writers.writing() as other:
                note_audit(other, verb="checked", by="bob", why="meanwhile", message_id=dead)
            return super().problem(operation, document)

    editor = Editor(PREDEFINED, Checked({}))
    with engine.begin() as shop:
        shop.execute(message.update().where(message.c.id == dead).values(rescues=1))
        shop.execute(dead_letter.update().where(dead_letter.c.message_id == dead).values(text="another"))
        assert editor.document(store, dead) == BEFORE
        assert EDITOR.preview(store, dead, AFTER)
    assert editor.replay(store, dead, AFTER, "ann", "article renamed").created
    assert [each["verb"] for each in rows(engine, audit)] == ["checked", "edit"]
    writers.close()


@pytest.mark.parametrize(
    ("to", "text"),
    [
        (lambda store, dead: discard(store, dead, "bob", "test order"), "was discarded"),
        (lambda store, dead: set_document(store, dead, b"<imports/>"), "has changed meanwhile: edit it anew"),
    ],
)
def test_what_happens_to_a_message_while_its_document_is_checked_is_seen(
    engine: Engine, store: Store, to: Callable[[Store, int], None], text: str
) -> None:
    dead = bury(store, engine, payload=BEFORE)

    class Meanwhile(Schemas):
        def problem(self, operation: str, document: bytes | None) -> str | None:
            to(store, dead)
            return super().problem(operation, document)

    with pytest.raises(NotPossible, match=text):
        Editor(PREDEFINED, Meanwhile({})).replay(store, dead, AFTER, "ann", "article renamed")
    assert rows(engine, edit) == []


def test_a_document_that_does_not_fit_its_schema_is_refused(
    engine: Engine, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "order.xsd"
    file.write_text(SCHEMA)
    dead = bury(store, engine, payload=BEFORE)
    strict = Editor(PREDEFINED, Schemas({"order-import": file}))
    with pytest.raises(NotPossible, match="does not fit the XML schema of order-import: line 1"):
        strict.preview(store, dead, AFTER.replace(b' operation="insert"', b' more="x"'))
    assert strict.preview(store, dead, AFTER)


def test_what_the_edit_would_make_a_message_of_another_key_is_refused(engine: Engine, store: Store) -> None:
    dead = bury(store, engine, payload=BEFORE, key="order:of-the-shops-own")
    assert EDITOR.preview(store, dead, order("SO-2").encode()), "the shop has said its key itself"
    operation = PREDEFINED["order-import"]
    operation = dataclasses.replace(operation, key="order:{externalReference}")
    by_reference = Editor(Catalogue([operation]), Schemas({}))
    set_row(engine, dead, key="order:SO-1")
    with pytest.raises(NotPossible, match="makes of order:SO-1 a message of order:SO-2"):
        by_reference.preview(store, dead, order("SO-2").encode())
    assert by_reference.preview(store, dead, AFTER)


def test_only_the_dead_are_edited_that_were_not_dealt_with(engine: Engine, store: Store) -> None:
    waiting = put(engine)
    with pytest.raises(NotPossible, match="is pending: only a dead message can be edited"):
        edited(store, waiting)
    finish(store, DELIVERED)
    replayed, discarded = bury(store, engine, payload=BEFORE), bury(store, engine)
    new = replay(store, replayed, "bob", "mended").replay
    discard(store, discarded, "bob", "test order")
    with pytest.raises(NotPossible, match=f"was replayed before, as message {new}, which is pending"):
        edited(store, replayed)
    with pytest.raises(NotPossible, match="was discarded"):
        edited(store, discarded)
    with pytest.raises(NotPossible, match="there is no message 4711"):
        EDITOR.document(store, 4711)
    finish(store, DELIVERED)
    bare = bury(
        store,
        engine,
        operation="order-cancel",
        payload=None,
        query={"externalReference": "SO-1"},
        channel="web",
    )
    with pytest.raises(NotPossible, match="has no document: order-cancel sends none"):
        EDITOR.document(store, bare)


def told_of_a_duplicate(document: bytes, reference: str, *, is_edited: bool) -> Verdict:
    """Return what becomes of an order that OrderFlow says it has already."""
    item = f'<import type="order" externalReference="{reference}"/>'
    body = f"<importResult><importDuplicates>{item}</importDuplicates></importResult>".encode()
    reply = Reply(200, (("content-type", "text/xml"),), body)
    judge = Judge(load(need_secrets=False).rules)
    operation, now = PREDEFINED["order-import"], Clock().now
    return judge.judge(reply, "main", operation, False, now, document, is_edited).verdict


def test_duplicate_delivers_a_message_and_its_replay_and_refuses_an_edited_one() -> None:
    plain, after_edit = (told_of_a_duplicate(BEFORE, "SO-1", is_edited=each) for each in (False, True))
    assert isinstance(plain, Delivered)
    assert isinstance(after_edit, Refused)
    assert after_edit.why.reason == "duplicate"
    assert "perhaps as it was before the edit" in after_edit.why.text


def test_duplicate_delivers_no_item_of_an_edited_message_that_goes_on_by_itself(
    engine: Engine, store: Store, clock: Clock
) -> None:
    dead = bury(store, engine, payload=order("SO-1", "SO-2"))
    new = edited(store, dead, order("SO-1", "SO-2", sku="SKU-2").encode())
    split(store, OK, AGAIN)
    clock.forward(DAY)
    child = claim_one(store)
    assert [each["id"] for each in rows(engine, message, split_from=new)] == [child.id]
    assert child.payload is not None
    told = told_of_a_duplicate(child.payload, "SO-2", is_edited=child.edited)
    assert isinstance(told, Refused)
    assert told.why.reason == "duplicate"


@on_sqlite
def test_what_orderflow_has_already_is_no_delivery_of_an_edit_whether_it_says_so_or_is_asked(
    place: Place,
) -> None:
    with rig(place, Options(missing_products=["SKU-1"]), queries=CHECK) as made:
        store = Store(made.engine)
        with engine_of(made):
            numbers = ("SO-1", "SO-2", "SO-3")
            mended, repeated, doubtful = (made.order(number).id for number in numbers)
            eventually(lambda: made.states() == {"dead"})
            edited(store, mended, order("SO-9", sku="SKU-2").encode())
            eventually(lambda: made.rows()[-1].state == "delivered")
            set_row(made.engine, doubtful, in_doubt=True)
            told, asked = (
                edited(store, each, order("SO-9", sku="SKU-3").encode()) for each in (repeated, doubtful)
            )
            eventually(lambda: [row.state for row in made.rows()[-2:]] == ["dead", "dead"])
        letters = [rows(made.engine, dead_letter, message_id=each)[0] for each in (told, asked)]
        assert [(each["reason"], each["in_doubt"]) for each in letters] == [
            ("duplicate", False),
            ("duplicate", True),
        ]
        assert [made.attempts(each)[0].checked_by for each in (told, asked)] == [None, "order-detail"]
