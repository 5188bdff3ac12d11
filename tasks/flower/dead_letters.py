"""The page of dead letters inside Flower, under its login."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import urlencode

from flower.views import BaseHandler
from tornado import web

from orderflow_outbox.errors import OutboxError
from tasks.aside import Aside
from tasks.rows import row_of
from worker.by_hand import says_something

from . import desk
from .desk import Cause, Done, Shown

NAME = "dead-letters"
ANSWER_SECONDS = 20.0
"""How long the page waits for the database; Flower's other pages do not wait at all."""
MOST_ASIDE = 4
MOST_WHY = 500
LARGEST_ID = 2**63 - 1
TOLD = "outbox_told"
"""A signed cookie: what came of a button, until the page that follows has shown it."""
# Scripts are Flower's own files; its styles are set from scripts too.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

T = TypeVar("T")

_aside = Aside(MOST_ASIDE)


class DeadLetters(BaseHandler):
    """Lists open dead letters, grouped by cause and one by one; replays and discards them."""

    def set_default_headers(self) -> None:
        """Have nobody keep the page, frame it, or run a script in it that is not Flower's."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "same-origin")

    def get_current_user(self) -> str | None:
        """Return the name of who is logged in; where Flower is open to everyone, this page is to nobody."""
        options = self.application.options
        if not (options.basic_auth or options.auth):
            raise web.HTTPError(401)
        known = super().get_current_user()
        return self._name_given() if known is True else known

    def check_xsrf_cookie(self) -> None:
        """Ask for a login first, and then for the token of the form, which Flower does not always ask for."""
        if not self.current_user:
            raise web.HTTPError(401)
        super().check_xsrf_cookie()
        web.RequestHandler.check_xsrf_cookie(self)

    def prepare(self) -> None:
        """Turn strangers away whatever they ask for; for the page itself, some are sent to the login."""
        if self.request.method != "GET" and not self.current_user:
            raise web.HTTPError(401)

    @web.authenticated
    async def get(self) -> None:
        """Show the letters of a cause, or all of them."""
        cause = self._cause(self.get_query_argument)
        page = self._number("page", self.get_query_argument("page", "1"), desk.MOST_PAGES)
        shown, trouble = None, ""
        try:
            shown = await self._aside(partial(desk.look, cause, page))
        except OutboxError as error:
            trouble = desk.shown(error)
        self._show(cause, shown, trouble)

    @web.authenticated
    async def post(self) -> None:
        """Replay or discard a message or a group; tell what came of it on the page that follows."""
        if self.application.options.read_only:
            raise web.HTTPError(403, "Read only mode is enabled")
        try:
            done = await self._aside(self._asked_for())
        except OutboxError as error:
            done = Done(str(error), well=False)
        told = json.dumps([desk.shown(done.text, 1000), done.well])
        self.set_secure_cookie(TOLD, told, expires_days=None)
        page = self._number("page", self.get_body_argument("page", "1"), desk.MOST_PAGES)
        self.redirect(self._address(self._cause(self.get_body_argument, "back_"), page), status=303)

    def _asked_for(self) -> Callable[[], Done]:
        """Return what the button stands for that was pressed."""
        verb, why = self.get_body_argument("verb", ""), self.get_body_argument("why", "")
        if verb not in (desk.REPLAY, desk.DISCARD):
            raise web.HTTPError(400, f"verb is {desk.REPLAY} or {desk.DISCARD}")
        if not says_something(why) or len(why) > MOST_WHY:
            raise OutboxError(f"say why, in {MOST_WHY} characters at most: it is kept with the message")
        by = self.current_user
        if message := self.get_body_argument("message", ""):
            return partial(desk.act_on, verb, [self._number("message", message, LARGEST_ID)], by, why)
        cause = self._cause(self.get_body_argument)
        if not all(cause):
            raise web.HTTPError(400, "a group has a reason, an operation and a destination")
        number = self._number("number", self.get_body_argument("number", ""), desk.MOST_AT_ONCE)
        return partial(desk.act_on_group, verb, cause, self._until(), number, by, why)

    async def _aside(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.wrap_future(_aside.begin(work))
        except TimeoutError:
            raise OutboxError(f"the database did not answer within {ANSWER_SECONDS:g} s") from None

    def _show(self, cause: Cause, shown: Shown | None, trouble: str) -> None:
        rows = self.application.events.state.tasks
        known = (
            {each.message_id for each in shown.letters if row_of(each.message_id) in rows} if shown else set()
        )
        told = self.get_secure_cookie(TOLD)
        if told:
            self.clear_cookie(TOLD)
        self.render(
            "dead_letters.html",
            cause=cause,
            shown=shown,
            trouble=trouble,
            done=Done(*json.loads(told)) if told else None,
            row_of=row_of,
            has_row=known.__contains__,
            address=self._address,
            most_why=MOST_WHY,
            desk=desk,
            read_only=self.application.options.read_only,
        )

    def _address(self, cause: Cause, page: int = 1) -> str:
        asked = {name: value for name, value in cause._asdict().items() if value}
        query = urlencode({**asked, **({"page": page} if page > 1 else {})})
        path = str(self.reverse_url(NAME))
        return f"{path}?{query}" if query else path

    def _name_given(self) -> str:
        """Return the name of a basic login that Flower has let in."""
        _, credentials = self.request.headers["Authorization"].split()
        return b64decode(credentials).decode().partition(":")[0]

    def _until(self) -> datetime:
        """Return until when the letters of a group had died that were shown."""
        try:
            until = datetime.fromisoformat(self.get_body_argument("until", ""))
        except ValueError:
            until = datetime.min
        if until.tzinfo is None:
            raise web.HTTPError(400, "until is a moment with its zone")
        return until

    @staticmethod
    def _cause(argument: Callable[[str, str], str], prefix: str = "") -> Cause:
        return Cause(*(argument(f"{prefix}{name}", "") for name in Cause._fields))

    @staticmethod
    def _number(name: str, text: str, most: int) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
            raise web.HTTPError(400, f"{name} is a number from 1 to {most}")
        return int(text)
