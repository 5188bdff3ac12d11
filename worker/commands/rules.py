"""`rules test` and `rules replay`: what replies mean, before the rules go live."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from config import Configuration, in_words, load, load_rules
from worker.deliveries import Reply
from worker.rejudging import Rejudged, judged_again, rejudge
from worker.rules import Judge
from worker.store.replies import last_reply, stored_replies
from worker.verdicts import Judgement, RetryLater, word_of

from . import output
from .arguments import (
    DestinationOption,
    OperationOption,
    SinceOption,
    UsageProblem,
    filter_of,
    opened_store,
)

RulesOption = Annotated[
    Path | None, typer.Option("--rules", help="Your rules, instead of the file that the settings name.")
]
LARGEST_ID_DIGITS = 18
STYLES = {"delivered": "green", "retry": "yellow", "refused": "bold red", "hold": "bold red"}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Try the rules that say what replies mean.", no_args_is_help=True)
    group.command("test")(try_command)
    group.command("replay")(replay_command)
    app.add_typer(group, name="rules")


def try_command(
    reply: Annotated[
        str,
        typer.Argument(metavar="FILE|MESSAGE", help="A reply's body, or a message's number: its last reply."),
    ],
    operation: Annotated[str, typer.Option(help="What was asked.")] = "order-import",
    destination: Annotated[str, typer.Option(help="Which OrderFlow answered.")] = "main",
    status: Annotated[int, typer.Option(help="The reply's status.", min=100, max=599)] = 200,
    header: Annotated[list[str] | None, typer.Option(help="A header of the reply, 'Name: value'.")] = None,
    in_doubt: Annotated[
        bool, typer.Option("--in-doubt", help="As if an earlier attempt may have been carried out.")
    ] = False,
    rules: RulesOption = None,
    json: output.Json = False,
) -> None:
    """Show the verdict on a reply, and the rule that gives it."""
    configuration = _configuration(rules)
    judge = Judge(configuration.rules)
    if reply.isascii() and reply.isdigit() and len(reply) <= LARGEST_ID_DIGITS:
        judgement = _of_message(int(reply), judge, configuration)
    else:
        if operation not in configuration.catalogue:
            known = ", ".join(sorted(configuration.catalogue))
            raise UsageProblem(f"--operation is {operation!r}: choose one of {known}")
        if destination not in configuration.destinations:
            known = ", ".join(sorted(configuration.destinations))
            raise UsageProblem(f"--destination is {destination!r}: choose one of {known}")
        answered = Reply(status, tuple(_header(each) for each in header or ()), _body(Path(reply)))
        judgement = judge.judge(
            answered, destination, configuration.catalogue[operation], in_doubt, datetime.now(UTC)
        )
    _show(judgement, json)


def replay_command(
    since: SinceOption = None,
    destination: DestinationOption = None,
    operation: OperationOption = None,
    rules: RulesOption = None,
    json: output.Json = False,
) -> None:
    """Judge stored replies by the rules as they stand in the files, and list each verdict that would flip."""
    if since is None:
        raise UsageProblem('--since is missing: say from when on, as in "7d"')
    configuration = _configuration(rules)
    judge = Judge(configuration.rules)
    wanted = filter_of(None, destination, operation, None, since)
    judged = flips = 0
    listed: list[dict[str, Any]] = []
    with opened_store() as store, store.reading() as transaction:
        replies = stored_replies(transaction, wanted)
        if not json:
            replies = iter(
                track(
                    replies,
                    "judging",
                    console=output.progress,
                    transient=True,
                    disable=not output.progress.is_terminal,
                )
            )
        for each in rejudge(replies, judge, configuration.catalogue):
            judged += each.now is not None
            flips += each.flips
            if each.flips or each.now is None:
                listed.append(_as_json(each))
    if json:
        output.print_json({"judged": judged, "flips": flips, "replies": listed})
        return
    _print_listed(listed)
    untold = len(listed) - flips
    told = f"{judged} replies judged, {flips} verdicts would flip"
    output.console.print(told + (f", {untold} replies cannot be judged again" if untold else ""))


def _configuration(own: Path | None) -> Configuration:
    configuration = load(need_secrets=False)
    if own is None:
        return configuration
    rules = load_rules(own, configuration.catalogue, configuration.destinations)
    return replace(configuration, rules=rules)


def _of_message(message_id: int, judge: Judge, configuration: Configuration) -> Judgement:
    with opened_store() as store, store.reading() as transaction:
        stored = last_reply(transaction, message_id)
    if stored is None:
        raise UsageProblem(f"message {message_id} has no stored reply: show {message_id} tells its life")
    operation = configuration.catalogue.get(stored.operation)
    if operation is None:
        raise UsageProblem(f"message {message_id} is of an operation that this service does not know")
    if not stored.is_whole:
        output.progress.print(
            output.warning("the reply is stored in part: the whole might be judged otherwise")
        )
    return judged_again(stored, judge, operation)


def _header(given: str) -> tuple[str, str]:
    name, colon, value = given.partition(":")
    if not colon or not name.strip():
        raise UsageProblem(f"--header is {given!r}: write it as 'Name: value'")
    return name.strip(), value.strip()


def _body(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        problem = f"{file} cannot be read ({error.strerror}): name a file with a reply's body, or a message"
        raise UsageProblem(problem) from None


def _show(judgement: Judgement, json: bool) -> None:
    told, verdict = _told(judgement), judgement.verdict
    if json:
        output.print_json(told)
        return
    headline = output.plain(told["verdict"])
    headline.stylize(STYLES[told["verdict"]])
    output.console.print(headline.append(f": rule {told['rule']}, reason {told['reason']}", style=""))
    output.console.print(output.plain(f"  {told['text']}"))
    if isinstance(verdict, RetryLater):
        fault = "the destination" if verdict.systemic else "the message"
        wait = "by the schedule" if verdict.after is None else f"after {in_words(verdict.after)}"
        output.console.print(output.plain(f"  the fault of {fault}; tried again {wait}"))
    for item in told["items"]:
        line = (
            f"  item {item['place']} {item['reference']}: {item['verdict']}, {item['reason']} {item['text']}"
        )
        output.console.print(output.plain(line.rstrip()))


def _told(judgement: Judgement) -> dict[str, Any]:
    verdict = judgement.verdict
    told: dict[str, Any] = {
        "verdict": word_of(verdict),
        "rule": verdict.why.rule,
        "reason": verdict.why.reason,
        "text": verdict.why.text,
        "items": [
            {
                "place": item.place,
                "reference": item.reference,
                "verdict": word_of(item.verdict),
                "reason": item.verdict.why.reason,
                "text": item.verdict.why.text,
            }
            for item in judgement.items
        ],
    }
    if isinstance(verdict, RetryLater):
        told["systemic"] = verdict.systemic
        told["after_seconds"] = None if verdict.after is None else verdict.after.total_seconds()
    return told


def _as_json(rejudged: Rejudged) -> dict[str, Any]:
    stored = rejudged.stored
    return {
        "message_id": stored.message_id,
        "attempt": stored.attempt,
        "at": stored.judged_at,
        "status": stored.reply.status,
        "was": {
            "verdict": stored.verdict,
            "rule": stored.rule,
            "reason": stored.reason,
            "text": stored.text,
        },
        "would_be": None if rejudged.now is None else _told(rejudged.now),
        "not_judged": rejudged.untold or None,
    }


def _print_listed(listed: list[dict[str, Any]]) -> None:
    if not listed:
        return
    shown = output.table("message", "attempt", "at", "HTTP", "was", "would be", "text")
    for each in listed:
        was, now = each["was"], each["would_be"]
        shown.add_row(
            str(each["message_id"]),
            str(each["attempt"]),
            output.moment(each["at"]),
            str(each["status"]),
            output.plain(f"{was['verdict']} ({was['rule']})"),
            output.plain("–" if now is None else f"{now['verdict']} ({now['rule']})"),
            output.plain(each["not_judged"] or now["text"]),
        )
    output.console.print(shown)
