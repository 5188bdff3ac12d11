"""Flower's Revoke, for messages: it waits for what the worker answers, and shows that.

Flower's own says that a task is revoked once it has asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flower.api.control import TaskRevoke
from tornado import web

from tasks.revoking import ANSWER_SECONDS
from tasks.rows import message_of

WAIT_SECONDS = ANSWER_SECONDS + 1.0
CONFLICT, NO_ANSWER = 409, 503


class Revoke(TaskRevoke):
    """Answers in the words of the worker; the buttons Revoke and Terminate show them."""

    @web.authenticated
    async def post(self, row: str) -> None:
        message_id = message_of(row)
        if message_id is None:
            await super().post(row)
            return
        if self.application.options.read_only:
            raise web.HTTPError(403, "Read only mode is enabled")
        answers = await self.run_blocking(
            "task.revoke", row, self.capp.control.revoke, row, reply=True, limit=1, timeout=WAIT_SECONDS
        )
        status, text = answer_of(answers or (), message_id)
        if status is None:
            self.write({"message": text})
        else:
            self.set_status(status)
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(text)


def answer_of(answers: Iterable[Mapping[str, Mapping[str, str]]], message_id: int) -> tuple[int | None, str]:
    """Return what a worker answered, and the status of an error where it is one."""
    for answer in answers:
        for of_a_worker in answer.values():
            if "ok" in of_a_worker:
                return None, of_a_worker["ok"]
            return CONFLICT, of_a_worker.get("error", "the worker did not say why")
    return NO_ANSWER, (
        f"no worker answered within {WAIT_SECONDS:g} s: `python -m worker cancel {message_id}` needs none"
    )
