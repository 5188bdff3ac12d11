"""The transaction log, searched: what is found, in which order, within which bounds, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from orderflow_outbox.tables import PLACES, full_text
from tests.databases import Databases, on_postgresql, on_sqlite, on_sqlite_first
from tests.documents import order
from tests.shell import Shell
from tests.steps import DELIVERED, LATER, REFUSED, another_connection, bury, finish, put, set_row
from worker import schema
from worker.by_hand import discard
from worker.database import connect
from worker.deliveries import Reply
from worker.indexer import index_some
from worker.replays.replaying import replay
from worker.search.finding import Results, find
from worker.search.language import LARGEST_ID, QueryProblem, parse
from worker.store import purging, searching, seeking
from worker.store.purging import Kept
from worker.store.transactions import Store, bound_all, deadline_of

Search = Callable[..., list[int]]


@pytest.fixture
def search(store: Store) -> Search:
    """Search, once everything is indexed; return the numbers found."""

    def searched(line: str, **arguments: Any) -> list[int]:
        index_all(store)
        return [each.row["id"] for each in results(store, line, **arguments).hits]

    return searched


def results(store: Store, line: str, limit: int = 20, **arguments: Any) -> Results:
    return find(store, parse(line), limit, **arguments)


def index_all(store: Store) -> None:
    while index_some(store):
        pass


def answered(store: Store, text: str, verdict: Any = DELIVERED) -> int:
    """Have the one message that is due answered with a text; return its number."""
    return finish(store, verdict, reply=Reply(200, (), text.encode())).id


def test_a_message_is_found_by_everything_it_is_known_by(
    engine: Engine, store: Store, search: Search
) -> None:
    first = put(engine, key="order:SO-7", payload=order("SO-7"))
    put(engine, key="order:SO-71", payload=order("SO-71"))
    for line in (f"id:{first}", "key:order:SO-7", "order:SO-7", "reference:SO-7", "SO-7", f"{first}"):
        assert search(line) == [first], line
    assert search("sku:SKU-1") == [first + 1, first], "the latest come first"
    assert search("") == [first + 1, first], "an empty line finds everything"


def test_a_term_is_found_before_it_is_indexed(engine: Engine, store: Store) -> None:
    number = put(engine, key="order:SO-7", payload=order("SO-7"))
    for line in ("SO-7", "order:SO-7", "key:order:SO-7 state:pending"):
        assert [each.row["id"] for each in results(store, line).hits] == [number]
    assert not results(store, "order:SO").hits
    assert results(store, "").lag.messages == 1


def test_text_is_found_in_requests_and_replies_whatever_its_case(
    engine: Engine, store: Store, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeking, "NEWEST_TEXTS", 1)  # all but one are found by the index
    first = put(engine, payload=order("SO-7"))
    assert answered(store, '<oops>Artikel "ÄÖ-100%_x" unbekannt</oops>', REFUSED) == first
    second = put(engine, payload=order("SO-8"))
    answered(store, "<ok/>")
    assert search('"artikel"') == search("reply:UNBEKANNT") == search('"äö-100%_X"') == [first]
    assert search('"externalReference="') == search("request:externalreference") == [second, first]
    assert search("request:unbekannt") == search("reply:externalReference") == []
    assert search('"100_%"') == search("nowhere") == [], "nothing in it is a pattern"
    assert search("externalReference unbekannt") == [first], "each piece may be in another text"
    assert search('"externalReference" -"unbekannt"') == [second]


def test_what_became_of_a_message_is_searched_as_it_is_shown(
    engine: Engine, store: Store, search: Search
) -> None:
    dead = bury(store, engine, reason="items_failed")
    retried = put(engine)
    finish(store, LATER, reply=Reply(503, (), b"busy"))
    fresh = put(engine, destination="main", channel="OTHER")
    assert search("state:dead") == search("in:dead") == search("verdict:refused") == [dead]
    assert search("reason:items_failed status:200") == [dead]
    assert search("status:503") == search("status:5xx") == search("verdict:retry state:pending") == [retried]
    assert search("state:dead state:pending") == [fresh, retried, dead], "one of several values"
    assert search("-state:dead") == [fresh, retried]
    assert search("-verdict:retry") == [fresh, dead], "what has none is not of that one"
    assert search("channel:OTHER") == search("-in:dead -status:503") == [fresh]
    assert search("operation:order-import destination:elsewhere") == search("organisation:x") == []


def test_a_discarded_letter_is_open_no_more_and_its_message_is_still_dead(
    engine: Engine, store: Store, search: Search
) -> None:
    dead = bury(store, engine)
    discard(store, dead, "ann", "a test")
    assert search("state:dead") == [dead]
    assert search("in:dead") == []


def test_a_replay_is_found_by_its_origin_and_by_the_same_text(
    engine: Engine, store: Store, search: Search
) -> None:
    dead = bury(store, engine, payload=order("SO-7"))
    assert search("request:SO-7") == [dead]
    again = replay(store, dead, "ann", "mended").replay
    assert search(f"replay-of:{dead}") == [again]
    assert search("order:SO-7") == search("request:SO-7") == [again, dead]


def test_time_bounds_a_search_by_when_messages_were_enqueued(
    engine: Engine, store: Store, search: Search
) -> None:
    ids = [put(engine, payload=order("SO-7")) for _ in range(40)]
    with store.reading() as transaction:
        now = transaction.now
    for age, number in enumerate(reversed(ids)):
        set_row(engine, number, created_at=now - timedelta(hours=2 * age, minutes=1))
    assert search("after:2h") == ids[-1:]
    assert search("after:9h before:3h") == ids[-5:-2][::-1]
    assert search("before:69h order:SO-7") == ids[:5][::-1]
    moment = (now - timedelta(hours=5)).isoformat()
    assert search(f"after:{moment}") == ids[-3:][::-1]
    assert search(f"before:{moment}", limit=2) == ids[-5:-3][::-1]


@on_sqlite_first
@pytest.mark.parametrize(
    ("line", "minutes", "those"),
    [("after:2h", (300, 240, 110, 140, 60), (4, 2)), ("before:2h", (300, 240, 180, 110, 140), (4, 2, 1, 0))],
)
def test_neighbours_whose_moments_are_out_of_order_are_found_all_the_same(
    engine: Engine, store: Store, search: Search, line: str, minutes: tuple[int, ...], those: tuple[int, ...]
) -> None:
    ids = [put(engine) for _ in minutes]
    with store.reading() as transaction:
        now = transaction.now
    for number, ago in zip(ids, minutes, strict=True):
        set_row(engine, number, created_at=now - timedelta(minutes=ago))
    assert search(line) == [ids[each] for each in those]


def test_an_empty_outbox_has_nothing_of_any_time(search: Search) -> None:
    for line in (
        "after:2h",
        "before:2h",
        "after:1970-01-01",
        "before:8999-12-31T23:59",
        "after:9h before:2h",
    ):
        assert search(line) == [], line


@on_postgresql
def test_messages_that_are_purged_while_a_time_is_looked_for_are_passed_over(
    engine: Engine, store: Store
) -> None:
    ids = [put(engine) and finish(store, DELIVERED).id for _ in range(3)]
    index_all(store)
    asking, now = another_connection(engine), datetime.now(UTC)

    def purge_the_last(_c: object, _k: object, statement: str, *_: object) -> None:
        if "max(" in statement:
            with store.writing() as transaction:
                purging.purge(transaction, [[Kept(each, "delivered", None, now, now)] for each in ids[1:]])

    event.listen(asking, "after_cursor_execute", purge_the_last)
    assert results(Store(asking), "after:2099-01-01").hits == []
    asking.dispose()
    assert [each.row["id"] for each in results(store, "after:2h").hits] == ids[:1]


@pytest.mark.parametrize("line", ["", "sku:SKU-1", "request:SKU-1", "state:pending", "SKU-1 -state:dead"])
def test_pages_follow_one_another_and_miss_nothing(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    for name in ("AT_ONCE", "NEWEST_TEXTS", "MOST_OF_THE_INDEX"):
        monkeypatch.setattr(seeking, name, 3)
    monkeypatch.setattr(searching, "AT_ONCE", 3)
    monkeypatch.setattr(searching, "WALKED_AT_ONCE", 3)
    ids = [put(engine, payload=order("SO-7")) for _ in range(11)]
    index_all(store)
    with engine.begin() as connection:  # so that steps end between a request and its reply
        replies = [{"place": each * PLACES + 1, "text": "<ok/>"} for each in ids]
        connection.execute(full_text.insert(), replies)
    met, before = [], None
    while True:
        page = results(store, line, limit=4, **({} if before is None else {"before": before}))
        met += [each.row["id"] for each in page.hits]
        before = page.before
        if before is None:
            break
    assert met == ids[::-1]


def test_an_excerpt_shows_where_a_text_stands(engine: Engine, store: Store) -> None:
    put(engine, payload=order("SO-7"))
    answered(store, "<oops>\n\tno such\x00 Article\x1b[2J</oops>" + "x" * 100)
    index_all(store)
    (hit,) = results(store, 'reply:"no such"').hits
    assert hit.excerpt is not None
    assert (hit.excerpt.n, hit.excerpt.before, hit.excerpt.match) == (1, "<oops>  ", "no such")
    assert hit.excerpt.after.startswith("? Article [2J</oops>x")
    assert hit.excerpt.after.endswith("x…")
    (other,) = results(store, "request:so-7").hits
    assert other.excerpt is not None
    assert (other.excerpt.n, other.excerpt.match) == (0, "SO-7")
    assert results(store, "").hits[0].excerpt is None


@on_sqlite_first
def test_an_excerpt_is_of_the_request_or_of_a_reply_as_was_asked(engine: Engine, store: Store) -> None:
    put(engine, payload=order("SO-7"))
    answered(store, "<done>SO-7</done>")
    index_all(store)
    for line, n in (("reply:SO-7", 1), ("request:SO-7", 0)):
        (hit,) = results(store, line).hits
        assert hit.excerpt is not None
        assert hit.excerpt.n == n, line


def test_a_search_that_takes_too_long_ends_and_says_how_far_it_came(engine: Engine, store: Store) -> None:
    ids = [put(engine) for _ in range(3)]
    index_all(store)
    found = results(store, "status:503", seconds=0.0)
    assert found.out_of_time
    assert found.before is not None
    assert found.before > ids[-1] or found.before in ids
    assert not results(store, "status:503", seconds=30).out_of_time


@on_sqlite
def test_a_statement_of_sqlites_is_interrupted_and_the_connection_goes_on(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(engine)
    monkeypatch.setattr(searching, "LOOKED_AT_EVERY", 1)
    found = results(store, "status:503", seconds=0.0)
    assert (found.out_of_time, found.before) == (True, LARGEST_ID), "it ended before a statement had"
    assert len(results(store, "").hits) == 1


@on_sqlite
def test_a_bound_ends_with_its_transaction(store: Store) -> None:
    counting = text(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 99999) SELECT max(x) FROM n"
    )
    for opened in (store.writing, store.reading):
        with opened() as transaction:
            bound_all(transaction.connection, 0)
            with pytest.raises(OperationalError, match="interrupted"):
                transaction.connection.execute(counting)
        with opened() as transaction:
            assert transaction.connection.execute(counting).scalar_one() == 99_999


@on_sqlite
def test_a_search_leaves_the_bound_of_its_transaction_and_heeds_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "LOOKED_AT_EVERY", 1)
    with store.reading() as transaction:
        bound_all(transaction.connection, 30)
        bound = deadline_of(transaction.connection)
        assert not searching.search(transaction, parse("status:503"), 20).out_of_time
        assert deadline_of(transaction.connection) == bound is not None
        bound_all(transaction.connection, 0)
        assert searching.search(transaction, parse("status:503"), 20).out_of_time


@on_postgresql
def test_a_statement_of_postgresqls_is_cancelled(engine: Engine, store: Store) -> None:
    put(engine)
    with engine.begin() as locking:
        locking.execute(text("LOCK TABLE outbox_dead_letter IN ACCESS EXCLUSIVE MODE"))
        assert results(store, "status:503", seconds=0.2).out_of_time


def without_index(engine: Engine) -> None:
    """Leave a database as one that could not make the index of texts."""
    kind = {"sqlite": ("TRIGGER", "_added"), "postgresql": ("INDEX", "")}
    what, end = kind[engine.dialect.name]
    with engine.begin() as connection:
        connection.execute(text(f"DROP {what} outbox_full_text_trigrams{end}"))


def test_without_an_index_of_texts_all_the_rest_is_searched_and_it_is_made_later_over_everything(
    engine: Engine, store: Store
) -> None:
    without_index(engine)
    number = put(engine, payload=order("SO-7"))
    index_all(store)
    assert [each.row["id"] for each in results(store, "SO-7 state:pending").hits] == [number]
    with pytest.raises(QueryProblem, match="python -m worker db upgrade"):
        results(store, "request:SO-7")
    schema.upgrade(engine)
    assert [each.row["id"] for each in results(store, "request:SO-7").hits] == [number]


def test_a_role_that_may_make_no_extension_has_all_the_rest_until_the_owner_makes_it(
    databases: Databases, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = databases.server
    for statement in ("CREATE DATABASE poor", "CREATE ROLE poor LOGIN"):
        server.execute(statement)
    try:
        server.execute("GRANT ALL ON SCHEMA public TO poor", "poor")
        url = f"postgresql+psycopg://poor@/poor?host={server.socket}"
        monkeypatch.setenv("OUTBOX_DATABASE_URL", url)
        shell = Shell(capsys)
        assert (
            "messages are not found by text: have the database's owner run" in shell.good("db", "upgrade").out
        )
        poor = connect(SecretStr(url))
        put(poor, payload=order("SO-7"))
        index_all(Store(poor))
        assert "CREATE EXTENSION pg_trgm" in shell.any("search", "request:SO-7").err
        server.execute("CREATE EXTENSION pg_trgm", "poor")
        assert shell.good("db", "upgrade").out == "the tables are of version 1 already\n"
        assert len(results(Store(poor), "request:SO-7").hits) == 1
        poor.dispose()
    finally:
        server.execute("DROP DATABASE poor WITH (FORCE)")
        server.execute("DROP ROLE poor")
