"""A message's whole life, told to a person or a machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.lives import DELIVERED, in_one_line, rescues_in_words
from worker.store.finding import Life, Row

from . import output


def life_json(life: Life) -> dict[str, Any]:
    """Return a life as one JSON object; credentials were masked when it was stored."""
    message = {k: v for k, v in output.as_json(life.message).items() if k != "fingerprint"}
    body = {k: v for k, v in output.as_json(life.body).items() if k != "sha256"}
    return {
        **message,
        **{k: v for k, v in body.items() if k != "message_id"},
        "sha256": None if life.body["sha256"] is None else life.body["sha256"].hex(),
        "attempts_made": [
            {**output.as_json(row), "items": _items_json(life, row["n"])} for row in life.attempts
        ],
        "dead_letter": None if life.dead_letter is None else output.as_json(life.dead_letter),
        "difference": life.difference,
        "replayed_as": life.replay,
        "split_into": list(life.children),
        "waits_for": life.elder,
        "audit": [output.as_json(row) for row in life.audit],
    }


def print_life(life: Life, payload: bool) -> None:
    """Print a life line by line."""
    message = life.message
    console = output.console
    headline = output.plain(f"message {message['id']} ")
    headline.append(message["state"], style=output.STATE_STYLES.get(message["state"], ""))
    console.print(headline.append(f": it {in_one_line(life)}"))
    for name, value in _facts(life):
        console.print(output.plain(f"  {name:<16} {value}"))
    if payload and life.body["payload"] is not None:
        console.print(output.plain(life.body["payload"].decode("utf-8", "replace")))
    if payload and life.difference is not None:
        output.print_difference(life.difference)
    for row in life.attempts:
        _print_attempt(row, payload)
        _print_items([item for item in life.items if item["n"] == row["n"]])
    if life.dead_letter is not None:
        _print_letter(life)
    for row in life.audit:
        line = f"{output.moment(row['at'])}  {row['verb']} by {row['by']}: {row['why']}"
        console.print(output.plain(line))


def _facts(life: Life) -> list[tuple[str, object]]:
    message = life.message
    facts = [
        ("operation", f"{message['operation']} to {message['destination']}"),
        ("channel", message["channel"]),
        ("organisation", message["organisation"]),
        ("key", message["key"]),
        ("version", message["version"]),
        ("idempotency key", message["idempotency_key"]),
        ("enqueued", output.moment(message["created_at"])),
        ("next try", output.moment(message["due_at"]) if message["due_at"] else None),
        ("waits for", None if life.elder is None else f"message {life.elder}, an earlier one of its key"),
        ("expires", output.moment(message["expires_at"]) if message["expires_at"] else None),
        ("attempts", f"{message['attempts']}, of which {message['tries']} failed tries"),
        ("rescues", rescues_in_words(message["rescues"])),
        ("replay of", message["replay_of"]),
        ("edited", "its document is another than that of its origin" if message["edited"] else None),
        ("replayed as", life.replay),
        ("split from", message["split_from"]),
        ("split into", ", ".join(map(str, life.children)) or None),
        ("finished", output.moment(message["finished_at"]) if message["finished_at"] else None),
    ]
    return [(name, value) for name, value in facts if value is not None]


def _print_attempt(row: Any, payload: bool) -> None:
    when = output.moment(row["started_at"] or row["finished_at"])
    took = "" if row["seconds"] is None else f" in {row['seconds']:.3f} s"
    status = "" if row["status"] is None else f" HTTP {row['status']}"
    rule = "" if row["rule"] is None else f" (rule {row['rule']})"
    check = "" if row["checked_by"] is None else f", a check by {row['checked_by']}"
    head = f"{when}  attempt {row['n']}{check}:{status}{took} → {row['verdict']}, {row['reason']}{rule}"
    output.console.print(output.plain(head))
    if row["request_line"]:
        output.console.print(output.plain(f"    {row['request_line']}"))
    if row["error"]:
        output.console.print(output.plain(f"    {row['error']}"))
    if payload and row["reply_body"]:
        cut = "" if row["reply_complete"] else " (stored in part)"
        output.console.print(output.plain(f"    reply{cut}: {row['reply_body'].decode('utf-8', 'replace')}"))


def _items_json(life: Life, attempt: int) -> list[dict[str, Any]]:
    items = [output.as_json(row) for row in life.items if row["n"] == attempt]
    return [{k: v for k, v in row.items() if k not in ("message_id", "n")} for row in items]


def _print_items(rows: Sequence[Row]) -> None:
    """Print what became of each item, unless all went the way of the message."""
    if len({row["verdict"] for row in rows}) < 2:
        return
    for row in rows:
        if row["verdict"] != DELIVERED:
            what = f"{row['verdict']}, {row['reason']}: {row['text']}"
            output.console.print(output.plain(f"    item {row['place']}, {row['reference']}: {what}"))
    done = sum(row["verdict"] == DELIVERED for row in rows)
    output.console.print(output.plain(f"    {done} of {len(rows)} items: delivered"))


def _print_letter(life: Life) -> None:
    letter = life.dead_letter
    assert letter is not None  # noqa: S101 (asked by the caller)
    line = f"{output.moment(letter['died_at'])}  dead letter, {letter['resolution']}: {letter['reason']}"
    output.console.print(output.plain(f"{line}: {letter['text']}"))
