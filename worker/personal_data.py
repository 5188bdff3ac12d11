"""Personal data in documents, replies and texts: found by the names of fields, and masked for views.

A document is read by expat and masked in its own bytes, so that whatever form a value has (entities, CDATA,
attributes, several lines) is taken as OrderFlow would read it. Of what is no XML everything is masked from
the name of a field to the end of its line. What was found in a document is masked wherever it is repeated.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from xml.parsers import expat

from orderflow_outbox.lines import LINE_BREAK

from .markup import Markup, Span, joined
from .masking import forms_of

MASK = "•••"
SHORTEST_REPEATED = 3
"""Values of fewer characters are masked in their own fields only: they stand in any text."""
SETS_AT_HAND = 8
"""So many sets of values, the last ones, are looked for without making anew what finds them."""

_FIELD = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_.-]*\s*")


class PersonalData:
    """Finds and masks the values of the fields that are known to be of a person.

    Args:
        fields: their names in documents, as the settings have them; without any, nothing is masked.
    """

    def __init__(self, fields: Iterable[str]) -> None:
        self._fields = {tuple(each.lower().split(".")) for each in fields}
        self._longest = max(map(len, self._fields), default=0)
        names = sorted({field[-1] for field in self._fields}, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, names))
        self._mentioned = re.compile(rf"(?<![a-z0-9])(?:{alternatives})(?![a-z0-9])", re.IGNORECASE)

    def __bool__(self) -> bool:
        return bool(self._fields)

    def is_named(self, name: str) -> bool:
        """Tell whether a name is that of a field, whatever numbers are in it and whatever stands before."""
        steps = [step for step in name.strip().lower().split(".") if not step.isdigit()]
        return any(tuple(steps[-length:]) in self._fields for length in range(1, self._longest + 1))

    def values_of(self, document: bytes | None) -> frozenset[str]:
        """Return the values of personal fields in a document or a reply, as far as it is XML."""
        markup = self._read(document or b"")
        if markup is None:
            return frozenset()
        found = [markup.text[start:end] for start, end in self._in_text(markup)]
        found += [each.value for each in markup.attributes if each.is_personal]
        return values_from(found)

    def values_of_query(self, query: Mapping[str, Any]) -> frozenset[str]:
        """Return the values of personal query parameters."""
        return values_from(str(value) for name, value in query.items() if self.is_named(name))

    def masked(self, document: bytes, values: Collection[str] = ()) -> bytes:
        """Return a document or a reply without the values of personal fields.

        Args:
            values: further ones, which are looked for everywhere in it.
        """
        if not self._fields and not values:
            return document
        markup = self._read(document)
        if markup is None:
            return self.text(document.decode("utf-8", "replace"), values).encode()
        intervals = list(self._in_text(markup))
        found = [markup.text[start:end] for start, end in intervals]
        found += [each.value for each in markup.attributes if each.is_personal]
        looked_for = values_from(found) | frozenset(values)
        intervals += _occurrences(markup.text, looked_for)
        spans: list[Span] = [(*each, b"") for each in markup.remarks]
        spans += [
            (each.start, each.end, MASK.encode())
            for each in markup.attributes
            if each.is_personal or any(_occurrences(each.value, looked_for))
        ]
        return markup.with_masks(intervals, spans, MASK.encode())

    def text(self, text: str, values: Collection[str] = ()) -> str:
        """Return a text that is no document without what may be the values of personal fields.

        Args:
            values: what was found in the document that the text is about.
        """
        if not self._fields and not values:
            return text
        shown = html.unescape(text) if "&" in text else text
        shown = "\n".join(self._masked_lines(shown.split("\n"))) if self._fields else shown
        return with_masks(shown, values)

    def parameters(self, query: Mapping[str, Any], values: Collection[str] = ()) -> dict[str, Any]:
        """Return query parameters or headers without personal values."""
        return {
            name: MASK if self.is_named(name) else self.text(str(value), values)
            for name, value in query.items()
        }

    def _masked_lines(self, lines: Iterable[str]) -> Iterator[str]:
        goes_on = False
        for line in lines:
            mention = self._mentioned.search(line)
            if mention is not None:
                goes_on = True
                yield line[: mention.end()] + (MASK if line[mention.end() :].strip() else "")
            elif goes_on and not re.search("[=:]", line):
                yield MASK if line.strip() else line
            else:
                goes_on = False
                yield line

    def _read(self, document: bytes) -> Markup | None:
        """Return a document as it is read; None of what is no XML, or has a DOCTYPE."""
        try:
            return Markup(document, self.is_named)
        except (expat.ExpatError, ValueError, LookupError):
            return None

    def _in_text(self, markup: Markup) -> Iterator[tuple[int, int]]:
        """Yield where in the text of a document values of personal fields stand."""
        yield from markup.personal
        start = 0
        for part in markup.text.split("\0"):
            yield from ((start + begin, start + end) for begin, end in self._in_lines(part))
            start += len(part) + 1

    def _in_lines(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where in the lines `name=value` of an import values of personal fields stand.

        A line that begins with no name goes on with the value before it.
        """
        goes_on = False
        for line in re.finditer(r"[^\n]+", text):
            name, sign, _ = line[0].partition("=")
            if sign and _FIELD.fullmatch(name):
                goes_on = self.is_named(name)
                begin = line.start() + len(name) + 1
            else:
                begin = line.start()
            if goes_on:
                yield begin, line.end()
                continue
            # OrderFlow may take a carriage return inside a line for its end.
            for piece in re.finditer(r"(?<=\r)([^\r=]*)=([^\r]+)", line[0]):
                if self.is_named(piece[1]):
                    yield line.start() + piece.start(2), line.end()


def values_from(found: Iterable[str]) -> frozenset[str]:
    """Return values as they may be repeated elsewhere: whole and line by line, without blanks around them."""
    values = set()
    for each in found:
        values.add(each.strip())
        values.update(line.strip() for line in re.split(r"\s*[\r\n]\s*", each.replace(LINE_BREAK, "\n")))
    return frozenset(value for value in values if len(value) >= SHORTEST_REPEATED)


def with_masks(text: str, values: Collection[str], *, only_words: bool = False) -> str:
    """Return a text with values masked, in whatever form and case; where some overlap, all they cover.

    Args:
        only_words: leave alone what is a piece of a longer word.
    """
    if not values:
        return text
    made, at = [], 0
    found = _any_of(frozenset(values), only_words).finditer(text)
    for first, last in joined(match.span(1) for match in found):
        made += [text[at:first], MASK]
        at = last
    return "".join((*made, text[at:]))


@lru_cache(maxsize=SETS_AT_HAND)
def _any_of(values: frozenset[str], only_words: bool) -> re.Pattern[str]:
    """Return what finds, at each place of a text, the longest of some values that begins there: a group."""
    by_first: dict[str, list[str]] = {}  # so that most places of a text are left after a few looks
    for form in sorted({form for each in values for form in forms_of(each)}, key=len, reverse=True):
        by_first.setdefault(_folded(form[:1]), []).append(re.escape(form[1:]))
    branches = (f"{re.escape(first)}(?:{'|'.join(rests)})" for first, rests in by_first.items())
    begin, end = (r"(?<!\w)", r"(?!\w)") if only_words else ("", "")
    return re.compile(f"(?={begin}((?:{'|'.join(branches)}){end}))", re.IGNORECASE)


def _occurrences(text: str, values: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield where values stand in a text, in whatever case."""
    looked_at = _folded(text)
    for value in map(_folded, values):
        start = looked_at.find(value)
        while start >= 0:
            yield start, start + len(value)
            start = looked_at.find(value, start + 1)


def _folded(text: str) -> str:
    # The one letter that would become two, so that places stay what they are.
    return text.replace("İ", "I").lower()
