"""`query`: asking OrderFlow something that changes nothing."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from config import load
from orderflow_outbox.errors import OutboxError
from worker.deliveries import Reply
from worker.querying import QueryAnswer, ask, prepared
from worker.store.attempts import evidence
from worker.store.resolving import note_audit
from worker.store.transactions import Store
from worker.verdicts import Delivered

from . import output
from .arguments import By, checked_why, opened_store, pairs


class NotAnswered(OutboxError):
    """A query that was not answered, or with an error."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("query")(query_command)


def query_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="order-detail, inventory, despatches, or one of your file.")
    ],
    destination: Annotated[str, typer.Option(help="Which OrderFlow.")] = "main",
    channel: Annotated[str | None, typer.Option(help="The channel.")] = None,
    organisation: Annotated[str | None, typer.Option(help="The organisation.")] = None,
    query: Annotated[list[str] | None, typer.Option(help="A query parameter, NAME=VALUE.")] = None,
    *,
    by: By,
    why: Annotated[str, typer.Option("--why", help="Why; kept with the answer.")] = "asked by hand",
    json: output.Json = False,
) -> None:
    """Ask OrderFlow a query, and print its answer; who asked what, and the answer, are kept."""
    configuration = load()
    note = checked_why(why)
    asked = prepared(configuration, name, destination, pairs("--query", query), channel, organisation)
    with opened_store() as store:
        answered = asyncio.run(ask(configuration, asked))
        _keep(store, answered, by, note)
    if json:
        output.print_json(_told(answered))
    elif isinstance(answered.reply, Reply):
        _print_body(answered.reply.body)
    if not isinstance(answered.verdict, Delivered):
        why_not = answered.verdict.why
        raise NotAnswered(f"{name} of {destination}: {why_not.reason}: {why_not.text}")


def _keep(store: Store, answered: QueryAnswer, by: str, why: str) -> None:
    """Write down who asked what, and what came of it: credentials masked, the answer up to the limit."""
    asked = answered.query
    verdict = answered.verdict
    detail = {
        "query": asked.name,
        "request_line": asked.request.line,
        "request_headers": dict(asked.request.shown_headers),
        "seconds": answered.seconds,
        "reason": verdict.why.reason,
        "error": None if isinstance(verdict, Delivered) else verdict.why.text,
        **_evidence(answered),
    }
    with store.writing() as transaction:
        note_audit(transaction, verb="query", by=by, why=why, destination=asked.destination, detail=detail)


def _evidence(answered: QueryAnswer) -> dict[str, Any]:
    stored = evidence(answered.reply if isinstance(answered.reply, Reply) else None)
    body = stored["reply_body"]
    return {**stored, "reply_body": None if body is None else body.decode("utf-8", "replace")}


def _told(answered: QueryAnswer) -> dict[str, Any]:
    reply, why = answered.reply, answered.verdict.why
    answer = reply if isinstance(reply, Reply) else None
    return {
        "query": answered.query.name,
        "destination": answered.query.destination,
        "ok": isinstance(answered.verdict, Delivered),
        "reason": why.reason,
        "text": why.text,
        "rule": why.rule,
        "seconds": answered.seconds,
        "status": None if answer is None else answer.status,
        "content_type": None if answer is None else answer.header("content-type"),
        "complete": None if answer is None else answer.complete,
        "body": None if answer is None else answer.body.decode("utf-8", "replace"),
    }


def _print_body(body: bytes) -> None:
    """Print an answer: to a terminal without what would move its cursor, elsewhere its bytes as they are."""
    if output.console.is_terminal:
        output.console.print(output.plain(body.decode("utf-8", "replace")))
        return
    sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
