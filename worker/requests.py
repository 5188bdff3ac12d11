"""Building the request of a message: address, scope, credentials, identity.

Source: the interface's pages on addressing and authentication; RFC 7617 for Basic. The identity
header is `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the same on every attempt.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import urlencode

from pydantic import SecretStr

from config import Authentication, Destination
from orderflow_outbox import Operation

from .deliveries import Claim, Request
from .masking import Masking, masked

IDENTITY_HEADER = "Idempotency-Key"
USER_AGENT = "orderflow-outbox"


class RequestBuilder:
    """Builds the requests of messages and of queries for one destination; reads its password once.

    Args:
        password: by default the destination's, read from its place.

    Attributes:
        masking: finds the destination's credentials in replies.

    Raises:
        SecretMissing: the password is not to be had.
    """

    def __init__(self, destination: Destination, password: SecretStr | None = None) -> None:
        self._destination = destination
        secret = (password or destination.secret()).get_secret_value()
        self._credentials = _credentials(destination, secret)
        # Basic travels with its scheme before it; alone it is the credential all the same.
        self.masking = Masking([secret, *_encoded(destination, secret)])

    def build(self, claim: Claim, operation: Operation) -> Request:
        """Return the request of `claim`; the same claim always gives the same request."""
        headers = {IDENTITY_HEADER: claim.idempotency_key}
        if claim.payload is not None:
            headers["Content-Type"] = "application/xml; charset=utf-8"
        scopes = _scopes(claim.channel, claim.organisation)
        return self._request(operation, claim.query, scopes, {**claim.headers, **headers}, claim.payload)

    def ask(
        self,
        query: Operation,
        parameters: Mapping[str, str],
        channel: str | None,
        organisation: str | None,
    ) -> Request:
        """Return the request of a query, which has neither a body nor an identity."""
        return self._request(query, parameters, _scopes(channel, organisation), {}, None)

    def _request(
        self,
        operation: Operation,
        parameters: Mapping[str, str],
        scopes: Mapping[str, str],
        own: Mapping[str, str],
        body: bytes | None,
    ) -> Request:
        in_query = scopes if self._destination.scope_in_query and body is None else {}
        query = {**parameters, **in_query}
        headers = {
            **own,
            **self._credentials,
            **scopes,
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        url = f"{self._destination.base_url}/{operation.path}"
        return Request(
            method=operation.method,
            url=f"{url}?{urlencode(query)}" if query else url,
            headers=headers,
            shown_headers=masked(headers),
            body=body,
            private_addresses=self._destination.private_addresses,
        )


def _scopes(channel: str | None, organisation: str | None) -> dict[str, str]:
    given = (("channel", channel), ("organisation", organisation))
    return {name: value for name, value in given if value is not None}


def _credentials(destination: Destination, password: str) -> dict[str, str]:
    pair, alone = _encoded(destination, password)
    headers: dict[str, str] = {}
    if destination.authentication in {Authentication.BASIC, Authentication.BOTH}:
        headers["Authorization"] = f"Basic {pair}"
    if destination.authentication in {Authentication.CUSTOM, Authentication.BOTH}:
        headers["user"] = destination.user
        headers["password"] = alone
    return headers


def _encoded(destination: Destination, password: str) -> tuple[str, str]:
    """Return user and password as Basic has them, and the password as the interface's own scheme has it."""
    pair = base64.b64encode(f"{destination.user}:{password}".encode()).decode()
    return pair, base64.b64encode(password.encode()).decode()
