"""The index of search terms: made by the service, soon, once, and never in the way of a delivery."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select, text

from orderflow_outbox import NewMessage, enqueue_many, status_of
from orderflow_outbox.tables import PLACES, body, full_text, term, unindexed, unindexed_text
from tests.databases import on_postgresql, on_sqlite
from tests.documents import order
from tests.rig import Place, engine_of, eventually, rig
from tests.steps import DELIVERED, LATER, another_connection, finish, put, row
from worker import erase
from worker.deliveries import Reply
from worker.indexer import INDEX_SECONDS, SHARE_WHILE_BUSY, index_some, pause_after
from worker.search.finding import find
from worker.search.language import parse
from worker.search.texts import MAX_TEXT_BYTES
from worker.store import indexing
from worker.store.bulk import insert_many
from worker.store.transactions import Store


def orders(count: int) -> list[NewMessage]:
    return [
        NewMessage("order-import", order(f"SO-{n}"), channel="web", key=f"order:SO-{n}") for n in range(count)
    ]


def enqueued(engine: Engine, count: int) -> list[int]:
    with engine.begin() as connection:
        return [each.id for each in enqueue_many(connection, orders(count))]


def waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(unindexed)) or 0


def index_all(store: Store) -> None:
    while index_some(store):
        pass


def found(engine: Engine, name: str, value: str) -> list[int]:
    with engine.connect() as connection:
        named = select(term.c.message_id).where(term.c.name == name, term.c.value == value)
        return list(connection.scalars(named.order_by(term.c.message_id)))


def test_messages_are_found_by_their_terms_a_moment_after_they_are_enqueued(place: Place) -> None:
    with rig(place) as made, engine_of(made):
        ids = enqueued(made.engine, 3)
        eventually(lambda: waiting(made.engine) == 0)
        assert found(made.engine, "orderNumber", "SO-1") == [ids[1]]
        assert found(made.engine, "key", "order:SO-2") == [ids[2]]
        assert found(made.engine, "sku", "SKU-1") == ids


def test_a_full_batch_is_followed_by_the_next(engine: Engine, store: Store) -> None:
    ids = enqueued(engine, indexing.BATCH + 1)
    assert index_some(store)
    with engine.connect() as connection:
        assert list(connection.scalars(select(unindexed.c.message_id))) == ids[-1:], "the oldest come first"
    assert not index_some(store)
    assert not index_some(store), "with nothing to do it only reads"
    assert found(engine, "sku", "SKU-1") == ids


def test_many_that_index_at_once_index_each_message_once(engine: Engine, store: Store) -> None:
    ids = enqueued(engine, 3 * indexing.BATCH)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: index_all(store), range(4)))
    assert waiting(engine) == 0
    assert found(engine, "sku", "SKU-1") == ids


@on_postgresql
def test_what_another_has_in_hand_is_not_waited_for(engine: Engine, store: Store) -> None:
    ids = enqueued(engine, indexing.BATCH + 1)
    with store.writing() as other:
        indexing.index(other)
        with store.writing() as transaction:
            transaction.connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert not indexing.index(transaction)
    assert waiting(engine) == 0
    assert found(engine, "sku", "SKU-1") == ids


def test_a_batch_that_is_cut_short_is_indexed_by_the_next(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enqueued(engine, 2)
    with monkeypatch.context() as broken:
        broken.setattr(indexing, "insert_many", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index_some(store)
    assert waiting(engine) == 2
    index_some(store)
    assert found(engine, "sku", "SKU-1") == ids


def test_messages_of_very_many_terms_are_taken_a_few_at_a_time(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enqueued(engine, 5)
    with engine.connect() as connection:
        size = max(map(len, connection.scalars(select(unindexed.c.terms))))
    monkeypatch.setattr(indexing, "BATCH_CHARACTERS", 2 * size)
    for left in (3, 1, 0):
        assert index_some(store) is (left > 0)
        assert waiting(engine) == left
    monkeypatch.setattr(indexing, "BATCH_CHARACTERS", 1)
    enqueued(engine, 1)
    index_all(store)
    assert len(found(engine, "sku", "SKU-1")) == len(ids) + 1, "one that is too large alone is taken alone"


@on_sqlite
def test_more_rows_than_one_statement_takes_are_all_inserted(engine: Engine, store: Store) -> None:
    number, count = put(engine), 12_000  # of three columns each
    with store.writing() as transaction:
        driver = transaction.connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)  # SQLite's own; some builds take more
        rows = [{"name": "sku", "value": f"MANY-{n}", "message_id": number} for n in range(count)]
        insert_many(transaction.connection, term, rows)
        found = select(func.count()).where(term.c.value.like("MANY-%"))
        assert transaction.connection.scalar(found) == count


def test_a_message_without_terms_is_done_with(engine: Engine, store: Store) -> None:
    with engine.begin() as connection:
        enqueue_many(connection, [NewMessage("order-import", "<imports><import/></imports>", channel="web")])
    assert not index_some(store)
    assert waiting(engine) == 0


def test_indexing_takes_its_share_while_messages_are_in_hand_and_all_there_is_with_none() -> None:
    assert pause_after(0.01, more=True, busy=False) == 0
    assert pause_after(0.01, more=True, busy=True) == pytest.approx(0.01 / SHARE_WHILE_BUSY)
    assert pause_after(0.01, more=False, busy=False) == INDEX_SECONDS
    assert pause_after(10, more=False, busy=True) == pytest.approx(10 / SHARE_WHILE_BUSY)


def test_a_message_is_found_while_it_goes_from_the_one_table_to_the_other(
    engine: Engine, store: Store
) -> None:
    message_id = put(engine, key="order:1")
    finish(store, DELIVERED)

    def move(_c: object, _k: object, statement: str, *_: object) -> None:
        if term.name in statement or unindexed.name in statement:
            index_all(another)

    asking, another = another_connection(engine), Store(another_connection(engine))
    event.listen(asking, "after_cursor_execute", move)
    with asking.connect().execution_options(outbox_reads_only=True) as connection:
        status = status_of(connection, key="order:1")
    asking.dispose()
    another.close()
    assert status is not None
    assert status.message_id == message_id
    assert waiting(engine) == 0


def test_the_last_message_of_a_key_is_found_before_and_after_it_is_indexed(
    engine: Engine, store: Store
) -> None:
    first = put(engine, key="order:1")
    finish(store, DELIVERED)
    index_all(store)
    second = put(engine, key="order:1")
    finish(store, DELIVERED)
    put(engine, key="order:10")
    put(engine, key="order:1", destination="other")
    for _ in range(2):
        with engine.connect().execution_options(outbox_reads_only=True) as connection:
            status = status_of(connection, key="order:1")
        assert status is not None
        assert status.message_id == second > first
        index_all(store)
    assert waiting(engine) == 0


# Texts


def texts(engine: Engine) -> dict[tuple[int, int], str]:
    """Return the texts that are searched, by the message's number and the attempt's."""
    with engine.connect() as connection:
        return {divmod(place, PLACES): said for place, said in connection.execute(select(full_text))}


def test_the_text_of_a_request_and_of_each_reply_is_kept_once(engine: Engine, store: Store) -> None:
    number = put(engine, payload=order("SO-1"))
    finish(store, LATER, reply=Reply(503, (), b"BUSY\x00"))
    index_all(store)
    index_all(store)
    assert texts(engine) == {(number, 0): order("SO-1").lower(), (number, 1): "busy?"}
    assert found(engine, "orderNumber", "SO-1") == [number]


def test_many_that_index_at_once_make_each_text_once(engine: Engine, store: Store) -> None:
    ids = enqueued(engine, indexing.BATCH)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: index_all(store), range(4)))
    index_all(store)
    assert sorted(texts(engine)) == [(each, 0) for each in ids]


def test_texts_that_are_cut_short_are_made_by_the_next(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = enqueued(engine, 1)
    with monkeypatch.context() as broken:
        broken.setattr(indexing, "folded", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index_some(store)
    assert found(engine, "sku", "SKU-1") == [number], "terms do not wait for texts"
    assert texts(engine) == {}
    index_all(store)
    assert sorted(texts(engine)) == [(number, 0)]


def test_a_steady_flow_of_messages_does_not_keep_texts_waiting(engine: Engine, store: Store) -> None:
    for _ in range(3):
        ids = enqueued(engine, 2)
        index_some(store)
    assert {number for number, _ in texts(engine)} >= set(ids)


def test_large_texts_are_taken_one_at_a_time_and_only_their_beginning(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "BATCH_BYTES", 10)
    ids = enqueued(engine, 2)
    for done in (1, 2):
        index_some(store)
        assert sorted(texts(engine)) == [(each, 0) for each in ids[:done]]
    long = put(engine, payload=order("SO-1").replace("<imports>", f"<imports>{' ' * 2 * MAX_TEXT_BYTES}"))
    index_all(store)
    assert len(texts(engine)[long, 0]) == MAX_TEXT_BYTES


def test_no_document_is_read_that_is_not_taken(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = enqueued(engine, 4)
    read: list[set[int]] = []

    def note(_c: object, _k: object, statement: str, parameters: Any, *_: object) -> None:
        if "substr(" in statement:
            given = parameters.values() if isinstance(parameters, dict) else parameters
            numbers = [each for each in given if isinstance(each, int)]
            read.append({*ids}.intersection(numbers))  # none where it reads whatever waits

    monkeypatch.setattr(indexing, "BATCH_BYTES", 2 * len(order("SO-0")) + MAX_TEXT_BYTES // 2)
    large = order("SO-1").replace("<imports>", f"<imports>{' ' * 2 * MAX_TEXT_BYTES}").encode()
    with engine.begin() as connection:
        connection.execute(body.update().where(body.c.message_id == ids[2]).values(payload=large))
    event.listen(engine, "before_cursor_execute", note)
    index_some(store)
    assert [number for number, _ in sorted(texts(engine))] == ids[:2]
    assert read == [{*ids[:2]}]
    index_some(store, with_texts=False)
    assert len(read) == 1, "nor any where texts are given up"
    event.remove(engine, "before_cursor_execute", note)


@on_sqlite
def test_of_what_waits_only_what_is_taken_is_read(engine: Engine, store: Store) -> None:
    enqueued(engine, 3)
    ran: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, *ran_: ran.append(ran_[:2]))
    index_some(store)
    of_texts = [each for each in ran if "FROM outbox_unindexed_text" in each[0] and "LIMIT" not in each[0]]
    assert len(of_texts) == 2, "they are read, and taken"
    with engine.connect() as connection:
        for statement, parameters in of_texts:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            assert not [step for *_, step in plan if step.startswith(f"SCAN {unindexed_text.name}")]


def test_where_texts_are_not_wanted_they_are_given_up(engine: Engine, store: Store) -> None:
    enqueued(engine, 2)
    while index_some(store, with_texts=False):
        pass
    assert texts(engine) == {}
    with store.reading() as transaction:
        assert indexing.lag(transaction) == indexing.NO_LAG


def test_how_far_behind_it_is_can_be_told(engine: Engine, store: Store) -> None:
    first, second = enqueued(engine, 2)
    with store.reading() as transaction:
        before = indexing.lag(transaction)
    assert (before.messages, before.texts) == (2, 0)
    with store.writing() as transaction:
        indexing.index(transaction)
    with store.reading() as transaction:
        after = indexing.lag(transaction)
    assert (after.messages, after.texts) == (0, 2)
    assert first < second
    assert before.oldest == after.oldest == row(engine, first)["created_at"]
    index_all(store)
    with store.reading() as transaction:
        assert indexing.lag(transaction) == indexing.NO_LAG


def test_a_message_that_is_forgotten_is_found_by_nothing_and_its_neighbours_still_are(
    engine: Engine, store: Store
) -> None:
    ids = enqueued(engine, 5)
    index_all(store)
    unindexed_yet = enqueued(engine, 2)
    gone = [ids[0], ids[1], ids[3], unindexed_yet[0]]
    with store.writing() as transaction:
        indexing.forget(transaction, gone)
        indexing.forget(transaction, [])
    index_all(store)
    left = [ids[2], ids[4], unindexed_yet[1]]
    assert found(engine, "sku", "SKU-1") == [number for number, _ in sorted(texts(engine))] == left
    hits = find(store, parse("request:externalReference"), 10).hits
    assert [each.row["id"] for each in hits] == left[::-1]


@on_postgresql
def test_a_message_is_forgotten_though_somebody_indexes_it_right_now(engine: Engine, store: Store) -> None:
    ids = enqueued(engine, 1)
    with store.writing() as transaction:
        indexing.index(transaction)
    with ThreadPoolExecutor(1) as threads:
        with store.writing() as other:
            indexing.index_texts(other)
            forgetting = threads.submit(forget, store, ids)
            eventually(lambda: waits_for_a_lock(engine), what="the one that forgets waits")
        forgetting.result(20)
    assert texts(engine) == {}


@on_postgresql
def test_who_is_to_be_erased_is_found_though_an_engine_has_the_messages_in_hand(
    engine: Engine, store: Store
) -> None:
    ids = enqueued(engine, 1)
    with ThreadPoolExecutor(1) as threads:
        with store.writing() as other:
            indexing.index(other)
            finding = threads.submit(erase.found, store, erase.Asked([("externalReference", "SO-0")]))
            eventually(lambda: waits_for_a_lock(engine) or finding.done(), what="the one that finds waits")
        assert finding.result(20) == ids


def forget(store: Store, ids: list[int]) -> None:
    with store.writing() as transaction:
        indexing.forget(transaction, ids)


def waits_for_a_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return bool(connection.scalar(text(waiting)))
