"""XML laid out for reading: every tag on a line of its own. It is for eyes, never to be sent.

Nothing is looked up, loaded or expanded: what has a document type is not laid out at all.
"""

from __future__ import annotations

from html import escape
from xml.parsers import expat

MOST_BYTES = 256 * 1024
MOST_CHARACTERS = 1024 * 1024
"""Of what comes out: with deep documents that is much more than went in."""
DEEPEST = 40
"""Levels that are indented; those below stand where the last one does."""
_INDENT = "  "


class _NotLaidOut(Exception):
    """It is no XML, has a document type, or becomes too long."""


def pretty(document: bytes) -> str | None:
    """Return a document laid out; None of what is no XML, cut off, too long, or has a document type."""
    if len(document) > MOST_BYTES:
        return None
    try:
        return _Layout().of(document)
    except (expat.ExpatError, _NotLaidOut, ValueError, LookupError):
        return None


class _Layout:
    """One pass of expat over a document."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._length = 0
        self._depth = 0
        self._open: str | None = None
        self._text: list[str] = []
        self._is_cdata = False
        parser = expat.ParserCreate()
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartCdataSectionHandler = self._begin_cdata
        parser.EndCdataSectionHandler = self._end_cdata
        parser.CommentHandler = self._comment
        parser.ProcessingInstructionHandler = self._instruction
        self._parser = parser

    def of(self, document: bytes) -> str:
        self._parser.Parse(document, True)
        return "\n".join(self._lines)

    def _refuse(self, *_: object) -> None:
        raise _NotLaidOut

    def _line(self, text: str) -> None:
        line = _INDENT * min(self._depth, DEEPEST) + text
        self._length += len(line)
        if self._length > MOST_CHARACTERS:
            raise _NotLaidOut
        self._lines.append(line)

    def _flush(self) -> None:
        """Write the tag that was begun, and the text after it, as lines of their own."""
        if self._open is not None:
            self._line(f"<{self._open}>")
            self._open = None
            self._depth += 1
        text = "".join(self._text).strip()
        self._text.clear()
        if text:
            self._line(text)

    def _begin(self, name: str, attributes: list[str]) -> None:
        self._flush()
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        self._open = name + "".join(f' {key}="{escape(value)}"' for key, value in pairs)

    def _end(self, name: str) -> None:
        if self._open is None:
            self._flush()
            self._depth -= 1
            self._line(f"</{name}>")
            return
        text = "".join(self._text)
        self._text.clear()
        self._line(f"<{self._open}>{text}</{name}>" if text.strip() else f"<{self._open}/>")
        self._open = None

    def _characters(self, text: str) -> None:
        self._text.append(text if self._is_cdata else escape(text, quote=False))

    def _begin_cdata(self) -> None:
        self._text.append("<![CDATA[")
        self._is_cdata = True

    def _end_cdata(self) -> None:
        self._text.append("]]>")
        self._is_cdata = False

    def _comment(self, text: str) -> None:
        self._flush()
        self._line(f"<!--{text}-->")

    def _instruction(self, target: str, text: str) -> None:
        self._flush()
        self._line(f"<?{target} {text}?>")
