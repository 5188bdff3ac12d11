"""Signing in and out."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Mapping
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from worker.by_hand import NotPossible

from .console import Console, Visit
from .passwords import Busy
from .security import client_of, is_https
from .sessions import cookie_name, give_cookie, take_cookie
from .users import Account

WRONG = "Name or password is wrong."
BUSY = "Others are signing in just now: try again."
_OWN_PATH = re.compile(r"/(?![/\\])[A-Za-z0-9/_.-]*(\?[A-Za-z0-9/_.~*:+=&%-]*)?")

log = logging.getLogger(__name__)


def sign_in_page(console: Console, request: Request, _form: Mapping[str, str]) -> Response:
    """Ask for name and password."""
    if console.sessions.who(request) is not None:
        return RedirectResponse("/", status_code=303)
    return _page(console, request.query_params.get("next", "/"))


def sign_in(console: Console, request: Request, form: Mapping[str, str]) -> Response:
    """Sign somebody in, and go on to the page that was asked for."""
    name, onward = form.get("name", "").strip(), form.get("next", "/")
    address = client_of(request, console.settings)
    wait = console.tries.begin(name, address, time.monotonic())
    if wait > 0:
        log.warning("too many tries to sign in from %s", quote(address, safe=":."))
        return _page(console, onward, _told_to_wait(wait), 429, wait)
    try:
        account = _account(console, name, form.get("password", ""))
    except Busy:
        return _page(console, onward, BUSY, 503, 1)
    if account is None:
        log.warning("somebody failed to sign in from %s", quote(address, safe=":."))
        return _page(console, onward, WRONG, 403)
    console.tries.succeeded(name, address, time.monotonic())
    https = is_https(request, console.settings)
    if known := request.cookies.get(cookie_name(https)):
        console.sessions.end(known)
    response = RedirectResponse(_own(onward), status_code=303)
    give_cookie(response, console.sessions.begin(account), https)
    request.state.user = account.name
    log.info("%s signed in from %s", account.name, quote(address, safe=":."))
    return response


def sign_out(visit: Visit) -> Response:
    """Sign somebody out: the token is worth nothing from then on."""
    if visit.who.is_named_by_proxy:
        raise NotPossible("the proxy before the console has signed you in: sign out there")
    visit.console.sessions.end(visit.who.token)
    response = RedirectResponse("/sign-in", status_code=303)
    take_cookie(response, is_https(visit.request, visit.console.settings))
    log.info("%s signed out", visit.who.name)
    return response


def _account(console: Console, name: str, password: str) -> Account | None:
    """Return whose name and password these are; it takes as long where there is no such name."""
    with_password = [each for each in console.users.accounts if each.hash is not None]
    if not with_password:
        return None
    account = next((each for each in with_password if each.name == name), None)
    hash = (account or with_password[0]).hash or ""
    fits = console.checks.fits(password, hash)
    return account if fits else None


def _page(console: Console, onward: str, told: str = "", status: int = 200, wait: float = 0) -> Response:
    response = console.render("sign_in.html", None, "/sign-in", status, onward=_own(onward), told=told)
    if wait:
        response.headers["Retry-After"] = str(math.ceil(wait))
    return response


def _told_to_wait(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"Too many tries: wait {minutes} minute{'s' if minutes > 1 else ''}, and try again."


def _own(path: str) -> str:
    """Return a path of the console: nobody is led elsewhere once signed in."""
    return path if _OWN_PATH.fullmatch(path) else "/"
