"""The operations of OrderFlow's interface, as data.

An operation says how a kind of message is addressed, which scope it needs and which document it
carries. Source: the interface's operation pages, "TO OrderFlow".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .errors import InvalidOperation, UnknownOperation, shown

OPERATION_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Scope(StrEnum):
    """The part of OrderFlow an operation acts in; sent as a header of the same name."""

    CHANNEL = "channel"
    ORGANISATION = "organisation"


class Answer(StrEnum):
    """The shape of a good answer: a report per item, or a sentence naming the result."""

    IMPORT_RESULT = "import-result"
    TEXT = "text"


class WhenDead(StrEnum):
    """What a dead letter does to later messages of its key: they wait for it, or pass it."""

    WAIT = "wait"
    PASS = "pass"  # noqa: S105 (a policy, not a password)


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request that a message can be.

    Attributes:
        name: lower-case words joined by hyphens, such as `order-import`.
        path: below the instance, such as `remoteorder/imports/importitems.xml`.
        scope: the scope that must be given.
        body_root: name of the document's root element; None for an operation without a body.
        import_type: the `type` every `<import>` must have; None when the interface fixes none.
        query: query parameters with the value sent when the message gives none.
        required_query: query parameters a message must give.
        answer: the shape of a good answer.
        when_dead: whether later messages of the key wait for a dead letter or pass it.
    """

    name: str
    path: str
    scope: Scope
    body_root: str | None = None
    import_type: str | None = None
    query: Mapping[str, str] | None = None
    required_query: tuple[str, ...] = ()
    answer: Answer = Answer.IMPORT_RESULT
    when_dead: WhenDead = WhenDead.WAIT

    def __post_init__(self) -> None:
        if not OPERATION_NAME.fullmatch(self.name):
            raise InvalidOperation(f"name is {shown(self.name)}: use lower-case words joined by hyphens")
        if self.path.startswith("/") or "?" in self.path or not self.path:
            raise InvalidOperation(
                f"path of {self.name} is {shown(self.path)}: give it without a leading slash or a query"
            )


class Catalogue(Mapping[str, Operation]):
    """The operations that may be enqueued, by name."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._by_name = {operation.name: operation for operation in operations}

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
            raise UnknownOperation("operation", name, f"choose one of {', '.join(sorted(self._by_name))}")
        return operation


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
