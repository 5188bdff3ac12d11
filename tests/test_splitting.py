"""Items that went another way than the rest of their message go on as a message of their own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from orderflow_outbox import State, enqueue, status_of
from orderflow_outbox.tables import body, dead_letter, incident, item, message, unindexed
from orderflow_outbox.terms import pairs_of
from simulator import Options
from tests.documents import order
from tests.model import CATALOGUE
from tests.rig import Place, engine_of, eventually, rig
from tests.shell import Shell
from tests.steps import (
    ALERT_TIMES,
    DELIVERED,
    SECOND,
    Clock,
    claim_all,
    claim_one,
    configuration,
    finish,
    outcome,
    put,
    recorder,
    rows,
    set_row,
    why,
)
from worker.by_hand import discard
from worker.deliveries import Claim
from worker.indexer import index_some
from worker.ports import announce_nothing
from worker.recorder import Recorder
from worker.replays.replaying import replay
from worker.store import recording
from worker.store.transactions import Store
from worker.verdicts import Delivered, ItemResult, Refused, RetryLater

SENT = order("SO-1", "SO-2", "SO-3")
SPLIT = Delivered(why("split"))
OK = Delivered(why("imported"))
NO = Refused(why("items_failed", "no such SKU"))
AGAIN = RetryLater(why("not_mentioned", "the report does not mention it"), systemic=False)
KEY = "order:SO"


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, clock)


def results(*verdicts: Delivered | Refused | RetryLater) -> tuple[ItemResult, ...]:
    return tuple(
        ItemResult(place, f"SO-{place}", verdict, verdict is not AGAIN)
        for place, verdict in enumerate(verdicts, 1)
    )


def split(store: Store, *verdicts: Delivered | Refused | RetryLater, **others: Any) -> Claim:
    """Claim the message that is due and record results of its items that differ."""
    return finish(store, SPLIT, items=results(*verdicts), **others)


def children(engine: Engine, parent: int) -> list[Any]:
    return rows(engine, message, split_from=parent)


def payload(engine: Engine, message_id: int) -> bytes:
    (found,) = rows(engine, body, message_id=message_id)
    return bytes(found["payload"])


def test_failed_items_become_a_dead_message_and_the_rest_is_delivered(engine: Engine, store: Store) -> None:
    parent = put(engine, payload=SENT, key=KEY, idempotency_key="k", query={"a": "1"}, headers={"X-A": "2"})
    split(store, OK, NO, NO)
    (row,) = rows(engine, message, id=parent)
    assert (row["state"], row["blocks"], row["in_doubt"]) == ("delivered", False, False)
    (child,) = children(engine, parent)
    assert (child["state"], child["due_at"], child["attempts"]) == ("dead", None, 0)
    assert child["idempotency_key"] == "k/split-1"
    inherited = (
        "destination",
        "operation",
        "channel",
        "organisation",
        "key",
        "version",
        "position",
        "created_at",
    )
    assert [child[name] for name in inherited] == [row[name] for name in inherited]
    cut = [order(each).removeprefix("<imports>").removesuffix("</imports>") for each in ("SO-2", "SO-3")]
    assert payload(engine, child["id"]) == f"<imports>{chr(10).join(cut)}</imports>".encode()
    (stored,) = rows(engine, body, message_id=child["id"])
    assert (stored["query"], stored["headers"]) == ({"a": "1"}, {"X-A": "2"})
    (letter,) = rows(engine, dead_letter)
    assert (letter["message_id"], letter["reason"]) == (child["id"], "items_failed")
    assert letter["text"] == "2 of 3 items failed: SO-2: no such SKU; SO-3: no such SKU"
    (opened,) = rows(engine, incident)
    assert (opened["occurrences"], opened["sample_message_id"]) == (1, child["id"])


def test_every_items_result_is_kept_with_the_attempt(engine: Engine, store: Store) -> None:
    parent = put(engine, payload=SENT)
    split(store, OK, NO, AGAIN)
    kept = [
        (row["n"], row["place"], row["reference"], row["verdict"], row["reason"], row["text"])
        for row in rows(engine, item, message_id=parent)
    ]
    assert kept == [
        (1, 1, "SO-1", "delivered", "imported", "as the reply said"),
        (1, 2, "SO-2", "refused", "items_failed", "no such SKU"),
        (1, 3, "SO-3", "retry", "not_mentioned", "the report does not mention it"),
    ]


def test_items_to_be_sent_again_wait_for_the_next_try_in_doubt(
    engine: Engine, store: Store, clock: Clock
) -> None:
    parent = put(engine, payload=SENT, key=KEY)
    split(store, OK, OK, AGAIN)
    (child,) = children(engine, parent)
    assert (child["state"], child["tries"], child["in_doubt"], child["blocks"]) == ("pending", 1, True, True)
    assert child["due_at"] > clock.now
    assert rows(engine, dead_letter) == []
    assert claim_all(store).claims == []
    clock.forward(child["due_at"] - clock.now + SECOND)
    claimed = finish(store, DELIVERED)
    assert claimed.id == child["id"]
    assert claimed.payload is not None
    assert b"SO-3" in claimed.payload
    assert b"SO-1" not in claimed.payload
    assert {row["state"] for row in rows(engine, message)} == {"delivered"}


def test_refused_items_and_those_to_be_sent_again_part(engine: Engine, store: Store) -> None:
    parent = put(engine, payload=SENT, idempotency_key="k")
    split(store, OK, NO, AGAIN)
    found = {child["idempotency_key"]: child["state"] for child in children(engine, parent)}
    assert found == {"k/split-1": "dead", "k/split-2": "pending"}


def test_items_whose_last_try_that_was_are_dead(engine: Engine, store: Store) -> None:
    parent = put(engine, payload=SENT)
    set_row(engine, parent, tries=configuration().destinations["main"].retry_policy("order-import").tries - 1)
    split(store, OK, OK, AGAIN)
    (child,) = children(engine, parent)
    assert child["state"] == "dead"
    (letter,) = rows(engine, dead_letter)
    assert letter["text"].startswith("after 9 tries: ")
    assert letter["in_doubt"]


def test_a_message_all_of_whose_items_are_done_or_refused_has_no_child(engine: Engine, store: Store) -> None:
    put(engine, payload=SENT)
    finish(store, DELIVERED, items=results(OK, OK, OK))
    put(engine, payload=SENT)
    finish(store, NO, items=results(NO, NO, NO))
    assert [row["state"] for row in rows(engine, message)] == ["delivered", "dead"]


@pytest.mark.parametrize("fate", [NO, AGAIN])
def test_later_messages_of_the_key_wait_for_a_child_as_for_its_parent(
    engine: Engine, store: Store, clock: Clock, fate: Refused | RetryLater
) -> None:
    parent = put(engine, payload=SENT, key=KEY)
    follower = put(engine, key=KEY)
    split(store, OK, OK, fate)
    assert claim_all(store).claims == []
    (child,) = children(engine, parent)
    if fate is NO:
        discard(store, child["id"], "who", "why")
    else:
        clock.forward(child["due_at"] - clock.now + SECOND)
        assert finish(store, DELIVERED).id == child["id"]
    clock.forward(SECOND)
    assert claim_one(store).id == follower


def test_a_dead_child_is_replayed_with_its_own_bytes_and_identity(engine: Engine, store: Store) -> None:
    parent = put(engine, payload=SENT, idempotency_key="k", key=KEY)
    split(store, NO, OK, OK)
    (child,) = children(engine, parent)
    replay(store, child["id"], "who", "why")
    claimed = claim_one(store)
    assert (claimed.idempotency_key, claimed.payload) == ("k/split-1", payload(engine, child["id"]))


def test_a_child_may_be_split_again(engine: Engine, store: Store, clock: Clock) -> None:
    parent = put(engine, payload=SENT, idempotency_key="k")
    split(store, OK, AGAIN, AGAIN)
    (child,) = children(engine, parent)
    clock.forward(timedelta(hours=1))
    split(store, OK, NO)
    (grandchild,) = children(engine, child["id"])
    assert grandchild["idempotency_key"] == "k/split-1/split-1"
    assert b"SO-3" in payload(engine, grandchild["id"])


@pytest.mark.parametrize("identity", ["k", "x" * 255])
def test_a_child_takes_an_identity_that_is_free(engine: Engine, store: Store, identity: str) -> None:
    put(engine, idempotency_key="k/split-1")
    finish(store, DELIVERED)
    for _ in range(2):
        parent = put(engine, payload=SENT, idempotency_key=identity)
        split(store, NO, OK, OK)
        (child,) = children(engine, parent)
        assert child["idempotency_key"].endswith("/split-2" if identity == "k" else "/split-1")
        assert len(child["idempotency_key"]) <= 255
        set_row(engine, parent, idempotency_key=f"{parent}")
        set_row(engine, child["id"], idempotency_key=f"{child['id']}")


def test_a_child_is_found_by_its_items_terms_alone(engine: Engine, store: Store) -> None:
    parent = put(engine, payload=SENT, key=KEY)
    split(store, OK, NO, OK)
    (child,) = children(engine, parent)
    (waiting,) = rows(engine, unindexed, message_id=child["id"])
    assert pairs_of(waiting["terms"]) == [
        ("key", KEY),
        ("externalReference", "SO-2"),
        ("orderNumber", "SO-2"),
        ("sku", "SKU-1"),
    ]
    assert not index_some(store)


def test_a_split_that_cannot_be_written_whole_is_not_written(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = put(engine, payload=SENT)
    claimed = claim_one(store)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(recording, "bury", broken)
    written = recorder(store).record([outcome(claimed, SPLIT, items=results(OK, NO, OK))])
    assert written, "dropped, with its lease to run out"
    assert [row["state"] for row in rows(engine, message)] == [State.SENDING]
    assert (rows(engine, item), children(engine, parent)) == ([], [])


def test_watchers_are_told_of_children(engine: Engine, store: Store) -> None:
    told: list[tuple[str, int]] = []
    parent = put(engine, payload=SENT)
    watching = Recorder(
        store, configuration(), ALERT_TIMES, lambda step, claim, *_: told.append((step.name, claim.id))
    )
    assert watching.record([outcome(claim_one(store), SPLIT, items=results(OK, NO, AGAIN))])
    dead, waiting = children(engine, parent)
    assert told == [("DELIVERED", parent), ("DEAD", dead["id"]), ("RETRIED", waiting["id"])]
    assert watching.recorded == 1


def test_of_500_items_of_which_3_fail_these_3_are_one_dead_message(place: Place) -> None:
    references = [f"SO-{n}" for n in range(500)]
    failing = ["SO-7", "SO-70", "SO-499"]
    documents = [order(each, sku="SKU-9999" if each in failing else "SKU-1") for each in references]
    items = "".join(each.removeprefix("<imports>").removesuffix("</imports>") for each in documents)
    with rig(place, Options(missing_products=["SKU-9999"])) as made, engine_of(made):
        with made.engine.begin() as connection:
            parent = enqueue(connection, "order-import", f"<imports>{items}</imports>", channel="web").id
        eventually(lambda: made.states() == {"delivered", "dead"})
        assert len(made.simulator.ledger.accepted) == 497
    (child,) = children(made.engine, parent)
    refused = [each["reference"] for each in rows(made.engine, item) if each["verdict"] == "refused"]
    assert refused == failing
    assert payload(made.engine, child["id"]).count(b"<import ") == 3
    assert len(rows(made.engine, message)) == 2
    assert len(rows(made.engine, incident)) == 1


def test_items_left_out_of_a_report_arrive_once_and_are_settled_by_their_repeat(place: Place) -> None:
    references = ["SO-1", "SO-2", "SO-3", "SO-4"]
    with rig(place, Options(faults=["omit:times=1"])) as made, engine_of(made):
        with made.engine.begin() as connection:
            parent = enqueue(connection, "order-import", order(*references), channel="web").id
        eventually(lambda: len(made.rows()) == 2 and made.states() == {"delivered"})
        assert [each.reference for each in made.simulator.ledger.accepted] == references
        (child,) = children(made.engine, parent)
        assert not child["in_doubt"]
        assert made.attempts(child["id"])[-1].reason == "duplicate"


def test_a_message_sent_again_with_items_that_no_report_mentioned_is_in_doubt(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own-rules.toml"
    own.write_text(
        '[[items]]\nname = "again"\ngroup = ["importSuccesses"]\nverdict = "retry"\nreason = "once_more"\n'
    )
    monkeypatch.setenv("OUTBOX_RULES_FILE", str(own))
    with rig(place, Options(faults=["omit:times=1"])) as made, engine_of(made):
        with made.engine.begin() as connection:
            parent = enqueue(connection, "order-import", order("SO-1", "SO-2"), channel="web").id
        eventually(lambda: made.states() == {"delivered"})
    first, second = made.attempts(parent)
    assert (first.verdict, first.reason, first.in_doubt) == ("retry", "once_more", True)
    assert (second.verdict, second.in_doubt) == ("delivered", False)


def test_items_that_failed_of_what_became_obsolete_call_nobody(engine: Engine, store: Store) -> None:
    """Given a newer message that was enqueued while this one was being sent."""
    document = '<imports><import externalReference="1"/><import externalReference="2"/></imports>'
    with engine.begin() as connection:
        elder = enqueue(connection, "price", document, key="A", catalogue=CATALOGUE).id
    (claimed,) = claim_all(store).claims
    with engine.begin() as connection:
        newer = enqueue(connection, "price", document, key="A", catalogue=CATALOGUE).id
    recording = Recorder(store, replace(configuration(), catalogue=CATALOGUE), ALERT_TIMES, announce_nothing)
    assert recording.record([outcome(claimed, SPLIT, items=results(OK, NO))])
    (child,) = children(engine, elder)
    assert (child["state"], child["blocks"], child["due_at"]) == ("superseded", False, None)
    assert child["finished_at"] is not None
    assert rows(engine, dead_letter) == []
    assert [each.id for each in claim_all(store).claims] == [newer]


def test_a_shop_is_told_of_items_that_went_another_way(engine: Engine, store: Store) -> None:
    parent, whole = put(engine, payload=SENT), put(engine)
    claims = {each.id: each for each in claim_all(store).claims}
    assert recorder(store).record(
        [outcome(claims[parent], SPLIT, items=results(OK, NO, NO)), outcome(claims[whole], DELIVERED)]
    )
    reasons = {}
    for message_id in (parent, whole):
        with engine.connect().execution_options(outbox_reads_only=True) as connection:
            status = status_of(connection, message_id)
        assert status is not None
        reasons[message_id] = status.reason
    assert reasons == {
        parent: "it was delivered, but for items that are messages of their own: 2",
        whole: "it was delivered",
    }


def test_a_messages_life_tells_of_its_items_and_children(
    engine: Engine, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(capsys)
    parent = put(engine, payload=SENT, key=KEY)
    split(store, OK, NO, OK)
    (child,) = children(engine, parent)
    told = shell.good("show", parent).out
    assert f"split into       {child['id']}" in told
    assert "item 2, SO-2: refused, items_failed: no such SKU" in told
    assert "2 of 3 items: delivered" in told
    assert "delivered: it was delivered, but for items that are messages of their own: 1\n" in told
    assert f"split from       {parent}" in shell.good("show", child["id"]).out
    (attempt,) = shell.good("show", parent, "--json").json["attempts_made"]
    assert [each["verdict"] for each in attempt["items"]] == ["delivered", "refused", "delivered"]
