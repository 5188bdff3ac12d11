"""Writes the answers: import results, answers to queries, ERROR pages, plain sentences, web server pages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from simulator.documents import Item

XML = "application/xml; charset=utf-8"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

REASONS = {
    302: "Found",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NEEDS_CARE = re.compile("[^ -~]|[&<>\"']")
_SECTIONS = ("Success", "Failure", "Duplicate")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, before it is put on the wire."""

    body: bytes
    content_type: str = XML
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item of an import: a Success, a Failure or a Duplicate."""

    item: Item
    number: int
    section: str
    message: str = ""
    detail: str = ""


def escape(text: str) -> str:
    """Text made safe for an element or an attribute; what XML cannot hold becomes U+FFFD."""
    if not _NEEDS_CARE.search(text):
        return text
    safe = html.escape(_NOT_XML.sub("\ufffd", text))
    return safe.replace("\n", "&#10;").replace("\r", "&#13;").replace("\t", "&#9;")


def import_result(outcomes: list[Outcome], milliseconds: int) -> Reply:
    """The report on an import; all three sections are there, empty or not."""
    parts = ["<importResult>"]
    for section, plural in zip(_SECTIONS, ("Successes", "Failures", "Duplicates"), strict=True):
        parts.append(f"<import{plural}>")
        parts += [_imported(one, milliseconds) for one in outcomes if one.section == section]
        parts.append(f"</import{plural}>")
    parts.append("</importResult>")
    return _document("".join(parts))


def _imported(outcome: Outcome, milliseconds: int) -> str:
    item, kind = outcome.item, outcome.section.lower()
    start = (
        f'<import type="{escape(item.type)}" operation="{escape(item.operation)}"'
        f' externalReference="{escape(item.reference)}" entity="{escape(item.type)}"'
        f' item="{outcome.number}" queryTime="{milliseconds}"'
    )
    if outcome.section == "Success":
        return start + "/>"
    message, detail = escape(outcome.message), escape(outcome.detail)
    return f"{start}><{kind}Message>{message}</{kind}Message><{kind}Detail>{detail}</{kind}Detail></import>"


def order(reference: str, state: str) -> Reply:
    """What is known of an order."""
    return _document(f'<order externalReference="{escape(reference)}" state="{state}"/>')


def inventory(references: Iterable[str]) -> Reply:
    """The stock of these products, of which there is never any."""
    products = (f'<product externalReference="{escape(each)}" quantity="0"/>' for each in references)
    return _document(f"<inventory>{''.join(products)}</inventory>")


def despatches() -> Reply:
    """What was despatched, which is nothing."""
    return _document("<despatches/>")


def error_page(message: str, title: str = "OrderFlow error") -> Reply:
    """An error of the application: an XHTML page, sent as if all were well."""
    page = (
        '<html xmlns="http://www.w3.org/1999/xhtml">'
        f"<head><title>{escape(title)}</title></head>"
        f"<body><h2>ERROR</h2><p>{escape(message)}</p></body></html>"
    )
    return Reply(page.encode(), HTML)


def exception(message: str) -> Reply:
    """An error of the application in its other shape: a document with an `<exception>`."""
    return _document(f"<response><exception>{escape(message)}</exception></response>")


def _document(root: str) -> Reply:
    return Reply(f'<?xml version="1.0" encoding="UTF-8"?>\n{root}'.encode())


def maintenance() -> Reply:
    """What a proxy shows while OrderFlow is away, with 200 as if it were there."""
    head = "<!DOCTYPE html>\n<html><head><title>Back soon</title></head>"
    return Reply(f"{head}<body><h1>Maintenance</h1></body></html>\n".encode(), HTML)


def sentence(text: str) -> Reply:
    """A plain text answer of one sentence."""
    return Reply(text.encode(errors="replace"), TEXT)


def server_page(status: int, headers: Mapping[str, str] | None = None) -> Reply:
    """What a web server or a proxy says for itself, in HTML."""
    title = f"{status} {REASONS.get(status, 'Answer of the server')}"
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return Reply(page.encode(), HTML, status, headers or {})
