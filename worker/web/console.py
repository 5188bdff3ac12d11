"""What every page works with, and one visit of a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from config import Configuration, Role, WebSettings
from orderflow_outbox.errors import OutboxError
from worker.by_hand import NotPossible, says_something
from worker.personal_data import PersonalData
from worker.store.transactions import Store

from .passwords import Checks
from .sessions import Sessions, Who
from .tries import Tries
from .users import Users

LARGEST_NUMBER = 2**63 - 1
LONGEST_WHY = 500


@dataclass(frozen=True, slots=True)
class Console:
    """What every page works with.

    Attributes:
        patient: the store for what may take longer than a page usually does.
        personal: finds and masks what is known of a person.
    """

    configuration: Configuration
    store: Store
    patient: Store
    users: Users
    sessions: Sessions
    checks: Checks
    tries: Tries
    templates: Environment
    assets: Mapping[str, bytes]
    personal: PersonalData

    @property
    def settings(self) -> WebSettings:
        return self.configuration.settings.web

    def render(self, template: str, who: Who | None, path: str, code: int = 200, **values: Any) -> Response:
        """Return a page.

        Args:
            who: it is for; None of a stranger.
            path: of the page, which its place in the navigation is found by.
        """
        page = self.templates.get_template(template)
        return HTMLResponse(page.render(who=who, path=path, **values), code)


class Missing(OutboxError):
    """There is no such thing as a page is asked of."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who may make it.

    Attributes:
        form: the fields that were sent; empty where a page is only looked at.
    """

    console: Console
    request: Request
    who: Who
    form: Mapping[str, str]

    @property
    def store(self) -> Store:
        return self.console.store

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    def may(self, role: Role) -> bool:
        """Tell whether more may be seen: what this role may see."""
        return self.who.role.covers(role)

    def page(self, template: str, code: int = 200, **values: Any) -> Response:
        """Return a page for whoever asked for it."""
        done = DONE.get(self.query.get("done", ""), "")
        return self.console.render(
            template, self.who, self.request.url.path, code, **{"done": done, **values}
        )

    def to(self, path: str, done: str) -> Response:
        """Have the browser go on to another page, which says what was done.

        Args:
            done: one of DONE.
        """
        return RedirectResponse(f"{path}?done={done}", status_code=303)

    def number(self, name: str) -> int:
        """Return the number in the address of the page."""
        found = int(self.request.path_params[name])
        if not 0 < found <= LARGEST_NUMBER:
            raise Missing(f"there is no {name} {found}")
        return found

    def place(self, name: str) -> int | None:
        """Return the number in the query that a page of a list begins after; of what is none, None."""
        text = self.query.get(name, "")
        found = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
        return found if 0 < found <= LARGEST_NUMBER else None

    def whole(self, field: str, least: int = 1, most: int = 1_000_000) -> int | None:
        """Return a whole number that was filled in; None of what was left empty.

        Raises:
            NotPossible: it is none, or out of bounds.
        """
        text = self.form.get(field, "").strip()
        if not text:
            return None
        found = int(text[:12]) if text.isascii() and text.isdigit() else -1
        if not least <= found <= most:
            raise NotPossible(
                f"{field} is {text[:20]!r}: give a whole number from {least} to {most}, or leave it empty"
            )
        return found

    def why(self) -> str:
        """Return the reason that was given.

        Raises:
            NotPossible: there is none, or a very long one.
        """
        why = " ".join(self.form.get("why", "").replace("\0", " ").split())
        if not says_something(why):
            raise NotPossible("say why: the reason is kept with what is done")
        if len(why) > LONGEST_WHY:
            raise NotPossible(f"the reason is longer than {LONGEST_WHY} characters: say it in fewer")
        return why


DONE = {
    "held": "The destination is held: nothing is sent to it.",
    "resumed": "The destination is open again.",
    "limited": "The limit is set: engines heed it within a second or two.",
    "unlimited": "The limit of the configuration alone counts again.",
    "replayed": "This is the replay: it is sent as soon as its turn comes.",
    "replayed-before": "It had been replayed before: this is that replay.",
    "begun": "The run has begun: the engines go on with it.",
    "run-stopped": "The run is stopped: what is sent stays as it is, and nothing more is sent.",
    "run-continued": "The run goes on, and is judged by what ends from now on.",
    "run-cancelled": "The run is cancelled: what it has not sent stays a dead letter.",
    "edited": "This is the replay with the edited document: it is sent as soon as its turn comes.",
    "discarded": "The dead letter is discarded: later messages of its key go on.",
    "cancelled": "The message is cancelled.",
    "acknowledged": "The incident is acknowledged: there are no more reminders of it, unless it gets worse.",
}
"""What a page says was done, by the word that stands in its address: nobody can have it say anything else."""
