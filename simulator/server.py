"""The HTTP server: receives, lets the fault plan have its say, answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from simulator import pages, wire
from simulator.access import CHALLENGE
from simulator.control import Control
from simulator.faults import Fault, FaultPlan, as_faults
from simulator.ledger import Ledger, Request
from simulator.options import CONTROL, Options
from simulator.orderflow import Call, OrderFlow

MAX_BODY = 6 * 1024 * 1024
BACKLOG = 1024
STOP_GRACE = 0.01
RETRY_AFTER = {"Retry-After": "1"}
_CONTROL_PREFIX = f"/{CONTROL}/"


class Server:
    """One simulator on one port, in the running event loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ledger = Ledger(options.ledger_file)
        self._orderflow = OrderFlow(options, self.ledger)
        self._plan = FaultPlan(options.fault_rules, options.seed)
        self._control = Control(self)
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen; returns the address of the instance."""
        loop = asyncio.get_running_loop()
        # The low-level server is taken for its speed: no router, no middleware, no access log.
        self._web = web.Server(self._handle, request_factory=_request, access_log=None)
        host, port = self.options.host, self.options.port
        try:
            self._listener = await loop.create_server(self._web, host, port, backlog=BACKLOG)
        except BaseException:
            self.ledger.close()
            raise
        return self.options.url(self._listener.sockets[0].getsockname()[1])

    def stop(self) -> asyncio.Task[None]:
        """Refuse connections from now on and drop those there are; the task ends when all are gone."""
        if self._stopping is None:
            self._listener.close()
            self._stopping = asyncio.get_running_loop().create_task(self._finish())
        return self._stopping

    async def _finish(self) -> None:
        await self._web.shutdown(STOP_GRACE)
        self.ledger.close()

    def set_faults(self, specs: Iterable[Fault | str]) -> None:
        """Replace the fault plan, with its counts and its chances begun anew."""
        self._plan = FaultPlan(as_faults(specs), self.options.seed)

    def reset(self) -> None:
        """Back to how it was started: an empty ledger and the first fault plan."""
        self.ledger.reset()
        self._orderflow.reset()
        self.set_faults(self.options.faults)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if "Expect" in request.headers:
            await _continue(request)
        if request.raw_path.startswith(_CONTROL_PREFIX):
            return await self._control.answer(request)
        in_progress = self.ledger.enter()
        try:
            return await self._receive(request, await request.read(), in_progress)
        finally:
            self.ledger.leave()

    async def _receive(self, request: web.BaseRequest, body: bytes, in_progress: int) -> web.StreamResponse:
        call = self._orderflow.read(request.method, request.raw_path, request.headers, body)
        fault = self._plan.pick(call.operation, call.references)
        record = self.ledger.receive(
            Request(
                operation=call.operation,
                method=request.method,
                path=request.raw_path,
                identity=request.headers.get("Idempotency-Key"),
                sha256=hashlib.sha256(body).hexdigest(),
                channel=call.scope("channel"),
                organisation=call.scope("organisation"),
                references=call.references,
                fault=fault.kind if fault else None,
            )
        )
        early = _answer_without_processing(fault)
        if early:
            self.ledger.finish(record, early.status)
            return wire.whole(early)
        if self.options.work:
            await asyncio.sleep(self.options.seconds_of_work(in_progress))
        return await self._process(request, call, record, fault)

    async def _process(
        self, request: web.BaseRequest, call: Call, record: Request, fault: Fault | None
    ) -> web.StreamResponse:
        kind = fault.kind if fault else None
        if kind == "reset":
            self.ledger.finish(record, None)
            return wire.reset(request)
        if kind == "hang":
            await wire.until_gone(request)
            self.ledger.finish(record, None)
            return wire.silent(request)
        if fault and kind == "slow":
            await asyncio.sleep(fault.delay)
        reply = self._orderflow.answer(call, record.n, omits=kind == "omit")
        answered = kind not in ("cut", "silent") and not wire.is_gone(request)
        self.ledger.finish(record, reply.status if answered else None)
        if kind == "cut":
            return wire.cut(request, reply)
        return wire.silent(request) if kind == "silent" else wire.whole(reply)


_INSTEAD: dict[str, Callable[[], pages.Reply]] = {
    "unavailable": lambda: pages.server_page(503, RETRY_AFTER),
    "unauthorised": lambda: pages.server_page(401, CHALLENGE),
    "error-page": lambda: pages.error_page("The order is locked"),
    "exception": lambda: pages.exception("java.lang.NullPointerException"),
    "maintenance": pages.maintenance,
    "missing": lambda: pages.server_page(404),
    "moved": lambda: pages.server_page(302, {"Location": "https://maintenance.example.com/"}),
}
"""What is answered, by the kind of fault, without doing what was asked."""


def _answer_without_processing(fault: Fault | None) -> pages.Reply | None:
    if fault is None:
        return None
    if fault.kind == "500":
        return pages.server_page(fault.status)
    instead = _INSTEAD.get(fault.kind)
    return None if instead is None else instead()


async def _continue(request: web.BaseRequest) -> None:
    # A client that asks first sends no body before it is told to.
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)
