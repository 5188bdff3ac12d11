"""XML schemas: what a document of an operation must fit before it is sent for the first time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lxml import etree

from config import ConfigError

from .rules.answered import safe_parser
from .rules.words import in_one_line


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
            return in_one_line(f"line {first.line}: {first.message}")
        except etree.XMLSyntaxError as error:
            return in_one_line(f"it cannot be read: {error}")
        return None


def _read(operation: str, file: Path) -> etree.XMLSchema:
    try:
        return etree.XMLSchema(etree.fromstring(file.read_bytes(), safe_parser(), base_url=str(file)))
    except OSError as error:
        found, fix = f"{file}, which is not readable ({error.strerror})", "name a file that is"
    except (etree.XMLSyntaxError, etree.XMLSchemaParseError, ValueError) as error:
        found, fix = f"{file}, which is no XML schema ({in_one_line(str(error))})", "mend it"
    raise ConfigError([f"schemas.{operation} is {found}: {fix}"])
