"""The one place where it is decided who may ask for what: every route says which role it needs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from config import Role
from worker.by_hand import NotPossible
from worker.database import DatabaseTrouble, trouble_in_one_line

from .console import Console, Missing, Visit
from .security import TooMuch, form_of, is_https, is_same_origin
from .sessions import LIVE, NotTrusted, Who, give_cookie

MOST_BYTES = 16 * 1024
"""Of the body of a request, where a route does not say that it takes more."""
FORM_TOKEN = "token"  # noqa: S105 (a field's name)

Page = Callable[[Visit], Response]
OpenPage = Callable[[Console, Request, Mapping[str, str]], Response]

log = logging.getLogger(__name__)


class Guarded(Route):
    """A route that somebody of a role may ask for.

    Args:
        path: its address.
        needs: the least role.
        page: answers; called in a thread of its own.
        method: POST changes something: the form must be one of ours, sent by whoever it was made for.
        most_bytes: of a form.
    """

    def __init__(
        self, path: str, needs: Role, page: Page, method: str = "GET", most_bytes: int = MOST_BYTES
    ) -> None:
        self.needs: Role | None = needs
        self._page = page
        super().__init__(path, partial(_endpoint, self._answer, most_bytes, True), methods=[method])

    def _answer(self, console: Console, request: Request, form: Mapping[str, str]) -> Response:
        who = console.sessions.who(request)
        if who is None:
            return _to_sign_in(request)
        request.state.user = who.name
        response = self._answer_to(console, request, form, who)
        if who.is_named_by_proxy:
            give_cookie(response, who.token, is_https(request, console.settings))
        return response

    def _answer_to(self, console: Console, request: Request, form: Mapping[str, str], who: Who) -> Response:
        assert self.needs is not None  # noqa: S101 (it is given)
        if not who.role.covers(self.needs):
            told = f"This needs the role {self.needs}; yours is {who.role}."
            return _problem(console, request, who, 403, "Not for you", told)
        if request.method == "POST" and not who.sent(form.get(FORM_TOKEN, "")):
            told = "The form is of another session: go back, load the page anew and send it again."
            return _problem(console, request, who, 403, "Not accepted", told)
        try:
            return self._page(Visit(console, request, who, form))
        except Missing as error:
            return _problem(console, request, who, 404, "Not found", str(error))
        except NotPossible as error:
            return _problem(console, request, who, 409, "Not possible", str(error))


class Open(Route):
    """A route that strangers may ask for: there are few, and none of them tells anything.

    Args:
        waits: False of a page that waits for nothing: it is answered at once, however busy the threads are.
    """

    def __init__(self, path: str, page: OpenPage, method: str = "GET", *, waits: bool = True) -> None:
        self.needs: Role | None = None
        super().__init__(path, partial(_endpoint, page, MOST_BYTES, waits), methods=[method])


async def _endpoint(answer: OpenPage, most_bytes: int, waits: bool, request: Request) -> Response:
    """Read what was sent, and answer, in a thread where that may wait; faults are told in one line."""
    console: Console = request.app.state.console
    form: Mapping[str, str] = {}
    if request.method == "POST":
        if not is_same_origin(request, console.settings):
            return PlainTextResponse("This form is not of this console.\n", 403)
        try:
            form = await form_of(request, most_bytes)
        except TooMuch:
            return PlainTextResponse("This is no form of this console, or too large, or too slow.\n", 413)
    if not waits:
        return _answered(answer, console, request, form)
    return await run_in_threadpool(_answered, answer, console, request, form)


def _answered(answer: OpenPage, console: Console, request: Request, form: Mapping[str, str]) -> Response:
    try:
        with trouble_in_one_line():
            return answer(console, request, form)
    except NotTrusted:
        return PlainTextResponse("The user that this request names is not believed.\n", 403)
    except DatabaseTrouble as error:
        log.error("%s %s: %s", request.method, quote(request.url.path), error)
        told = "The database does not answer, or not in time. The console's log says more."
        return _problem(console, request, None, 503, "No database", told)
    except Exception as error:
        # Without what it says: that may be of a payload.
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s %s: %s\n%s", request.method, quote(request.url.path), type(error).__name__, where)
        told = "Something went wrong here. The console's log says where."
        return _problem(console, request, None, 500, "A fault", told)


def _to_sign_in(request: Request) -> Response:
    if request.method != "GET" or LIVE in request.headers:
        return PlainTextResponse("Sign in first.\n", 401)
    asked = f"{request.url.path}?{request.url.query}".removesuffix("?")
    onward = "" if asked == "/" else f"?next={quote(asked)}"
    return RedirectResponse(f"/sign-in{onward}", status_code=303)


def _problem(
    console: Console, request: Request, who: Who | None, status: int, title: str, told: str
) -> Response:
    return console.render("problem.html", who, request.url.path, status, title=title, told=told)
