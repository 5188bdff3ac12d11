"""A document through a browser and back: what was not touched keeps its bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.documents import order
from worker.by_hand import NotPossible
from worker.replays.typed import BYTE_ORDER_MARK, LARGEST, document_of, text_of

LINES = st.lists(
    st.tuples(
        st.sampled_from(["<a>", "", " x ", "\u2028\x85\x0c", "<é>"]), st.sampled_from(["\r\n", "\r", "\n"])
    ),
    max_size=12,
).map(lambda pairs: "".join(line + end for line, end in pairs))
MIXED = b"<a>\r\none\ntwo\r\nthree\rfour\r\n</a>\n"


def typed(text: str) -> str:
    """Return what a browser sends of a text area in which nothing was changed."""
    return re.sub("\r\n|\r|\n", "\r\n", text)


@given(LINES, LINES, st.booleans())
def test_a_document_that_is_not_touched_comes_back_byte_by_byte(first: str, last: str, marked: bool) -> None:
    document = BYTE_ORDER_MARK * marked + (first + "end" + last).encode()
    assert document_of(typed(text_of(document)), document) == document


@given(LINES, LINES, LINES)
def test_around_a_change_every_byte_stays(before: str, middle: str, after: str) -> None:
    document = f"{before}[1]\r\n{middle}[2]\n{after}[3]".encode()
    made = document_of(typed(text_of(document)).replace("[2]", "[changed]"), document)
    assert made == document.replace(b"[2]", b"[changed]")


@given(LINES, LINES)
@example("a\rb\nc", "a\n\nc")
@example("<a>\n<a>\n<a>\r\r", "<a>\r\n\r\n\r\n")
def test_whatever_is_typed_comes_back_line_by_line(before: str, after: str) -> None:
    assert re.split("\r\n|\r|\n", document_of(typed(after), before.encode()).decode()) == re.split(
        "\r\n|\r|\n", after
    )


def test_a_new_line_ends_as_most_do() -> None:
    made = document_of(typed(MIXED.decode()).replace("two", "two\r\nnew\r\nnewer"), MIXED)
    assert made == b"<a>\r\none\ntwo\r\nnew\r\nnewer\r\nthree\rfour\r\n</a>\n"
    assert document_of("<a>\r\n</a>", b"<a></a>") == b"<a>\n</a>"
    assert document_of("", MIXED) == b""


def test_an_order_with_unix_ends_is_not_made_one_with_others() -> None:
    before = order("SO-1").encode()
    assert (
        document_of(typed(before.decode()).replace("SKU-1", "SKU-2"), before)
        == order("SO-1", sku="SKU-2").encode()
    )


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"x" * (LARGEST + 1), "too many for a page"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>'.encode("latin-1"), "not in UTF-8"),
        ("<a/>".encode("utf-16"), "not in UTF-8"),
        (b"\0", "no page can hold"),
    ],
)
def test_what_would_not_come_back_as_it_was_is_not_edited_in_a_page(document: bytes, told: str) -> None:
    with pytest.raises(NotPossible, match=told):
        text_of(document)
