"""Asking a query by hand: as messages are sent, by the same transport, credentials and limits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from config import Configuration
from orderflow_outbox.errors import InvalidMessage, MissingScope
from orderflow_outbox.messages import checked_query, checked_scope

from .deliveries import Failure, Reply, Request
from .masking import Masking, verdict_retold
from .requests import RequestBuilder
from .rules import Judge
from .verdicts import Verdict


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A query that may be asked, ready to be sent."""

    name: str
    destination: str
    request: Request
    masking: Masking


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """What a query was answered, and what that means."""

    query: PreparedQuery
    reply: Reply | Failure
    verdict: Verdict
    seconds: float


def prepared(
    configuration: Configuration,
    name: str,
    destination: str,
    given: Mapping[str, str],
    channel: str | None = None,
    organisation: str | None = None,
) -> PreparedQuery:
    """Return a query as it will be sent.

    Args:
        name: of the query.
        destination: who is asked, by its name.
        given: its parameters.

    Raises:
        InvalidMessage: it is not known, or lacks a parameter or its scope; names field, value and fix.
        SecretMissing: the destination's password is not to be had.
    """
    queries, destinations = configuration.queries.by_name, configuration.destinations
    if name not in queries:
        raise InvalidMessage("query", name, f"choose one of {', '.join(sorted(queries))}")
    if destination not in destinations:
        raise InvalidMessage("destination", destination, f"choose one of {', '.join(sorted(destinations))}")
    scopes = {"channel": checked_scope("channel", channel)}
    scopes["organisation"] = checked_scope("organisation", organisation)
    allowed = queries[name].scopes
    if allowed and not any(scopes[each] for each in allowed):
        raise MissingScope(allowed[0], None, f"{name} acts in a scope: give {' or '.join(allowed)}")
    operation = queries[name].as_operation(name)
    parameters = checked_query(operation, given)
    builder = RequestBuilder(destinations[destination])
    return PreparedQuery(name, destination, builder.ask(operation, parameters, **scopes), builder.masking)


async def ask(configuration: Configuration, query: PreparedQuery) -> QueryAnswer:
    """Send a query and judge the answer by the rules; nothing is raised for what a receiver does."""
    from .transport import Transport  # only who asks waits for this to be read

    deadline = configuration.destinations[query.destination].attempt_deadline.total_seconds()
    operation = configuration.queries.by_name[query.name].as_operation(query.name)
    begun = time.monotonic()
    async with Transport() as transport:
        reply = await transport.send(query.request, deadline)
    seconds = time.monotonic() - begun
    judge, now = Judge(configuration.rules), datetime.now(UTC)

    def judged(answer: Reply | Failure) -> Verdict:
        return judge.judge(answer, query.destination, operation, in_doubt=False, now=now).verdict

    if isinstance(reply, Failure):
        reply = query.masking.failure(reply)
    verdict = judged(reply)
    if isinstance(reply, Reply) and query.masking.finds(reply):
        reply = query.masking.reply(reply)
        verdict = verdict_retold(verdict, judged(reply))
    return QueryAnswer(query, reply, verdict, seconds)
