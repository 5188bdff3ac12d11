"""Every error of the library, as one tree. Each says what was wrong, what was found and what to do.

OutboxError
├── InvalidMessage            refused at enqueue, nothing written   (.field, .value, .fix)
│   ├── UnknownOperation
│   ├── InvalidPayload
│   ├── PayloadTooLarge
│   ├── InvalidHeader
│   └── MissingScope
├── IdempotencyConflict       same idempotency key, other content   (.message_id, .differs)
├── InvalidOperation          an operation against the rules         (.field, .value, .fix, .file)
├── InvalidBroker             hints cannot go where they were told to
├── InvalidQuestion           a status was asked for by none or several keys
├── NotASession               what was given is no SQLAlchemy Session or Connection
├── NotTransactional          a rollback would not take the message back
├── UnsupportedDatabase       neither SQLite nor PostgreSQL
└── UnsupportedSchema         no outbox tables, or those of another release   (.found)
"""

from __future__ import annotations

from os import PathLike

from sqlalchemy.exc import DontWrapMixin

SHOWN_VALUE_CHARACTERS = 80


def shown(value: object) -> str:
    """Return `value` as it appears in an error: on one line, quoted, escaped, and cut to 80 characters."""
    if isinstance(value, str | bytes):
        value = value[:SHOWN_VALUE_CHARACTERS]  # with its quotes that is longer than what is shown
    try:
        text = " ".join(repr(value).splitlines())
    except ValueError:  # a number of more digits than Python writes out
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN_VALUE_CHARACTERS else f"{text[: SHOWN_VALUE_CHARACTERS - 1]}…"


class OutboxError(Exception):
    """Anything the outbox refuses."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[Exception], args: tuple[object, ...], state: dict[str, object]) -> Exception:
    """Make an error again as it was, for a process that got it from another."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidMessage(OutboxError, ValueError):
    """A message refused at enqueue; nothing was written.

    Attributes:
        field: the argument that is wrong, such as `payload` or `headers['X-Trace']`.
        value: what was found there, shortened.
        fix: what would be accepted.
        place: which message of a list, from 0; None for a single one.
    """

    def __init__(self, field: str, value: object, fix: str, place: int | None = None) -> None:
        self.field = field
        self.value = shown(value)
        self.fix = fix
        self.place = place
        super().__init__(f"{_place_of(field, place)} is {self.value}: {fix}")

    def at(self, place: int) -> InvalidMessage:
        """Return the same refusal naming the message's place in a list (from 0)."""
        copy = type(self).__new__(type(self))
        InvalidMessage.__init__(copy, self.field, "", self.fix, place)
        copy.value = self.value
        copy.args = (f"{_place_of(self.field, place)} is {self.value}: {self.fix}",)
        return copy


def _place_of(field: str, place: int | None) -> str:
    if place is None:
        return field
    return f"messages[{place}].{field}" if field else f"messages[{place}]"


class UnknownOperation(InvalidMessage):
    """No operation of that name can be enqueued."""


class InvalidPayload(InvalidMessage):
    """The payload is empty, not well-formed, or not the document its operation sends."""


class PayloadTooLarge(InvalidMessage):
    """The payload has more bytes than a message may carry."""


class InvalidHeader(InvalidMessage):
    """A header that cannot be sent, or that the service sets itself."""


class MissingScope(InvalidMessage):
    """The operation needs a channel or an organisation that was not given."""


class IdempotencyConflict(OutboxError):
    """The idempotency key already belongs to a message with other content.

    Attributes:
        message_id: the message that holds the key.
        differs: names of the fields that differ.
        place: which message of a list, from 0; None for a single one.
    """

    def __init__(
        self, idempotency_key: str, message_id: int, differs: tuple[str, ...], place: int | None = None
    ) -> None:
        self.idempotency_key = idempotency_key
        self.message_id = message_id
        self.differs = differs
        self.place = place
        where = "idempotency_key" if place is None else f"messages[{place}].idempotency_key"
        super().__init__(
            f"{where} {shown(idempotency_key)} already belongs to message {message_id} with other "
            f"content (other {', '.join(differs)}): send the same content again, or use a new key"
        )


class InvalidOperation(OutboxError, ValueError):
    """An operation that contradicts the rules of operations, or a file of operations that cannot be read.

    Attributes:
        field: the key that is wrong, such as `operations.stock-count.path`.
        value: what was found there, shortened.
        fix: what would be accepted.
        file: the file it stands in; None for an operation made in code.
    """

    def __init__(
        self, field: str, value: object, fix: str, file: str | PathLike[str] | None = None, *, found: str = ""
    ) -> None:
        self.field = field
        self.value = found or shown(value)
        self.fix = fix
        self.file = None if file is None else str(file)
        place = "" if file is None else f"{self.file}: "
        super().__init__(f"{place}{field} is {self.value}: {fix}")

    def of(self, file: str | PathLike[str]) -> InvalidOperation:
        """Return the same refusal naming the file."""
        return type(self)(self.field, None, self.fix, file, found=self.value)


class InvalidBroker(OutboxError, TypeError):
    """What was given as the place hints go to is none, or cannot be used here."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(f"hints cannot go to {found}: {fix}")


class InvalidQuestion(OutboxError, TypeError):
    """`status_of` was asked for by none or several of what a message is found by, or by what is no key."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(f"{found}: {fix}")


class NotASession(OutboxError, TypeError):
    """What was given in place of a Session or Connection."""

    def __init__(self, found: object) -> None:
        self.found = type(found).__name__
        super().__init__(
            f"session is of type {self.found}: give a SQLAlchemy Session or Connection; "
            "with an AsyncSession, await session.run_sync(enqueue, …)"
        )


class NotTransactional(DontWrapMixin, OutboxError):
    """A connection whose transactions do not hold what they promise.

    SQLAlchemy passes it on as it is, where it is raised below a statement.
    """


class UnsupportedDatabase(OutboxError):
    """The session's database is neither SQLite nor PostgreSQL."""

    def __init__(self, found: str, fix: str = "the outbox tables live in SQLite or PostgreSQL") -> None:
        super().__init__(f"the database is {found}: {fix}")


class UnsupportedSchema(OutboxError):
    """The database's outbox tables are missing, older or newer than this release works with.

    Attributes:
        found: their version; None where there are none.
    """

    def __init__(self, found: int | None, oldest: int, newest: int) -> None:
        self.found = found
        what = "no outbox tables" if found is None else f"outbox tables of version {found}"
        works_with = f"version {newest}" if oldest == newest else f"versions {oldest} to {newest}"
        if found is not None and found > newest:
            fix = "install a newer release"
        else:
            fix = "run `python -m worker db upgrade`, or the statements of `python -m orderflow_outbox ddl`"
        super().__init__(f"the database has {what}, and this release works with {works_with}: {fix}")
