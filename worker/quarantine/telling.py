"""What the process of the quarantine tells the engine that watches it: a line of JSON for each step."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from typing import Any, NamedTuple

from worker.deliveries import Claim

TAKEN = "taken"
"""A message is in its hands; whatever ends the process now may be its fault."""
LEFT = "left"
"""It no longer is: what came of it is written."""

_UNTOLD: dict[str, Any] = {"payload": None, "query": {}, "headers": {}}
_TOLD = [each.name for each in fields(Claim) if each.name not in _UNTOLD]
_MOMENTS = ("created_at", "expires_at", "claimed_at")


class Told(NamedTuple):
    """One line.

    Attributes:
        what: `TAKEN`, `LEFT`, or a step that is announced.
        claim: the message, without its document, query and headers.
    """

    what: str
    claim: Claim
    text: str = ""
    seconds: float = 0.0


def line_of(told: Told) -> str:
    """Return the line that tells it, without an end of line."""
    claim = {name: getattr(told.claim, name) for name in _TOLD}
    return json.dumps([told.what, claim, told.text, told.seconds], default=datetime.isoformat)


def told_by(line: str) -> Told:
    """Return what a line of `line_of` tells."""
    what, claim, text, seconds = json.loads(line)
    moments = {name: datetime.fromisoformat(claim[name]) for name in _MOMENTS if claim[name] is not None}
    return Told(what, Claim(**{**claim, **moments, **_UNTOLD}), text, seconds)
