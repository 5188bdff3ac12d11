"""The check of Flower: that it shows nothing to strangers."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException

from config import Settings

from .finding import CannotTell, Finding, State

ANSWER_SECONDS = 2.0
PAGES = ("/", "/api/tasks", "/metrics")
REFUSED = (401, 403)
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (it is where we connect instead)


def is_closed_to_strangers(name: str, settings: Settings) -> Finding:
    """Check that whatever listens on Flower's port refuses requests without credentials."""
    host = _EVERYWHERE.get(settings.flower.address, settings.flower.address)
    place = f"{host}:{settings.flower.port}"
    answers = {}
    for page in PAGES:
        try:
            answers[page] = _status(host, settings.flower.port, page)
        except ConnectionRefusedError:
            return Finding(name, State.WELL, f"nothing listens at {place}")
        except (OSError, HTTPException) as error:
            told = f"{place} does not answer as a web server: {type(error).__name__}: {error}"
            raise CannotTell(told, "see what listens there, or give flower.port another number") from None
    shown = {page: status for page, status in answers.items() if status not in REFUSED}
    if shown:
        told = ", ".join(f"{place}{page} answers a stranger with {status}" for page, status in shown.items())
        fix = "stop what listens there, and start Flower as `celery -A tasks flower` or `python -m worker up`"
        return Finding(name, State.TROUBLE, told, fix)
    return Finding(name, State.WELL, f"{place} refuses who gives no password")


def _status(host: str, port: int, page: str) -> int:
    connection = HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", page)
        return connection.getresponse().status
    finally:
        connection.close()
