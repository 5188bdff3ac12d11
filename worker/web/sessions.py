"""Who is it that asks: by a cookie of a session, or by the header of a trusted proxy."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from config import Role, WebSettings
from worker.store import sessions
from worker.store.sessions import Limits
from worker.store.transactions import Store

from .security import is_https
from .users import Account, Users

SEEN_AFTER = timedelta(minutes=1)
"""How stale it may be when a session was last used: else each request would write."""
LIVE = "x-live"
"""The header of requests that a page makes by itself: they keep nobody signed in."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who is signed in.

    Attributes:
        token: the secret that the browser keeps.
        is_named_by_proxy: whether a proxy says who it is, and not a session.
    """

    name: str
    role: Role
    token: str
    is_named_by_proxy: bool = False

    @property
    def form_token(self) -> str:
        """What each form of theirs repeats: it tells nothing of the token it is made of."""
        return hashlib.sha256(f"form {self.token}".encode()).hexdigest()

    def sent(self, form_token: str) -> bool:
        """Tell whether a form that repeats this is one of theirs."""
        return hmac.compare_digest(form_token.encode(), self.form_token.encode())


class NotTrusted(Exception):
    """A request names its user without coming from a trusted proxy, or names one who is refused."""


class Sessions:
    """Signs people in and out, and knows them again.

    Args:
        store: keeps the sessions.
        users: who may sign in.
        settings: how long sessions last, and whom to trust.
    """

    def __init__(self, store: Store, users: Users, settings: WebSettings) -> None:
        self._store = store
        self._users = users
        self._settings = settings
        self._limits = Limits(settings.idle_limit, settings.session_limit)

    def who(self, request: Request) -> Who | None:
        """Return who asks; None of a stranger.

        Raises:
            NotTrusted: it is said by a header that is not to be believed.
        """
        account = self._named_by_proxy(request)
        token = request.cookies.get(cookie_name(is_https(request, self._settings)), "")
        if account is not None:
            known = token if _TOKEN.fullmatch(token) else secrets.token_urlsafe(32)
            return Who(account.name, account.role, known, is_named_by_proxy=True)
        if not _TOKEN.fullmatch(token):
            return None
        return self._signed_in(token, is_live=LIVE in request.headers)

    def _named_by_proxy(self, request: Request) -> Account | None:
        header = self._settings.trusted_header
        names = [] if header is None else request.headers.getlist(header)
        if not names:
            return None
        if request.client is None or not self._settings.is_trusted(request.client.host) or len(names) > 1:
            raise NotTrusted
        account = self._users.named_by_proxy(names[0])
        if account is None:
            raise NotTrusted
        return account

    def _signed_in(self, token: str, is_live: bool) -> Who | None:
        digest = _digest(token)
        with self._store.reading() as transaction:
            found, now = sessions.find(transaction, digest, self._limits), transaction.now
        account = None if found is None else self._users.find(found["user"])
        if found is None or account is None or not hmac.compare_digest(account.proof, found["proof"]):
            return None
        if now - found["seen_at"] >= SEEN_AFTER and not is_live:
            with self._store.writing() as transaction:
                sessions.see(transaction, digest)
        return Who(account.name, account.role, token)

    def begin(self, account: Account) -> str:
        """Sign somebody in; return the token of the new session."""
        token = secrets.token_urlsafe(32)
        with self._store.writing() as transaction:
            sessions.begin(transaction, _digest(token), account.name, account.proof, self._limits)
        return token

    def end(self, token: str) -> None:
        """Sign somebody out."""
        with self._store.writing() as transaction:
            sessions.end(transaction, _digest(token))


def cookie_name(https: bool) -> str:
    """Return the name of the cookie: by its prefix no other host and no plain http can have set it."""
    return "__Host-outbox" if https else "outbox"


def give_cookie(response: Response, token: str, https: bool) -> None:
    """Have the browser keep a token, until it is closed."""
    response.set_cookie(cookie_name(https), token, path="/", secure=https, httponly=True, samesite="lax")


def take_cookie(response: Response, https: bool) -> None:
    """Have the browser forget its token."""
    response.delete_cookie(cookie_name(https), path="/", secure=https, httponly=True, samesite="lax")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
