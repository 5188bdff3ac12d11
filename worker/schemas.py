"""XML schemas: what a document of an operation must fit before it is sent for the first time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lxml import etree

from config import ConfigError

from .rules.answered import safe_parser
from .rules.words import in_one_line

_PLACE = re.compile(r"(?:Element '[^']*'(?:, attribute '[^']*')?: )?(?:\[facet '[^']*'\] )?")
_QUOTES_NO_VALUE = (
    "This element is not expected",
    "The attribute ",
    "Missing child element",
    "Character content",
    "Element content",
    "No matching global",
    "The value has a length",
)
# Up to the last of such words: a value may hold some of its own.
_OF_A_VALUE = re.compile(r"(?:The \w*? ?value )?'.*'(?P<what> (?:is|has|does) .*)", re.DOTALL)
_QUOTED = re.compile(r"'.*'", re.DOTALL)


class Schemas:
    """The schemas of a deployer, by the name of their operation.

    Args:
        files: XSD files; what they include stands beside them.

    Raises:
        ConfigError: one is not readable or no schema.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._schemas = {operation: _read(operation, file) for operation, file in files.items()}

    def problem(self, operation: str, document: bytes | None) -> str | None:
        """Return in one line where a document does not fit and why; None where it does, or needs not."""
        schema = self._schemas.get(operation)
        if schema is None or document is None:
            return None
        try:
            schema.assertValid(etree.fromstring(document, safe_parser()))
        except etree.DocumentInvalid as error:
            first = error.error_log[0]
            return in_one_line(f"line {first.line}: {without_values(first.message)}")
        except etree.XMLSyntaxError as error:
            return in_one_line(f"it cannot be read: {error}")
        return None


def without_values(message: str) -> str:
    """Return what libxml2 says of a document, without the values it quotes: they are a payload's.

    What is quoted of the schema stays, and the names of elements and attributes.
    """
    where = _PLACE.match(message)
    place, what = (where[0], message[where.end() :]) if where else ("", message)
    if what.startswith(_QUOTES_NO_VALUE):
        return message
    told = _OF_A_VALUE.fullmatch(what)
    if told is not None:
        return f"{place}The value{told['what']}"
    return place + _QUOTED.sub("'…'", what)


def _read(operation: str, file: Path) -> etree.XMLSchema:
    try:
        return etree.XMLSchema(etree.fromstring(file.read_bytes(), safe_parser(), base_url=str(file)))
    except OSError as error:
        found, fix = f"{file}, which is not readable ({error.strerror})", "name a file that is"
    except (etree.XMLSyntaxError, etree.XMLSchemaParseError, ValueError) as error:
        found, fix = f"{file}, which is no XML schema ({in_one_line(str(error))})", "mend it"
    raise ConfigError([f"schemas.{operation} is {found}: {fix}"])
