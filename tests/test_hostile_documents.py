"""A document made to do harm is refused at enqueue with a reason, or taken as the text it is, in no time."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from orderflow_outbox import InvalidMessage, InvalidPayload, PayloadTooLarge, enqueue
from orderflow_outbox.catalogue import PREDEFINED
from orderflow_outbox.documents import MAX_PAYLOAD_BYTES, read_document
from orderflow_outbox.errors import SHOWN_VALUE_CHARACTERS
from orderflow_outbox.tables import message
from tests.databases import on_sqlite

MAX_PROCESSOR_SECONDS = 0.1
"""So long may a thread of the shop look at any one of these documents."""
LOOKS = 3
"""The quickest of so many counts: what the machine does beside it makes the others longer."""
LEVELS = 100_000
SECRET = "what stands in a file of the shop's machine"

HEAD, TAIL = '<imports><import type="order">', "</import></imports>"
ENTITY = "leave the DOCTYPE out"
UTF_8 = "send UTF-8"


def filled(piece: str, head: str = HEAD, tail: str = TAIL, encoding: str = "utf-8") -> bytes:
    """Return a document of as many pieces as the largest size has room for."""
    around = len((head + tail).encode(encoding))
    count = (MAX_PAYLOAD_BYTES - around) // len(piece.encode(encoding))
    return (head + piece * count + tail).encode(encoding)[:MAX_PAYLOAD_BYTES]


def declared(encoding: str, content: str = "") -> bytes:
    return f'<?xml version="1.0" encoding="{encoding}"?>{HEAD}{content}{TAIL}'.encode()


def with_doctype(inside: str, content: str = "&x;") -> bytes:
    return f"<!DOCTYPE imports {inside}>{HEAD}{content}{TAIL}".encode()


BOMB = "[<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {letter} '{f'&{before};' * 10}'>" for before, letter in pairwise("abcdefghijkx")
)
QUADRATIC = with_doctype(f"[<!ENTITY x '{'a' * 1_000_000}'>]", "&x;" * 1_000_000)

REFUSED = {
    "an entity of a file": (with_doctype('[<!ENTITY x SYSTEM "file:///etc/passwd">]'), ENTITY),
    "an entity of an address": (with_doctype('[<!ENTITY x SYSTEM "http://127.0.0.1:1/x">]'), ENTITY),
    "an entity of a parameter": (with_doctype('[<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]'), ENTITY),
    "a DTD elsewhere": (with_doctype('SYSTEM "http://127.0.0.1:1/x.dtd"', ""), ENTITY),
    "a public DTD": (with_doctype('PUBLIC "-//x//y" "http://127.0.0.1:1/x.dtd"', ""), ENTITY),
    "a bare DOCTYPE": (with_doctype("", ""), ENTITY),
    "an exponential bomb": (with_doctype(f"{BOMB}]"), ENTITY),
    "a quadratic bomb": (QUADRATIC, ENTITY),
    "an entity of itself": (with_doctype("[<!ENTITY x '&x;'>]"), ENTITY),
    "as many entities as fit": (filled("<!ENTITY a 'b'>", "<!DOCTYPE imports [", f"]>{HEAD}{TAIL}"), ENTITY),
    "as many attributes declared as fit": (
        filled("<!ATTLIST import a CDATA 'b'>", "<!DOCTYPE imports [", f"]>{HEAD}{TAIL}"),
        ENTITY,
    ),
    "a DOCTYPE behind a long comment": (
        filled("x", "<!--", f"--><!DOCTYPE imports>{HEAD}{TAIL}"),
        ENTITY,
    ),
    "100,000 levels": (
        f"{HEAD}{'<a>' * LEVELS}{'</a>' * LEVELS}{TAIL}".encode(),
        "nest at most 100 elements",
    ),
    "as many levels as fit, all left open": (filled("<a>", tail=""), "nest at most 100 elements"),
    "no end of an attribute": (filled("a", f'{HEAD}<a b="', ""), "make it well-formed XML"),
    "no end of a comment": (filled("a", f"{HEAD}<!--", ""), "make it well-formed XML"),
    "no end of a CDATA section": (filled("x", f"{HEAD}<![CDATA[", ""), "make it well-formed XML"),
    "bytes that are no UTF-8, at the end": (filled("x", tail="")[:-1] + b"\xff", "make it well-formed XML"),
    "an overlong form of <": (f"{HEAD}".encode() + b"\xc0\xbc" + TAIL.encode(), "make it well-formed XML"),
    "UTF-16 with a mark": (filled("x", encoding="utf-16"), UTF_8),
    "UTF-16 without one, little end first": (filled("x", encoding="utf-16-le"), UTF_8),
    "UTF-16 without one, big end first": (filled("x", encoding="utf-16-be"), UTF_8),
    "UTF-32": (filled("x", encoding="utf-32"), UTF_8),
    "UTF-16 declared, and UTF-8": (declared("UTF-16"), UTF_8),
    "UTF-7": (declared("UTF-7", "+ADw-a/+AD4-"), UTF_8),
    "EBCDIC": (f'<?xml version="1.0" encoding="cp037"?>{HEAD}{TAIL}'.encode("cp037"), "well-formed"),
    "ISO-8859-1": (declared("ISO-8859-1"), UTF_8),
    "an encoding nobody knows": (declared("x-nobody-knows"), UTF_8),
    "a codec that is no encoding": (declared("rot13"), UTF_8),
    "an encoding with a name of a million letters": (declared("x" * 1_000_000), UTF_8),
    "bytes beyond the ASCII that is declared": (declared("us-ascii", "Zoë"), "make it well-formed XML"),
    "XML 1.1": (f'<?xml version="1.1"?>{HEAD}&#1;{TAIL}'.encode(), "write XML 1.0"),
    "a NUL": (f"{HEAD}\0{TAIL}".encode(), "without a NUL"),
    "nothing but NUL": (b"\0" * MAX_PAYLOAD_BYTES, "without a NUL"),
    "a NUL as the last byte": (filled("x")[:-1] + b"\0", "without a NUL"),
    "a NUL as a reference": (f"{HEAD}&#0;{TAIL}".encode(), "make it well-formed XML"),
    "a surrogate as a reference": (f"{HEAD}&#xD800;{TAIL}".encode(), "make it well-formed XML"),
}

HARMLESS = {
    "one text": filled("x"),
    "lines": filled("name=value\n"),
    "one CDATA section": filled("x", f"{HEAD}<![CDATA[", f"]]>{TAIL}"),
    "CDATA sections": filled("<![CDATA[]]>"),
    "references": filled("&amp;"),
    "one attribute": filled("x", '<imports><import type="order" note="', '"/></imports>'),
    "one comment": filled("x", f"{HEAD}<!--", f"-->{TAIL}"),
    "comments": filled("<!---->"),
    "processing instructions": filled("<?a?>"),
    "blanks in a tag": filled(" ", '<imports><import type="order"', "/></imports>"),
}


def quickest(payload: bytes) -> float:
    """Return how long the processor is busy with looking at an order of this document."""
    taken = []
    for _ in range(LOOKS):
        began = time.process_time()
        with suppress(InvalidMessage):
            read_document(PREDEFINED["order-import"], payload)
        taken.append(time.process_time() - began)
    return min(taken)


@on_sqlite
@pytest.mark.parametrize(("payload", "fix"), REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_document_is_refused_with_a_fix_and_nothing_is_stored(
    engine: Engine, payload: bytes, fix: str
) -> None:
    assert len(payload) <= MAX_PAYLOAD_BYTES
    with engine.begin() as connection, pytest.raises(InvalidPayload) as caught:
        enqueue(connection, "order-import", payload, channel="web")
    assert (type(caught.value), caught.value.field) == (InvalidPayload, "payload")
    assert fix in caught.value.fix
    assert len(caught.value.value) <= SHOWN_VALUE_CHARACTERS
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(message)) == 0


@pytest.mark.parametrize("payload", [each for each, _ in REFUSED.values()], ids=REFUSED.keys())
def test_a_hostile_document_is_refused_in_no_time(payload: bytes) -> None:
    assert quickest(payload) < MAX_PROCESSOR_SECONDS


@on_sqlite
@pytest.mark.parametrize("payload", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_huge_document_that_does_no_harm_is_stored_as_it_is(engine: Engine, payload: bytes) -> None:
    with engine.begin() as connection:
        stored = enqueue(connection, "order-import", payload, channel="web")
    assert stored.created


@pytest.mark.parametrize("payload", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_huge_document_that_does_no_harm_is_looked_at_in_no_time(payload: bytes) -> None:
    assert quickest(payload) < MAX_PROCESSOR_SECONDS


def test_a_document_too_large_is_refused_before_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow_outbox.documents._Inspection", None)
    with pytest.raises(PayloadTooLarge, match=r"split the imports") as caught:
        read_document(PREDEFINED["order-import"], filled("x") + b"<a>")
    assert caught.value.field == "payload"


@pytest.mark.parametrize("entity", ["SYSTEM", "PUBLIC 'a'"])
def test_no_file_of_the_shops_machine_is_told_or_sent(tmp_path: Path, entity: str) -> None:
    (tmp_path / "secret").write_text(SECRET)
    payload = with_doctype(f"[<!ENTITY x {entity} '{(tmp_path / 'secret').as_uri()}'>]")
    with pytest.raises(InvalidPayload) as caught:
        read_document(PREDEFINED["order-import"], payload)
    assert SECRET not in str(caught.value)


def test_the_place_where_a_document_stops_being_xml_is_shown_by_its_own_line_alone() -> None:
    payload = f"{HEAD}\n{'Gärtnerei' * 9}\nbefore & after\nthe next line{TAIL}"
    with pytest.raises(InvalidPayload, match="line 3") as caught:
        read_document(PREDEFINED["order-import"], payload)
    assert caught.value.value == "'before & after'"


def test_what_is_shown_of_a_huge_value_costs_no_more_than_of_a_small_one() -> None:
    payload = "\0" * (1 << 26)
    began = time.process_time()
    with pytest.raises(InvalidPayload):
        read_document(PREDEFINED["order-cancel"], payload)
    assert time.process_time() - began < MAX_PROCESSOR_SECONDS
