"""A reply under judgement: what rules ask of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lxml import etree

from worker.deliveries import Reply

MAX_SEARCHED_CHARACTERS = 64 * 1024
"""Of a reply's words, so many are searched."""
MAX_TAGS, MAX_ATTRIBUTES, MAX_COMMENTS = 100_000, 200_000, 5_000
"""A reply with more of one of them is no document: to read it would hold up all other messages. Text between
comments, or instructions, takes lxml a time that grows with the square of their number."""
_ENCODING = re.compile(rb"(\xef\xbb\xbf)?<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"']*)")
_SHOWS_TAGS = re.compile(rb"utf-?8|(us-)?ascii|iso-?8859-\d+|latin-?1|(windows-|cp)125\d", re.IGNORECASE)
"""Encodings in which every tag begins with the byte that is counted, unlike UTF-7."""


class Answered:
    """An answer of OrderFlow's, or of a proxy before it.

    Args:
        reply: what was answered.
        in_doubt: whether an earlier attempt of the message may have been carried out.
        edited: whether the message's document was edited, of which another may have been carried out.
    """

    def __init__(self, reply: Reply, in_doubt: bool, edited: bool = False) -> None:
        self.reply = reply
        self.in_doubt = in_doubt
        self.edited = edited
        self.document = _parsed(reply.body) if reply.complete else None
        """The root element; None where the body broke off, is no XML, has entities or too many tags."""
        self._words: str | None = None

    @property
    def root(self) -> str:
        """The root element's name, without its namespace."""
        return "" if self.document is None else local_name(self.document)

    @property
    def media_type(self) -> str:
        return self.reply.header("content-type").partition(";")[0].strip().lower()

    @property
    def words(self) -> str:
        """Its words: of XML those of every element, otherwise the whole body."""
        if self._words is None:
            self._words = " ".join(self._text().split())
        return self._words

    @property
    def title(self) -> str:
        """The title of a page."""
        found = [] if self.document is None else _TITLE(self.document)
        return "".join(found[0].itertext()) if isinstance(found, list) and found else ""

    def _text(self) -> str:
        if self.document is not None:
            return _first(self.document.itertext(), MAX_SEARCHED_CHARACTERS)
        return self.reply.body[:MAX_SEARCHED_CHARACTERS].decode("utf-8", "replace")


def local_name(element: etree._Element) -> str:
    """Return an element's name without its namespace; of a comment, nothing."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def xpath(expression: str, namespaces: dict[str, str] | None = None) -> etree.XPath:
    """Return a compiled XPath."""
    return etree.XPath(expression, namespaces=namespaces or None, smart_strings=False)


_TITLE = xpath("(//*[local-name() = 'head']/*[local-name() = 'title'])[1]")


def _parsed(body: bytes) -> etree._Element | None:
    if not body.lstrip().startswith((b"<", b"\xef\xbb\xbf<")) or not _shows_tags(body):
        return None
    if _has_entities(body) or _has_too_many_tags(body):
        return None
    try:
        return etree.fromstring(body, _PARSER)
    except (etree.XMLSyntaxError, ValueError):
        return None


def _shows_tags(body: bytes) -> bool:
    """Tell whether what is counted in a body's bytes is what a parser will find in it."""
    declared = _ENCODING.match(body)
    return b"\0" not in body and (declared is None or _SHOWS_TAGS.fullmatch(declared[2]) is not None)


# A single byte is found many times as fast as a mark of several, and is rare in a report on many items.


def _has_entities(body: bytes) -> bool:
    return b"!" in body and b"<!ENTITY" in body


def _has_too_many_tags(body: bytes) -> bool:
    if body.count(b"<") > MAX_TAGS or body.count(b"=") > MAX_ATTRIBUTES:
        return True
    if body.count(b"!") + body.count(b"?") <= MAX_COMMENTS:
        return False
    return body.count(b"<!--") + body.count(b"<?") > MAX_COMMENTS


def safe_parser() -> etree.XMLParser:
    """Return a parser that fetches nothing, expands nothing and mends nothing."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=False,
    )


_PARSER = safe_parser()
"""Made once: to make one takes longer than to parse a reply."""


def _first(texts: Iterable[str], characters: int) -> str:
    parts, length = [], 0
    for text in texts:
        parts.append(text)
        length += len(text) + 1
        if length > characters:
            break
    return " ".join(parts)[:characters]
