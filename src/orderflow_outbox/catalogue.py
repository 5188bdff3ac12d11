"""The operations that may be enqueued: the interface's own, and those a deployer adds in a file.

The file is TOML, and shop and service read the same one. Each table is one operation:

    [operations.stock-count]
    path = "remotewarehouse/stock/count.xml"
    scope = "organisation"
    body_root = "stockCount"
    key = "sku:{externalReference}"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import Any

from .errors import InvalidOperation, UnknownOperation, shown
from .operations import Answer, Method, Naming, Operation, Scope, WhenDead

_CHOICES: dict[str, type[StrEnum]] = {
    "scope": Scope,
    "answer": Answer,
    "when_dead": WhenDead,
    "method": Method,
    "naming": Naming,
}
_LISTS = ("required_query", "supersedes")
_KEYS = tuple(field.name for field in fields(Operation) if field.name != "name")
_NO_SCOPE = "none"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Catalogue(Mapping[str, Operation]):
    """Operations by name.

    Args:
        operations: each with a name of its own.

    Raises:
        InvalidOperation: two have one name, or one supersedes an operation that is not there.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._by_name: dict[str, Operation] = {}
        for operation in operations:
            if operation.name in self._by_name:
                fix = "there is one of that name already: choose another"
                raise InvalidOperation("operations", operation.name, fix)
            self._by_name[operation.name] = operation
        for operation in self._by_name.values():
            for name in operation.supersedes:
                if name not in self._by_name:
                    fix = f"there is no such operation; choose of {self._names()}"
                    raise InvalidOperation(f"operations.{operation.name}.supersedes", name, fix)
        self.superseded_by = _turned(self._by_name)
        """By an operation, those whose messages make its own obsolete; without operations that none does."""

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Catalogue:
        """Return the predefined operations and those of a TOML file.

        Args:
            file: as `config/operations.toml`, which says what each key means.

        Raises:
            InvalidOperation: naming file, key, value and fix.
        """
        operations = _table(file, _read(file).get("operations", {}), "operations")
        try:
            own = [
                _operation(name, _table(file, each, f"operations.{_quoted(name)}"))
                for name, each in operations.items()
            ]
            return cls([*PREDEFINED.values(), *own])
        except InvalidOperation as error:
            raise error.of(file) from None

    def __getitem__(self, name: str) -> Operation:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> Operation:
        """Return the operation called `name`.

        Raises:
            UnknownOperation: there is none; the error lists those there are.
        """
        operation = self._by_name.get(name) if isinstance(name, str) else None
        if operation is None:
            raise UnknownOperation("operation", name, f"choose one of {self._names()}")
        return operation

    def _names(self) -> str:
        return ", ".join(sorted(self._by_name))


def _turned(operations: Mapping[str, Operation]) -> Mapping[str, tuple[str, ...]]:
    """Return, from what each operation supersedes, by what each is superseded."""
    found: dict[str, tuple[str, ...]] = {}
    for name, operation in operations.items():
        for older in dict.fromkeys(operation.supersedes):
            found[older] = (*found.get(older, ()), name)
    return found


def _read(file: str | PathLike[str]) -> dict[str, Any]:
    try:
        content = tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidOperation("the file", str(error.strerror), "name one that is readable", file) from None
    except UnicodeDecodeError:
        raise InvalidOperation("the file", "not UTF-8", "save it as UTF-8", file) from None
    except (ValueError, RecursionError) as error:  # also a number too long, or nesting too deep
        raise InvalidOperation("the file", f"not TOML ({error})", "mend that line", file) from None
    for key in content:
        if key != "operations":
            raise InvalidOperation(_quoted(key), content[key], "the only table here is operations", file)
    return content


def _table(file: str | PathLike[str], value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidOperation(where, value, "make it a table, as in [operations.stock-count]", file)
    return value


def _quoted(key: str) -> str:
    """Return a key as TOML has it, in one line."""
    return key if _BARE_KEY.fullmatch(key) else shown(key)


def _operation(name: str, table: Mapping[str, Any]) -> Operation:
    where = f"operations.{_quoted(name)}"
    for key in table:
        if key not in _KEYS:
            fix = f"the keys here are {', '.join(_KEYS)}"
            raise InvalidOperation(f"{where}.{_quoted(key)}", table[key], fix)
    for key in ("path", "scope"):
        if key not in table:
            raise InvalidOperation(f"{where}.{key}", None, "every operation needs it", found="missing")
    return Operation(name=name, **{key: _value(f"{where}.{key}", key, value) for key, value in table.items()})


def _value(where: str, key: str, value: Any) -> Any:
    if key == "scope" and value == _NO_SCOPE:
        return None
    if key in _CHOICES:
        choices = [*_CHOICES[key], *([_NO_SCOPE] if key == "scope" else [])]
        if value not in choices:
            raise InvalidOperation(where, value, f"choose one of {', '.join(choices)}")
        return _CHOICES[key](value)
    if key in _LISTS:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise InvalidOperation(where, value, 'give a list of names, as in ["externalReference"]')
        return tuple(value)
    if key == "query":
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise InvalidOperation(where, value, 'give names with texts, as in { mode = "full" }')
        return value
    if not isinstance(value, str):
        raise InvalidOperation(where, value, "give text in quotes")
    return value


_IMPORT = "imports/importitems.xml"

PREDEFINED = Catalogue(
    [
        Operation("order-import", f"remoteorder/{_IMPORT}", Scope.CHANNEL, body_root="imports"),
        Operation("product-import", f"remotewarehouse/{_IMPORT}", Scope.ORGANISATION, body_root="imports"),
        Operation(
            "return-import",
            f"remotewarehouse/{_IMPORT}",
            Scope.ORGANISATION,
            body_root="imports",
            import_type="return",
        ),
        Operation(
            "stock-move-import",
            f"remotewarehouse/{_IMPORT}",
            Scope.ORGANISATION,
            body_root="imports",
            import_type="stockMoveTask",
        ),
        Operation(
            "order-cancel",
            "remoteorder/order/cancel.xml",
            Scope.CHANNEL,
            query={"cancelChangesExternalReference": "false"},
            required_query=("externalReference",),
            answer=Answer.TEXT,
        ),
        Operation(
            "order-update",
            "remoteorder/order/update.xml",
            Scope.CHANNEL,
            required_query=("thirdPartyReference", "event", "action"),
            answer=Answer.TEXT,
        ),
        Operation(
            "product-update",
            "remotewarehouse/product/update.xml",
            Scope.ORGANISATION,
            required_query=("thirdPartyReference", "event", "action"),
            answer=Answer.TEXT,
        ),
    ]
)
