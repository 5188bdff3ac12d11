"""XML laid out for reading: nothing is lost, loaded or expanded, and none of it goes on for ever."""

from __future__ import annotations

import pytest

from worker.pretty import DEEPEST, MOST_BYTES, MOST_CHARACTERS, pretty


def test_every_tag_stands_on_a_line_of_its_own() -> None:
    declared = b'<?xml version="1.0"?>'
    document = b'<a x="1" y="&lt;2&gt;"><b>one &amp; two</b><c/> loose <d><e></e></d><!-- so --></a>'
    assert pretty(declared + document) == (
        '<a x="1" y="&lt;2&gt;">\n'
        "  <b>one &amp; two</b>\n"
        "  <c/>\n"
        "  loose\n"
        "  <d>\n"
        "    <e/>\n"
        "  </d>\n"
        "  <!-- so -->\n"
        "</a>"
    )


def test_sections_of_characters_stay_what_they_are() -> None:
    document = b"<a><b><![CDATA[x=<1>\ny=2]]></b></a>"
    assert pretty(document) == "<a>\n  <b><![CDATA[x=<1>\ny=2]]></b>\n</a>"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"Internal Server Error",
        b"<a><b></a>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1/x"><a/>',
        b"<a>&nbsp;</a>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"\xff\xfe<a/>",
        b"<a>" + b"x" * MOST_BYTES + b"</a>",
    ],
)
def test_what_cannot_be_laid_out_is_left_as_it_is(document: bytes) -> None:
    assert pretty(document) is None


def test_deep_documents_are_laid_out_no_wider_than_can_be_read_or_not_at_all() -> None:
    deep = 100
    laid_out = pretty(b"<a>" * deep + b"</a>" * deep) or ""
    assert max(map(len, laid_out.splitlines())) == 2 * DEEPEST + len("</a>")
    deeper = MOST_BYTES // 7
    assert deeper * 2 * DEEPEST > MOST_CHARACTERS
    assert pretty(b"<a>" * deeper + b"</a>" * deeper) is None
