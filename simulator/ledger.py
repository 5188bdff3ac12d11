"""What was received and what was accepted, in memory and, when wanted, in a file.

The file gets one JSON object a line: ``{"entry": "request", ...}`` once a request is over,
``{"entry": "accepted", ...}`` as soon as an entity is taken in, ``{"entry": "reset"}`` where the
ledger was emptied and request numbers begin at 1 again.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEPT_REQUESTS = 200_000
KEPT_ACCEPTED = 500_000
KEPT_REFERENCES = 1_000
ONCE = frozenset({"insert", "cancel"})
"""Operations that an entity can undergo only once."""
IMPORTS = ("insert", "merge", "update")


@dataclass(slots=True)
class Request:
    """One request as it was received; ``status`` stays None when no complete answer was sent."""

    operation: str | None
    method: str
    path: str
    identity: str | None
    sha256: str
    channel: str | None
    organisation: str | None
    references: tuple[str, ...]
    fault: str | None
    status: int | None = None
    n: int = 0
    time: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, object]:
        """The request in plain values; ``time`` is in seconds since 1970, UTC."""
        return {
            "n": self.n,
            "time": self.time,
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "identity": self.identity,
            "sha256": self.sha256,
            "channel": self.channel,
            "organisation": self.organisation,
            "references": list(self.references[:KEPT_REFERENCES]),
            "fault": self.fault,
            "status": self.status,
        }


@dataclass(frozen=True, slots=True)
class Accepted:
    """One entity taken in, and the number of the request that brought it."""

    type: str
    operation: str
    reference: str
    request: int

    def as_json(self) -> dict[str, object]:
        """The entity in plain values."""
        return {
            "type": self.type,
            "operation": self.operation,
            "externalReference": self.reference,
            "request": self.request,
        }


class Ledger:
    """The newest requests and accepted entities; safe to read while it is written in another thread."""

    def __init__(self, file: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._file = file.open("a", encoding="utf-8", buffering=1) if file else None
        self._in_progress = 0
        self._empty()

    def _empty(self) -> None:
        self._requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self._accepted: deque[Accepted] = deque(maxlen=KEPT_ACCEPTED)
        self._seen: dict[tuple[str, str, str], None] = {}
        self._received = self._taken = self._refused = 0
        self._by_fault: Counter[str] = Counter()
        self._most_in_progress = self._in_progress

    @property
    def requests(self) -> list[Request]:
        """The requests received, oldest first."""
        with self._lock:
            return list(self._requests)

    @property
    def accepted(self) -> list[Accepted]:
        """The entities accepted, oldest first."""
        with self._lock:
            return list(self._accepted)

    def enter(self) -> int:
        """Count one more request in progress; how many there are with it."""
        with self._lock:
            self._in_progress += 1
            self._most_in_progress = max(self._most_in_progress, self._in_progress)
            return self._in_progress

    def leave(self) -> None:
        """Count one request less in progress."""
        with self._lock:
            self._in_progress -= 1

    def receive(self, request: Request) -> Request:
        """Number and keep a request."""
        with self._lock:
            self._received += 1
            request.n = self._received
            request.references = request.references[:KEPT_REFERENCES]
            self._requests.append(request)
            if request.fault:
                self._by_fault[request.fault] += 1
        return request

    def finish(self, request: Request, status: int | None) -> None:
        """Note the status a request was answered with; None for no complete answer."""
        request.status = status
        self._write("request", request.as_json)

    def accept(self, type: str, operation: str, reference: str, request: int, mark: str = "") -> bool:
        """Take an entity in; False for a repeat of what is done once: an insert, a cancellation or
        whatever carries the same ``mark``."""
        key = (type, mark or operation, reference)
        with self._lock:
            if key in self._seen and (mark or operation in ONCE):
                self._refused += 1
                return False
            self._remember(key)
            entity = Accepted(type, operation, reference, request)
            self._accepted.append(entity)
            self._taken += 1
        self._write("accepted", entity.as_json)
        return True

    def _remember(self, key: tuple[str, str, str]) -> None:
        self._seen[key] = None
        if len(self._seen) > KEPT_ACCEPTED:
            del self._seen[next(iter(self._seen))]

    def knows(self, type: str, reference: str) -> bool:
        """Whether an import has brought this entity."""
        with self._lock:
            return any((type, operation, reference) in self._seen for operation in IMPORTS)

    def known(self, type: str) -> set[str]:
        """The references of all entities of this type that an import has brought.

        It looks through the whole ledger: imports need not keep an index for a rare question.
        """
        with self._lock:
            return {name for kind, done, name in self._seen if kind == type and done in IMPORTS}

    def is_cancelled(self, type: str, reference: str) -> bool:
        """Whether a cancellation of this entity was accepted."""
        with self._lock:
            return (type, "cancel", reference) in self._seen

    def summary(self) -> dict[str, object]:
        """The counts since the start or the last reset."""
        with self._lock:
            return {
                "requests": self._received,
                "accepted": self._taken,
                "duplicates_refused": self._refused,
                "by_fault": dict(self._by_fault),
                "in_progress": self._in_progress,
                "most_in_progress": self._most_in_progress,
            }

    def reset(self) -> None:
        """Forget everything but the requests now in progress."""
        with self._lock:
            self._empty()
        self._write("reset", dict)

    def _write(self, entry: str, values: Callable[[], dict[str, Any]]) -> None:
        if self._file is None:
            return
        with self._lock:
            if self._file:
                self._file.write(json.dumps({"entry": entry, **values()}) + "\n")

    def close(self) -> None:
        """Close the file; what is in memory can still be read."""
        if self._file:
            self._file.close()
            self._file = None
