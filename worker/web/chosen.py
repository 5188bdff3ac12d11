"""Which dead letters are meant: as the address of a page and the fields of a form have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from worker.by_hand import NotPossible
from worker.store.finding import Filter

from .console import LARGEST_NUMBER, Visit

SHARED = ("destination", "operation", "reason", "since", "incident")
IDS, EVERY = "ids", "every"
MOST_IDS = 200
"""Ticked at once."""
LONGEST = 64
SHOWN_IDS = 20


@dataclass(frozen=True, slots=True)
class Chosen:
    """Dead letters that are meant.

    Attributes:
        wanted: as they are looked for.
        fields: as they stand in an address or a form.
    """

    wanted: Filter
    fields: Mapping[str, str]

    @property
    def address(self) -> str:
        """What of an address follows the question mark."""
        return urlencode(self.fields)

    @property
    def words(self) -> str:
        """Which they are, for a person; "" for all there are."""
        told = [f"{name} {self.fields[name]}" for name in SHARED if name in self.fields]
        ids = self.wanted.ids
        if ids:
            more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
            told.append(f"messages {', '.join(map(str, ids[:SHOWN_IDS]))}{more}")
        return ", ".join(told)

    def to(self, address: str) -> str:
        """Return the address of a page that does something with them."""
        return f"{address}?{self.address or urlencode({EVERY: 'yes'})}"


def looked_for(visit: Visit) -> Chosen:
    """Return the letters that a page or a form of this console is about; all where it says nothing.

    Raises:
        NotPossible: what it says is nothing to look for.
    """
    given = visit.form if visit.request.method == "POST" else visit.query
    fields = {name: given.get(name, "").replace("\0", "").strip()[:LONGEST] for name in SHARED}
    ticked = given.get(IDS, "") if given is visit.form else " ".join(visit.request.query_params.getlist(IDS))
    fields = {name: value for name, value in {**fields, IDS: " ".join(ticked.split())}.items() if value}
    wanted = Filter(
        ids=_ids(fields.get(IDS, "").split()),
        destination=fields.get("destination"),
        operation=fields.get("operation"),
        reason=fields.get("reason"),
        since=_moment(fields["since"]) if "since" in fields else None,
        incident=_number(fields["incident"]) if "incident" in fields else None,
    )
    return Chosen(wanted, fields)


def meant(visit: Visit) -> Chosen:
    """Return the letters that something is to be done with: all of them only where that is said.

    Raises:
        NotPossible: none are named, or by something that is nothing to look for.
    """
    chosen = looked_for(visit)
    if chosen.wanted.is_empty:
        given = visit.form if visit.request.method == "POST" else visit.query
        if not given.get(EVERY):
            raise NotPossible("no dead letter is named: tick some, or choose a group of them")
        return Chosen(chosen.wanted, {EVERY: "yes"})
    return chosen


def _ids(texts: list[str]) -> tuple[int, ...]:
    if len(texts) > MOST_IDS:
        raise NotPossible(f"{len(texts)} messages are named one by one, and {MOST_IDS} can be: use a filter")
    return tuple(sorted(set(map(_number, texts))))


def _number(text: str) -> int:
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    if not 0 < found <= LARGEST_NUMBER:
        raise NotPossible(f"{text[:20]!r} is no number of a message or an incident")
    return found


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise NotPossible(f"since is {text!r}: write it as 2026-11-01T09:30, in UTC") from None
