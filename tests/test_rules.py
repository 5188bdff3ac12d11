"""What each reply means: a row for every shape OrderFlow, or a proxy in front of it, answers with."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load_rules
from orderflow_outbox import PREDEFINED, Answer
from worker.deliveries import Failure, Reply
from worker.rules import Judge, leaves_in_doubt
from worker.rules.answered import MAX_ATTRIBUTES, MAX_COMMENTS, MAX_TAGS, Answered
from worker.rules.words import MAX_TEXT_CHARACTERS
from worker.transport import MAX_REPLY_BYTES
from worker.verdicts import Delivered, Hold, Refused, RetryLater, Verdict

INTERFACE = Judge(load_rules(None, PREDEFINED, ["main"]))
NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)

DELIVERED = ("delivered",)
REFUSED = ("refused",)
HOLD = ("hold",)
OF_THE_MESSAGE = ("retry", "message")
SYSTEMIC = ("retry", "destination")


def item(reference: str, inner: str = "") -> str:
    return f'<import type="order" operation="insert" externalReference="{reference}">{inner}</import>'


def report(successes: str = "", failures: str = "", duplicates: str = "", attributes: str = "") -> bytes:
    groups = {"Successes": successes, "Failures": failures, "Duplicates": duplicates}
    content = "".join(f"<import{name}>{items}</import{name}>" for name, items in groups.items() if items)
    return f"<importResult{attributes}>{content}</importResult>".encode()


FAILURE = "<failureMessage>no such SKU</failureMessage><failureDetail>SKU-9</failureDetail>"
ERROR_PAGE = (
    b"<html><head><title>OrderFlow</title></head><body><h2>ERROR</h2><p>stock is locked</p></body></html>"
)
XHTML_ERROR_PAGE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" '
    b'"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">\n<html xmlns="http://www.w3.org/1999/xhtml">'
    b"<head><title>OrderFlow</title></head><body><h2>ERROR&nbsp;!</h2><p>stock is locked</p></body></html>"
)
EXCEPTION = b"<response><exception>java.lang.IllegalStateException: locked</exception></response>"
MAINTENANCE = b"<html><head><title>Back soon</title></head><body><h2>Maintenance</h2></body></html>"
NO_UPDATE = b"Result 'no_operation' for order SO-1"
NO_CANCEL = b"No cancel operation performed for order SO-1"


def kind(verdict: Verdict) -> tuple[str, ...]:
    """Return a verdict as the protocol's table has it."""
    match verdict:
        case Delivered():
            return DELIVERED
        case Refused():
            return REFUSED
        case Hold():
            return HOLD
        case RetryLater(_, systemic):
            return SYSTEMIC if systemic else OF_THE_MESSAGE


def judge(reply: Reply | Failure, operation: str = "order-import", in_doubt: bool = False) -> Verdict:
    return INTERFACE.judge(reply, "main", PREDEFINED[operation], in_doubt, NOW).verdict


def judged(
    body: bytes = b"",
    status: int = 200,
    operation: str = "order-import",
    in_doubt: bool = False,
    complete: bool = True,
    **headers: str,
) -> Verdict:
    named = tuple((name.replace("_", "-").title(), value) for name, value in headers.items())
    return judge(Reply(status, named, body, complete), operation, in_doubt)


# A report per item


@pytest.mark.parametrize(
    ("body", "expected", "reason"),
    [
        (report(item("SO-1")), DELIVERED, "imported"),
        (report(item("SO-1") + item("SO-2")), DELIVERED, "imported"),
        (report(item("SO-1"), duplicates=item("SO-2")), DELIVERED, "imported"),
        (report(duplicates=item("SO-1")), DELIVERED, "duplicate"),
        (report(failures=item("SO-1", FAILURE)), REFUSED, "items_failed"),
        (report(failures=item("SO-1", FAILURE) * 2), REFUSED, "items_failed"),
        (report(item("SO-1"), failures=item("SO-2", FAILURE)), DELIVERED, "split"),
        (report(failures=item("SO-1"), duplicates=item("SO-2")), DELIVERED, "split"),
        (report(), SYSTEMIC, "unknown_reply"),
        (b"<importResult><importSuccesses/></importResult>", SYSTEMIC, "unknown_reply"),
        (report(item("SO-1"), attributes=' xmlns="urn:orderflow"'), DELIVERED, "imported"),
        (b"<?xml version='1.0'?>\n" + report(item("SO-1")), DELIVERED, "imported"),
        (b"\xef\xbb\xbf" + report(item("SO-1")), DELIVERED, "imported"),
        (b"\r\n  " + report(item("SO-1")), DELIVERED, "imported"),
        (report(item("SO-1")).decode().encode("utf-16"), SYSTEMIC, "unknown_reply"),
    ],
)
def test_an_import_is_delivered_refused_or_split_by_what_its_items_are(
    body: bytes, expected: tuple[str, ...], reason: str
) -> None:
    verdict = judged(body)
    assert (kind(verdict), verdict.why.reason) == (expected, reason)


def test_failed_items_are_told_with_their_reason() -> None:
    verdict = judged(report(failures=item("SO-1", FAILURE) + item("SO-2")))
    assert verdict.why.text == "2 of 2 items failed: SO-1: no such SKU; SO-2: no reason given"


def test_a_message_that_is_split_tells_into_what() -> None:
    verdict = judged(report(item("SO-1"), duplicates=item("SO-2"), failures=item("SO-3", FAILURE)))
    assert verdict.why.text == "2 done, 1 refused"


def test_failed_items_of_a_namespaced_report_are_told_with_their_reason() -> None:
    verdict = judged(report(failures=item("SO-2", FAILURE), attributes=' xmlns="urn:orderflow"'))
    assert verdict.why.text == "1 of 1 items failed: SO-2: no such SKU"


def test_of_many_failed_items_some_are_named_and_the_rest_counted() -> None:
    failures = "".join(item(f"SO-{n}", "<failureMessage>bad</failureMessage>") for n in range(8))
    text = judged(report(failures=failures)).why.text
    assert text.startswith("8 of 8 items failed: SO-0: bad; SO-1: bad")
    assert text.endswith("and 3 more")


def test_a_report_with_a_bad_status_delivers_nothing() -> None:
    assert kind(judged(report(item("SO-1")), status=500)) == SYSTEMIC
    assert kind(judged(report(item("SO-1")), status=422)) == REFUSED


def test_a_report_that_answers_a_cancellation_delivers_nothing() -> None:
    assert kind(judged(report(item("SO-1")), operation="order-cancel")) == SYSTEMIC


def test_a_report_wrapped_in_something_else_delivers_nothing() -> None:
    assert kind(judged(b"<html><body>" + report(item("SO-1")) + b"</body></html>")) == SYSTEMIC


# A sentence


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("order-update", NO_UPDATE),
        ("product-update", b"Result 'no_operation' for product SKU-1"),
        ("order-cancel", NO_CANCEL),
        ("order-cancel", b"<result>" + NO_CANCEL + b"</result>"),
    ],
)
def test_no_operation_is_success_only_if_an_earlier_attempt_may_have_done_it(
    operation: str, body: bytes
) -> None:
    sure = judged(body, operation=operation, in_doubt=False)
    doubted = judged(body, operation=operation, in_doubt=True)
    assert (kind(sure), sure.why.reason) == (REFUSED, "no_operation")
    assert (kind(doubted), doubted.why.reason) == (DELIVERED, "no_operation")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("order-update", b"Result 'created' for order SO-1"),
        ("order-cancel", b"Cancel operation performed for order SO-1"),
        ("order-cancel", b"<result>Cancel operation performed for order SO-1</result>"),
    ],
)
def test_a_sentence_that_names_what_was_done_is_delivered(operation: str, body: bytes) -> None:
    verdict = judged(body, operation=operation)
    assert (kind(verdict), verdict.why.reason) == (DELIVERED, "done")


def test_a_sentence_is_no_answer_to_an_import() -> None:
    assert kind(judged(b"Result 'created' for order SO-1")) == SYSTEMIC


def test_a_sentence_with_a_bad_status_delivers_nothing() -> None:
    assert kind(judged(b"Result 'created' for order SO-1", 500, "order-update")) == SYSTEMIC
    assert kind(judged(NO_UPDATE, 500, "order-update", in_doubt=True)) == SYSTEMIC


# Errors of the application


@pytest.mark.parametrize("status", [200, 500, 400])
@pytest.mark.parametrize("body", [ERROR_PAGE, XHTML_ERROR_PAGE])
@pytest.mark.parametrize("operation", ["order-import", "order-cancel"])
def test_an_error_page_with_any_status_is_the_messages_fault(
    status: int, body: bytes, operation: str
) -> None:
    verdict = judged(body, status, operation)
    assert kind(verdict) == OF_THE_MESSAGE
    assert (verdict.why.reason, verdict.why.text) == ("error_page", "stock is locked")


def test_an_error_page_without_a_message_tells_its_title() -> None:
    body = b"<html><head><title>Locked</title></head><body><h2>ERROR</h2></body></html>"
    assert judged(body).why.text == "Locked"


@pytest.mark.parametrize("status", [200, 500, 400])
@pytest.mark.parametrize("attributes", [b"", b" xmlns='urn:orderflow'"])
def test_an_exception_document_with_any_status_is_the_messages_fault(status: int, attributes: bytes) -> None:
    verdict = judged(EXCEPTION.replace(b"<response>", b"<response" + attributes + b">"), status)
    assert kind(verdict) == OF_THE_MESSAGE
    assert verdict.why.reason == "exception"
    assert verdict.why.text == "java.lang.IllegalStateException: locked"


def test_an_exception_as_the_root_is_known_too() -> None:
    assert judged(b"<exception/>").why.text == "an exception without words"


# Everything else with 2xx


@pytest.mark.parametrize("operation", ["order-import", "order-cancel"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        MAINTENANCE,
        b"<html><body>unclosed<br></body></html>",
        b"OK",
        b"<ok/>",
        b'{"ok": true}',
        b"\xff\xfe\x00\x00",
        b"\x80\x81 not UTF-8 \xff",
        b"<importResult><importSuccesses><import/>",
        b"<importResult>\xff</importResult>",
        b"<" * 5000,
        b"<a>" * 5000 + b"</a>" * 5000,
    ],
)
def test_an_unknown_2xx_is_the_destinations_fault_and_never_delivered(operation: str, body: bytes) -> None:
    for status in (200, 202, 204):
        verdict = judged(body, status, operation, content_type="text/html")
        assert (kind(verdict), verdict.why.reason) == (SYSTEMIC, "unknown_reply")


@pytest.mark.parametrize(
    ("body", "expected", "reason"),
    [
        (b'<order ref="SO-1"/>', DELIVERED, "done"),
        (MAINTENANCE, SYSTEMIC, "unknown_reply"),
        (MAINTENANCE.replace(b"<html>", b'<html xmlns="urn:xhtml">'), SYSTEMIC, "unknown_reply"),
        (ERROR_PAGE, OF_THE_MESSAGE, "error_page"),
        (EXCEPTION, OF_THE_MESSAGE, "exception"),
        (b"<html><body><br></body></html>", SYSTEMIC, "unknown_reply"),
        (b"done", SYSTEMIC, "unknown_reply"),
        (b"", SYSTEMIC, "unknown_reply"),
    ],
)
def test_where_a_document_is_wanted_any_that_is_no_page_will_do(
    body: bytes, expected: tuple[str, ...], reason: str
) -> None:
    wants_a_document = replace(PREDEFINED["order-cancel"], name="own", answer=Answer.DOCUMENT)
    verdict = INTERFACE.judge(Reply(200, (), body), "main", wants_a_document, False, NOW).verdict
    assert (kind(verdict), verdict.why.reason) == (expected, reason)


def test_a_maintenance_page_is_told_by_its_title() -> None:
    text = judged(MAINTENANCE, content_type="text/html").why.text
    assert text == "HTTP 200 with an unknown body (text/html) Back soon"


def test_a_cut_report_is_never_delivered_even_where_it_reads_well() -> None:
    verdict = judged(report(item("SO-1")), complete=False)
    assert (kind(verdict), verdict.why.reason) == (SYSTEMIC, "cut_reply")


# By status


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 401, 403, 404, 405])
@pytest.mark.parametrize("body", [b"", MAINTENANCE, ERROR_PAGE, EXCEPTION, report(item("SO-1")), NO_UPDATE])
@pytest.mark.parametrize("complete", [True, False])
def test_being_turned_away_holds_the_destination_whatever_the_page_says(
    status: int, body: bytes, complete: bool
) -> None:
    verdict = judged(body, status, "order-update", in_doubt=True, complete=complete)
    assert (kind(verdict), verdict.why.reason) == (HOLD, f"http_{status}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 505, 520, 599])
@pytest.mark.parametrize("body", [b"", MAINTENANCE, b"<html><body>Bad Gateway<hr></body></html>"])
def test_a_busy_or_broken_destination_is_asked_again_later(status: int, body: bytes) -> None:
    verdict = judged(body, status)
    assert (kind(verdict), verdict.why.reason) == (SYSTEMIC, f"http_{status}")


@pytest.mark.parametrize("status", [400, 402, 406, 409, 410, 411, 413, 414, 415, 422, 451, 499])
@pytest.mark.parametrize("body", [b"", MAINTENANCE, b"no such channel"])
def test_any_other_4xx_is_refused(status: int, body: bytes) -> None:
    verdict = judged(body, status)
    assert (kind(verdict), verdict.why.reason) == (REFUSED, f"http_{status}")


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_error_page_of_a_proxy_is_the_destinations_fault(status: int) -> None:
    assert kind(judged(ERROR_PAGE, status)) == SYSTEMIC


# Retry-After


def not_before(value: str, status: int = 503) -> timedelta | None:
    verdict = judged(status=status, retry_after=value)
    assert isinstance(verdict, RetryLater)
    return verdict.not_before


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 0),
        (format_datetime(NOW + timedelta(minutes=5), usegmt=True), 300),
        ((NOW + timedelta(minutes=5)).strftime("%A, %d-%b-%y %H:%M:%S GMT"), 300),
        ((NOW + timedelta(minutes=5)).strftime("%a %b %d %H:%M:%S %Y"), 300),
        (format_datetime(NOW - timedelta(minutes=5), usegmt=True), None),
    ],
)
def test_a_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: int | None) -> None:
    assert not_before(value) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5",
        "1.5",
        "1e3",
        "１２",
        "9" * 40,
        "9" * 5000,
        "Mon, 99 Foo 2026 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999",
        "\x00",
    ],
)
def test_a_retry_after_that_makes_no_sense_is_ignored(value: str) -> None:
    assert not_before(value) is None


@given(st.text(max_size=60))
def test_no_retry_after_whatsoever_upsets_the_judge(value: str) -> None:
    assert (not_before(value) or timedelta()) >= timedelta()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_every_status_to_be_asked_again_may_say_when(status: int) -> None:
    assert not_before("7", status) == timedelta(seconds=7)


# No reply at all


@pytest.mark.parametrize("reason", ["connect_failed", "timeout", "connection_lost"])
def test_a_transport_failure_is_the_destinations_fault(reason: str) -> None:
    verdict = judge(Failure(reason, "no answer", True), "order-import")
    assert (kind(verdict), verdict.why.reason) == (SYSTEMIC, reason)


@pytest.mark.parametrize("reason", ["bad_certificate", "address_refused"])
def test_what_only_a_person_can_mend_holds_the_destination(reason: str) -> None:
    verdict = judge(Failure(reason, "what it is", False), "order-import")
    assert (kind(verdict), verdict.why.reason, verdict.why.text) == (HOLD, reason, "what it is")


# Doubt


@pytest.mark.parametrize(
    ("reply", "in_doubt"),
    [
        (Failure("timeout", "no answer", True), True),
        (Failure("connection_lost", "reset", True), True),
        (Failure("connect_failed", "refused", False), False),
        (Reply(101, (), b""), True),
        (Reply(502, (), b""), True),
        (Reply(504, (), b""), True),
        (Reply(524, (), b""), True),
        (Reply(200, (("Content-Encoding", "gzip"),), b"\x1f\x8b"), True),
        (Reply(200, (), b""), True),
        (Reply(200, (), b"<importResult><importSucc"), True),
        (Reply(200, (), MAINTENANCE), False),
        (Reply(200, (), ERROR_PAGE), False),
        (Reply(500, (("Content-Encoding", "gzip"),), b"\x1f\x8b"), False),
        (Reply(200, (), b"<importRes", complete=False), True),
        (Reply(503, (), b""), False),
        (Reply(500, (), ERROR_PAGE), False),
        (Reply(429, (), b""), False),
        (Reply(404, (), b""), False),
    ],
)
def test_doubt_remains_where_the_request_may_have_been_carried_out(
    reply: Reply | Failure, in_doubt: bool
) -> None:
    assert leaves_in_doubt(reply, judge(reply)) is in_doubt


# Hostile replies


@pytest.mark.parametrize(
    "piece",
    [b"<!---->", b"<?a?>", b"<a/>", b"<a><b>1</b></a>", b'<a xmlns:b="c"/>', b'<a b="c"/>', b"<![CDATA[]]>"],
)
def test_a_reply_of_very_many_tags_is_read_in_a_moment(piece: bytes) -> None:
    largest = b"<r>" + piece * (MAX_REPLY_BYTES // len(piece) - 2) + b"</r>"
    for body in (largest, b"<r>" + piece * (MAX_TAGS // piece.count(b"<") - 2) + b"</r>"):
        begun = time.process_time()
        judge(Reply(200, (("Content-Type", "text/xml"),), body))
        assert time.process_time() - begun < 1


@pytest.mark.parametrize("piece", ["<!---->x", "<?a?>x"])
@pytest.mark.parametrize(
    ("declared", "encoding", "tag"),
    [
        ("utf-8", "utf-8", "<"),
        ("utf-16-le", "utf-16-le", "<"),
        ("utf-7", "ascii", "+ADw-"),
        ("unicode-1-1-utf-7", "ascii", "+ADw-"),
        ("java", "ascii", "\\u003c"),
    ],
)
def test_a_reply_of_very_many_comments_is_no_document_however_they_are_written(
    piece: str, declared: str, encoding: str, tag: str
) -> None:
    pieces = f"<r>{piece * (MAX_COMMENTS + 1)}</r>".replace("<", tag)
    body = f'<?xml version="1.0" encoding="{declared}"?>{pieces}'.encode(encoding)
    assert Answered(Reply(200, (), body), False).document is None


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("encoding", ["UTF-8", "utf8", "US-ASCII", "ISO-8859-15", "windows-1252", "latin1"])
def test_a_reply_is_a_document_in_the_encodings_of_which_every_tag_is_seen(
    encoding: str, mark: bytes
) -> None:
    body = mark + f'<?xml version="1.0" encoding="{encoding}"?><r>x</r>'.encode()
    assert Answered(Reply(200, (), body), False).root == "r"


def test_what_a_stylesheet_says_of_its_encoding_is_not_said_of_the_reply() -> None:
    body = b'<?xml-stylesheet href="a.css" encoding="utf-7"?><r>x</r>'
    assert Answered(Reply(200, (), body), False).root == "r"


@pytest.mark.parametrize(("more", "kind_of_it"), [(-20, DELIVERED), (1, SYSTEMIC)])
def test_a_reply_of_very_many_attributes_is_no_document(more: int, kind_of_it: tuple[str, ...]) -> None:
    attributes = b" ".join(b'a%d="b"' % n for n in range(MAX_ATTRIBUTES + more))
    body = report(item("SO-1")).replace(b"<importResult", b"<importResult " + attributes, 1)
    assert kind(judge(Reply(200, (("Content-Type", "text/xml"),), body))) == kind_of_it


LETTERS = "abcdefghij"
BOMB = '<!DOCTYPE importResult [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {letter} "{f"&{LETTERS[n]};" * 10}">' for n, letter in enumerate(LETTERS[1:])
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
@pytest.mark.parametrize(
    "document",
    [
        f"{BOMB}]><importResult><importSuccesses><import/></importSuccesses>&j;</importResult>",
        f'{BOMB}]><importResult><importSuccesses><import type="&j;"/></importSuccesses></importResult>',
        f"{BOMB}]><exception>&j;</exception>",
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><exception>&f;</exception>',
    ],
)
def test_a_reply_with_entities_is_not_read_and_costs_nothing(document: str, encoding: str) -> None:
    began = time.perf_counter()
    verdict = judged(document.encode(encoding))
    assert time.perf_counter() - began < 0.5
    assert (kind(verdict), verdict.why.reason) == (SYSTEMIC, "unknown_reply")


NASTY = "a\r\nb\tc\x7f\x85\x9fd " + "long " * 500


def page(head: str = "", content: str = "") -> bytes:
    return f"<html><head>{head}</head><body>{content}</body></html>".encode()


@pytest.mark.parametrize("operation", ["order-import", "order-update"])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, (), report(failures=item("SO-1", f"<failureMessage>{NASTY}</failureMessage>"))),
        Reply(200, (), page(content=f"<h2>ERROR</h2><p>{NASTY}</p>")),
        Reply(200, (), page(f"<title>{NASTY}</title>")),
        Reply(404, (), page(f"<title>{NASTY}</title>")),
        Reply(503, (), page(f"<title>{NASTY}</title>")),
        Reply(400, (), page(f"<title>{NASTY}</title>")),
        Reply(200, (), f"<exception>{NASTY}</exception>".encode()),
        Reply(200, (), f"Result 'no_operation' for {NASTY}\x00".encode()),
        Reply(200, (), b"Result 'no_operation' for \xff\xfe\x80 " + b"x" * 5000),
        Reply(200, (("Content-Type", f"text/\udcff{NASTY}"),), b"nonsense"),
        Failure("connection_lost", f"BadHttpMessage: 400, message:\n  \udcff{NASTY}", True),
    ],
)
def test_what_a_verdict_tells_is_one_bounded_line_of_plain_text(
    reply: Reply | Failure, operation: str
) -> None:
    text = judge(reply, operation).why.text
    assert text.encode("utf-8")
    assert len(text) <= MAX_TEXT_CHARACTERS
    assert all(character == " " or character.isprintable() for character in text)


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=200) | st.sampled_from([ERROR_PAGE, EXCEPTION, NO_CANCEL, report(item("SO-1"))]),
    operation=st.sampled_from(sorted(PREDEFINED)),
    in_doubt=st.booleans(),
    complete=st.booleans(),
)
def test_every_reply_has_a_verdict_and_only_a_complete_2xx_delivers(
    status: int, body: bytes, operation: str, in_doubt: bool, complete: bool
) -> None:
    verdict = judged(body, status, operation, in_doubt, complete)
    if isinstance(verdict, Delivered):
        assert 200 <= status < 300
        assert complete
