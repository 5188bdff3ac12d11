"""Decides who is let in, and for which channel or organisation."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence

from simulator.operations import Scope
from simulator.options import Options

CHALLENGE = {"WWW-Authenticate": 'Basic realm="RTD"'}


class Access:
    """Checks the credentials and the scope of a request."""

    def __init__(self, options: Options) -> None:
        pair = f"{options.user}:{options.password}".encode()
        self._basic = base64.b64encode(pair)
        self._user = options.user.encode()
        self._password = base64.b64encode(options.password.encode())
        self._known: dict[Scope, Sequence[str]] = {
            "channel": options.channels,
            "organisation": options.organisations,
        }

    def authenticates(self, headers: Mapping[str, str]) -> bool:
        """Whether at least one scheme is used, and every scheme that is used is right."""
        basic = headers.get("Authorization")
        user, password = headers.get("user"), headers.get("password")
        custom = user is not None or password is not None
        if basic is None and not custom:
            return False
        if basic is not None and not self._basic_is_right(basic):
            return False
        return not custom or (_same(user or "", self._user) and _same(password or "", self._password))

    def _basic_is_right(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        return scheme.lower() == "basic" and _same(token.strip(), self._basic)

    def problem(self, scopes: Sequence[Scope], named: Callable[[Scope], str | None]) -> str | None:
        """Why a request that needs one of these scopes is refused, None when it is not.

        The first scope that is named decides: a wrong name is not made good by another scope.
        """
        for scope in scopes:
            if name := named(scope):
                known = self._known[scope]
                return f"Unknown {scope} {name}" if known and name not in known else None
        return f"No {' or '.join(scopes)} was given"


def _same(found: str, expected: bytes) -> bool:
    return hmac.compare_digest(found.encode("utf-8", "surrogateescape"), expected)
