"""The language of a search: what people type is understood, or they are told what is wrong with it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orderflow_outbox import State
from worker.search.fields import FIELDS, fields_of, with_fields
from worker.search.language import (
    IN,
    MAX_CONDITIONS,
    MAX_LINE_CHARACTERS,
    NAMES,
    PROPERTIES,
    SHORTEST_TEXT,
    TERMS,
    TEXT,
    TEXTS,
    VERDICTS,
    Condition,
    Query,
    QueryProblem,
    parse,
)
from worker.search.texts import MAX_TEXT_BYTES, excerpt, folded, text_of

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_a_line_is_read_as_people_type_it() -> None:
    assert parse(' SO-1 State:DEAD  -reason:expired "no such \\"x\\"" order:"A 1" 42 ').conditions == (
        Condition("word", "SO-1"),
        Condition("state", "dead"),
        Condition("reason", "expired", negated=True),
        Condition("text", 'no such "x"'),
        Condition("order", "A 1"),
        Condition("word", "42"),
    )
    assert parse("orderNumber:SO-1 externalReference:R") == parse("order:SO-1 reference:R")
    assert parse("  ") == Query()
    assert parse("12:30") == Query((Condition("word", "12:30"),))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("colour:red", r'no colour: .* choose one of id:, .*status:.* "colour:red" in quotes'),
        ("state:gone", r"state: is 'gone': choose one of pending, .*cancelled"),
        ("verdict:bad", r"verdict: is 'bad': choose one of delivered, .*released"),
        ("status:teapot", r"status: is 'teapot': .*503, or 5xx"),
        ("id:first", r"id: is 'first': write the number"),
        (f"id:{2**63}", "write the number"),
        ("after:yesterday", r'after: is \'yesterday\': write "2h", "7d" or 2026'),
        ("after:0001-01-01", r'after: is \'0001-01-01\': write "2h"'),
        ("before:9999-12-31T23:59", r'write "2h"'),
        ("before:9999-12-31T23:59-10:00", r'write "2h"'),
        ("after:1970-01-01T00:00+01:00", r'write "2h"'),
        ("in:love", r"in: is 'love': write in:dead"),
        ("-after:2h", "leave the - out"),
        ("-id:7", "leave the - out"),
        ('"ab"', r"'ab' is too short .* 3 characters"),
        ("reply:ab", r"'ab' is too short"),
        ('"no end', "has no end"),
        ("order:", "nothing after order:"),
        ("state:dead - x", "nothing after -"),
        ('""', 'nothing in ""'),
        ("a\0b", "NUL"),
        ("x" * (MAX_LINE_CHARACTERS + 1), f"at most {MAX_LINE_CHARACTERS}"),
        ("x " * (MAX_CONDITIONS + 1), f"at most {MAX_CONDITIONS}"),
    ],
)
def test_what_cannot_be_understood_is_named_with_what_can_be_done(line: str, told: str) -> None:
    with pytest.raises(QueryProblem, match=told):
        parse(line)


def test_spans_of_time_become_moments_when_they_are_asked_for() -> None:
    fixed = parse("after:2h before:2026-11-01T09:30 state:dead").at(NOW)
    assert [each.value for each in fixed.conditions] == [
        (NOW - timedelta(hours=2)).isoformat(),
        "2026-11-01T09:30:00+00:00",
        "dead",
    ]
    assert parse(str(fixed)) == fixed


_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=SHORTEST_TEXT, max_size=20
)
_values = _texts.filter(lambda value: value.strip())
_words = st.from_regex(r"[^\s\"\-:\0][^\s\0]{0,15}", fullmatch=True).filter(
    lambda word: not word[:1].isascii() or not word[:1].isalpha() or ":" not in word
)
_free = st.sampled_from(
    [*TERMS, *(name for name in PROPERTIES if name not in ("state", "verdict", "status"))]
)
_negated = st.booleans()
_conditions = st.one_of(
    st.builds(Condition, st.just("word"), _words, _negated),
    st.builds(Condition, st.sampled_from(TEXTS), _values, _negated),
    st.builds(Condition, _free, _values, _negated),
    st.builds(Condition, st.just("state"), st.sampled_from([each.value for each in State]), _negated),
    st.builds(Condition, st.just("verdict"), st.sampled_from(VERDICTS), _negated),
    st.builds(Condition, st.just("status"), st.sampled_from(["200", "5xx"]), _negated),
    st.builds(Condition, st.just("id"), st.integers(1, 2**63 - 1).map(str)),
    st.builds(Condition, st.sampled_from(["after", "before"]), st.sampled_from(["2h", "2026-11-01"])),
    st.builds(Condition, st.just(IN), st.just("dead"), _negated),
)


@given(st.lists(_conditions, max_size=8))
@example([Condition("text", 'a "b\\" \\'), Condition("sku", '"'), Condition("word", 'x"\\')])
def test_a_query_printed_and_parsed_again_is_the_same(conditions: list[Condition]) -> None:
    query = Query(tuple(conditions))
    assert parse(str(query)) == query


@given(st.lists(_conditions, max_size=8))
def test_fields_that_are_left_as_they_are_change_nothing(conditions: list[Condition]) -> None:
    query = Query(tuple(conditions))
    again = with_fields(query, fields_of(query))
    assert sorted(map(str, again.conditions)) == sorted(map(str, conditions))


def test_fields_write_their_conditions_and_leave_the_rest_of_the_line() -> None:
    query = parse('state:dead -reason:expired "no such" sku:A operation:a operation:b after:2026-11-01')
    assert fields_of(query) == {
        **dict.fromkeys(FIELDS, ""),
        "state": "dead",
        "text": "no such",
        "after": "2026-11-01",
    }
    filled_in = {"state": "", "text": "no such", "word": " SO-1 ", "status": "5xx", "operation": "c d"}
    assert str(with_fields(query, filled_in)) == (
        '-reason:expired sku:A operation:a operation:b SO-1 "no such" operation:"c d" status:5xx'
    )
    with pytest.raises(QueryProblem, match="teapot"):
        with_fields(query, {"status": "teapot"})


@pytest.mark.parametrize("line", ['"piece"', '-"piece"', "text:piece", "-request:piece", "sku:A reply:piece"])
def test_who_may_not_know_what_is_in_messages_asks_for_no_piece_of_text(line: str) -> None:
    with pytest.raises(QueryProblem, match=r"piece.* operators alone"):
        parse(line).without_texts()


@given(st.text(max_size=60))
def test_any_line_is_a_query_or_a_problem(line: str) -> None:
    with suppress(QueryProblem):
        query = parse(line)
        assert parse(str(query)) == query


def test_every_name_is_told_of() -> None:
    assert {*TEXTS, *TERMS, *PROPERTIES} <= {*NAMES}
    assert parse('text:"abc d"') == Query((Condition(TEXT, "abc d"),))


# Texts


@given(st.text(), st.text())
def test_folding_leaves_each_character_in_its_place(before: str, after: str) -> None:
    assert len(folded(before)) == len(before)
    assert folded(before + after) == folded(before) + folded(after)
    assert folded(before.upper()).count("\0") == before.count("\0")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<a>ä</a>".encode(), "<a>ä</a>"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>ä</a>'.encode("latin-1"), "<a>ä</a>"),
        ("\ufeff<a>ä</a>".encode("utf-16"), "<a>ä</a>"),
        ("\ufeff<a/>".encode(), "<a/>"),
        (b"<a>\xff\x00</a>", "<a>\ufffd?</a>"),
        (b'<?xml version="1.0" encoding="zlib"?>\xff', "\ufffd"),
        (b'<?xml version="1.0" encoding="idna"?>\xff', "\ufffd"),
        (b'<?xml version="1.0" encoding="raw_unicode_escape"?>\\ud800', "?"),
    ],
)
def test_any_body_has_a_text_that_a_database_takes(body: bytes, text: str) -> None:
    assert text_of(body).endswith(text)
    text_of(body).encode()


@given(st.binary())
def test_no_body_is_refused(body: bytes) -> None:
    assert "\0" not in text_of(body)


def test_of_a_long_body_the_beginning_is_searched() -> None:
    assert len(text_of(b"x" * (MAX_TEXT_BYTES + 9))) == MAX_TEXT_BYTES
    assert text_of(b"x" + "ä".encode() * MAX_TEXT_BYTES).startswith("xää")


def test_an_excerpt_is_one_line_around_the_match() -> None:
    piece = excerpt(2, "a" * 50 + "\nNo Such\tthing" + "z" * 50, "no such")
    assert piece is not None
    assert (piece.n, piece.before, piece.match) == (2, "…" + "a" * 39 + " ", "No Such")
    assert piece.after == " thing" + "z" * 34 + "…"
    assert excerpt(0, "nothing", "no such") is None
