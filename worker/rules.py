"""Judging a reply: OrderFlow answers per item, and answers errors with 200.

The table is the interface's own (what each reply means unless a deployer says otherwise). Rules are
asked in order and the first that knows the reply decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from lxml import etree

from orderflow_outbox import Answer, Operation

from .deliveries import Failure, Reply
from .verdicts import Delivered, Hold, Refused, RetryLater, Verdict, Why

MAX_TEXT_CHARACTERS = 300
MAX_NAMED_ITEMS = 5
TURNED_AWAY = frozenset({401, 403, 404, 405})
BUSY = frozenset({408, 425, 429, 502, 503, 504})
AMBIGUOUS = frozenset({502, 504})
"""A proxy gave up waiting: the request may have been carried out behind it."""

_NO_OPERATION = re.compile(r"Result 'no_operation' for |No cancel operation performed", re.IGNORECASE)
_DONE = re.compile(r"Result '(?!\w*(?:fail|error|reject|invalid))\w+' for |Cancel operation performed", re.I)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class Case:
    """A reply under judgement, parsed at most once."""

    def __init__(self, reply: Reply, operation: Operation, in_doubt: bool, now: datetime) -> None:
        self.reply = reply
        self.operation = operation
        self.in_doubt = in_doubt
        self.now = now
        self.document = _parsed(reply) if reply.complete else None

    @property
    def good_status(self) -> bool:
        return 200 <= self.reply.status < 300

    def name_of_root(self) -> str:
        return "" if self.document is None else etree.QName(self.document).localname


Rule = Callable[[Case], Verdict | None]


def judge(reply: Reply | Failure, operation: Operation, in_doubt: bool, now: datetime) -> Verdict:
    """Return what `reply` means for a message of `operation`.

    Args:
        reply: the answer, or the failure to get one.
        operation: what was asked.
        in_doubt: whether an earlier attempt may have been carried out.
        now: for a Retry-After given as a date.
    """
    if isinstance(reply, Failure):
        return _judge_failure(reply)
    case = Case(reply, operation, in_doubt, now)
    for rule in RULES:
        verdict = rule(case)
        if verdict is not None:
            return verdict
    raise AssertionError("the last rule knows every reply")


def leaves_in_doubt(reply: Reply | Failure) -> bool:
    """Tell whether the request may have been carried out although nobody said so."""
    if isinstance(reply, Failure):
        return reply.bytes_may_have_left
    return reply.status in AMBIGUOUS or not reply.complete


def _judge_failure(failure: Failure) -> Verdict:
    why = Why(failure.reason, _clean(failure.text), "transport")
    return Hold(why) if failure.reason == "bad_certificate" else RetryLater(why, systemic=True)


def turned_away(case: Case) -> Verdict | None:
    """3xx, 401, 403, 404, 405: a redeploy, a maintenance proxy or a wrong password."""
    status = case.reply.status
    if status in TURNED_AWAY or 300 <= status < 400:
        return Hold(Why(f"http_{status}", _clean(f"HTTP {status} {_title(case)}"), "turned-away"))
    return None


def busy(case: Case) -> Verdict | None:
    """408, 425, 429, 502, 503, 504: the destination, or the proxy before it, is not up to it."""
    status = case.reply.status
    if status not in BUSY:
        return None
    why = Why(f"http_{status}", _clean(f"HTTP {status} {_title(case)}"), "busy")
    return RetryLater(why, systemic=True, not_before=_retry_after(case))


def cut_short(case: Case) -> Verdict | None:
    """A body that ended early, or went past what is read."""
    if case.reply.complete:
        return None
    text = f"HTTP {case.reply.status}, and the body broke off after {len(case.reply.body)} bytes"
    return RetryLater(Why("cut_reply", text, "cut-short"), systemic=True)


def item_report(case: Case) -> Verdict | None:
    """`importResult`: delivered when every item is a success or a duplicate, refused otherwise."""
    if case.document is None or not case.good_status or case.name_of_root() != "importResult":
        return None
    if case.operation.answer is not Answer.IMPORT_RESULT:
        return None
    done = len(_items(case, "importSuccesses"))
    duplicates = len(_items(case, "importDuplicates"))
    failures = _items(case, "importFailures")
    if failures:
        return Refused(Why("items_failed", _tell_failures(failures, done + duplicates), "item-report"))
    if done + duplicates == 0:
        return None
    text = f"{done} imported" + (f", {duplicates} already there" if duplicates else "")
    return Delivered(Why("imported" if done else "duplicate", text, "item-report"))


def error_page(case: Case) -> Verdict | None:
    """The XHTML page whose heading says ERROR, with any status."""
    if case.name_of_root() != "html":
        return None
    heading = _text_at(case, "//*[local-name()='body']/*[local-name()='h2']")
    if "ERROR" not in heading:
        return None
    message = _text_at(case, "//*[local-name()='body']/*[local-name()='p']") or _title(case)
    return RetryLater(Why("error_page", message or heading, "error-page"), systemic=False)


def exception(case: Case) -> Verdict | None:
    """A document with an `<exception>` element, with any status."""
    found = [] if case.document is None else _found(case, "//*[local-name()='exception']")
    if not found:
        return None
    text = _clean(" ".join(found[0].itertext()))
    return RetryLater(Why("exception", text or "an exception without words", "exception"), systemic=False)


def no_operation(case: Case) -> Verdict | None:
    """The sentence that nothing was done: all well if an earlier attempt may have done it."""
    text = _sentence(case)
    if not case.good_status or not _NO_OPERATION.search(text):
        return None
    why = Why("no_operation", text, "no-operation")
    return Delivered(why) if case.in_doubt else Refused(why)


def done_sentence(case: Case) -> Verdict | None:
    """The sentence that names what was done."""
    text = _sentence(case)
    if case.good_status and case.operation.answer is Answer.TEXT and _DONE.search(text):
        return Delivered(Why("done", text, "done-sentence"))
    return None


def any_answer(case: Case) -> Verdict | None:
    """2xx, for an operation that says no more of its answer."""
    if case.good_status and case.operation.answer is Answer.ANY:
        return Delivered(Why("done", f"HTTP {case.reply.status}", "any-answer"))
    return None


def unknown_body(case: Case) -> Verdict | None:
    """2xx with anything else, such as a maintenance page: nobody said it was done."""
    if not case.good_status:
        return None
    kind = case.reply.header("content-type") or "no content type"
    text = f"HTTP {case.reply.status} with an unknown body ({kind}) {_title(case)}"
    return RetryLater(Why("unknown_reply", _clean(text), "unknown-body"), systemic=True)


def by_status(case: Case) -> Verdict | None:
    """5xx is the destination's fault, any other status the message's."""
    status = case.reply.status
    why = Why(f"http_{status}", _clean(f"HTTP {status} {_title(case)}"), "by-status")
    if 400 <= status < 500:
        return Refused(why)
    return RetryLater(why, systemic=True, not_before=_retry_after(case))


RULES: tuple[Rule, ...] = (
    turned_away,
    busy,
    cut_short,
    item_report,
    error_page,
    exception,
    no_operation,
    done_sentence,
    any_answer,
    unknown_body,
    by_status,
)


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=False,
    )


def _parsed(reply: Reply) -> etree._Element | None:
    """Return the reply's root element, or None for what is not XML or declares entities."""
    if not reply.body.lstrip().startswith((b"<", b"\xef\xbb\xbf<")) or b"<!ENTITY" in reply.body:
        return None
    try:
        return etree.fromstring(reply.body, _parser())
    except (etree.XMLSyntaxError, ValueError):
        return None


def _found(case: Case, path: str) -> list[etree._Element]:
    found = [] if case.document is None else case.document.xpath(path)
    return [each for each in found if isinstance(each, etree._Element)] if isinstance(found, list) else []


def _items(case: Case, group: str) -> list[etree._Element]:
    return _found(case, f"/*/*[local-name()='{group}']/*[local-name()='import']")


def _tell_failures(failures: list[etree._Element], done: int) -> str:
    named = []
    for item in failures[:MAX_NAMED_ITEMS]:
        message = item.findtext("{*}failureMessage") or item.findtext("{*}failureDetail") or "no reason given"
        named.append(f"{item.get('externalReference', '?')}: {message}")
    more = f" and {len(failures) - MAX_NAMED_ITEMS} more" if len(failures) > MAX_NAMED_ITEMS else ""
    return _clean(f"{len(failures)} of {len(failures) + done} items failed: {'; '.join(named)}{more}")


def _text_at(case: Case, path: str) -> str:
    return _clean(" ".join(text for each in _found(case, path)[:1] for text in each.itertext()))


def _title(case: Case) -> str:
    return _text_at(case, "//*[local-name()='head']/*[local-name()='title']")


def _sentence(case: Case) -> str:
    if case.document is not None:
        return _clean(" ".join(case.document.itertext()))
    return _clean(case.reply.body[: 4 * MAX_TEXT_CHARACTERS].decode("utf-8", "replace"))


def _clean(text: str) -> str:
    line = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= MAX_TEXT_CHARACTERS else f"{line[: MAX_TEXT_CHARACTERS - 1]}…"


def _retry_after(case: Case) -> timedelta | None:
    """Return the wait asked for by Retry-After (RFC 9110 section 10.2.3); junk is ignored."""
    value = case.reply.header("retry-after").strip()
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return timedelta(seconds=int(value))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - case.now, timedelta()) or None
