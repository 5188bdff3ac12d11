"""The control paths, for whoever runs the simulator: look into the ledger, set faults, start afresh."""

from __future__ import annotations

import json
from typing import Any, Protocol

from aiohttp import web

from simulator.ledger import Ledger
from simulator.options import CONTROL


class Controlled(Protocol):
    """What the control paths need of a server."""

    ledger: Ledger

    def set_faults(self, specs: list[str], /) -> None:
        """Replace the fault plan."""

    def reset(self) -> None:
        """Go back to how it was started."""


class Control:
    """Answers the control paths, in JSON."""

    def __init__(self, server: Controlled) -> None:
        self._server = server
        self._actions = {
            ("GET", f"/{CONTROL}/ledger"): self._ledger,
            ("GET", f"/{CONTROL}/summary"): self._summary,
            ("POST", f"/{CONTROL}/faults"): self._faults,
            ("POST", f"/{CONTROL}/reset"): self._reset,
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Do what the path says; 404 when there is no such path or it wants another method."""
        action = self._actions.get((request.method, request.raw_path.partition("?")[0]))
        if action is None:
            known = ", ".join(f"{method} {path}" for method, path in self._actions)
            return _json({"error": f"there is only {known}"}, 404)
        return action(await request.read())

    def _ledger(self, _body: bytes) -> web.Response:
        ledger = self._server.ledger
        return _json(
            {
                "requests": [request.as_json() for request in ledger.requests],
                "accepted": [entity.as_json() for entity in ledger.accepted],
            }
        )

    def _summary(self, _body: bytes) -> web.Response:
        return _json(self._server.ledger.summary())

    def _faults(self, body: bytes) -> web.Response:
        try:
            specs = _strings(body)
            self._server.set_faults(specs)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        return _json({"faults": len(specs)})

    def _reset(self, _body: bytes) -> web.Response:
        self._server.reset()
        return _json({"reset": True})


def _strings(body: bytes) -> list[str]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return found
    raise ValueError("the body must be a JSON list of strings")


def _json(value: Any, status: int = 200) -> web.Response:
    body = json.dumps(value).encode()
    return web.Response(body=body, status=status, content_type="application/json")
