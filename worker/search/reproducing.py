"""A command for a shell that makes a request again, by curl, with a placeholder for the password."""

from __future__ import annotations

import base64
import re
import shlex

from pydantic import SecretStr

from config import Configuration, Destination
from orderflow_outbox import Operation
from orderflow_outbox.errors import OutboxError
from worker.deliveries import Claim, Request
from worker.masking import SECRET_HEADERS
from worker.requests import RequestBuilder
from worker.store import erasing
from worker.store.leasing import as_claimed
from worker.store.transactions import Transaction

_A_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_NO_PASSWORD = SecretStr("placeholder")
_OF_ITS_OWN = ("Accept", "Expect")
"""Headers that curl would add, and the transport does not."""

_WITHOUT_LENGTH = ("GET", "HEAD", "DELETE")
"""Where there is no body, of these methods nothing is said of its length."""


class NotReproducible(OutboxError):
    """The request of a message cannot be made any more: says which message, and why."""


def command_of(transaction: Transaction, message_id: int, configuration: Configuration) -> str:
    """Return the command that makes the request of a message again, under a line that says which.

    Raises:
        NotReproducible: it was erased, or its operation or its destination is not configured any more.
    """
    claim = as_claimed(transaction, message_id)
    operation = configuration.catalogue.get(claim.operation)
    destination = configuration.destinations.get(claim.destination)
    about = f"message {claim.id}: {claim.operation} to {claim.destination}"
    if erasing.is_erased(transaction, message_id):
        raise NotReproducible(f"{about}: it was erased: its document is gone")
    if operation is None or destination is None:
        raise NotReproducible(f"{about}: one of the two is not configured any more")
    return f"# {about}\n{as_curl(claim, operation, destination)}\n"


def placeholder(name: str, destination: Destination) -> str:
    """Return the variable of the shell that a destination's password is expected in."""
    own = destination.password.env or ""
    return own if _A_NAME.fullmatch(own) else f"ORDERFLOW_{re.sub('[^A-Z0-9]', '_', name.upper())}_PASSWORD"


def as_curl(claim: Claim, operation: Operation, destination: Destination) -> str:
    """Return the command that sends what an engine would send for a message; it has no credential in it."""
    request = RequestBuilder(destination, _NO_PASSWORD).build(claim, operation)
    variable = placeholder(claim.destination, destination)
    words = [
        f"curl --silent --show-error --include --request {shlex.quote(request.method)}",
        *_credentials(request, destination.user, variable),
        *(
            f"--header {shlex.quote(f'{name}: {value}' if value else f'{name};')}"
            for name, value in request.headers.items()
            if name.lower() not in SECRET_HEADERS
        ),
        *(f"--header '{name}:'" for name in _OF_ITS_OWN if name not in request.headers),
        *_body(request),
        f"--url {shlex.quote(request.url)}",
    ]
    return _fed_with(request.body, " \\\n  ".join(words))


def _credentials(request: Request, user: str, variable: str) -> list[str]:
    names = {name.lower() for name in request.headers}
    words = []
    if "authorization" in names:
        words.append(f'--basic --user {shlex.quote(user)}:"${variable}"')
    if "password" in names:
        words.append(f"""--header "password: $(printf %s "${variable}" | base64 | tr -d '\\n')\"""")
    return words


def _body(request: Request) -> list[str]:
    if request.body is not None:
        return ["--data-binary @-"]
    return [] if request.method in _WITHOUT_LENGTH else ["--header 'Content-Length: 0'"]


def _fed_with(body: bytes | None, command: str) -> str:
    """Return the command with a document on its standard input, byte for byte, whatever is in it."""
    if body is None:
        return command
    text = body.decode("utf-8", "replace")
    if text.encode() == body and all(each.isprintable() or each in "\n\t" for each in text):
        end = "END"
        while end in text:
            end += "_"
        # A here-document ends with a line break, which the document may not have.
        return f"head -c {len(body)} <<'{end}' | {command}\n{text}\n{end}"
    return f"base64 -d <<'END' | {command}\n{base64.encodebytes(body).decode()}END"
