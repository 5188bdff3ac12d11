"""`check`: whether a document would be accepted, and fits its operation's XML schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from config import load
from orderflow_outbox import InvalidMessage
from orderflow_outbox.documents import read_document
from orderflow_outbox.errors import OutboxError
from worker.schemas import Schemas

from . import output
from .arguments import UsageProblem


class DocumentUnfit(OutboxError):
    """A document that would never be sent."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("check")(check_command)


def check_command(
    file: Annotated[Path, typer.Argument(help="The XML document.")],
    operation: Annotated[str, typer.Option(help="What it is meant for.")] = "order-import",
    json: output.Json = False,
) -> None:
    """Check a document as it would be before it is sent: by the interface's rules, and the XML schema."""
    configuration = load(need_secrets=False)
    known = configuration.catalogue.find(operation)
    try:
        document = file.read_bytes()
    except OSError as error:
        raise UsageProblem(f"{file} cannot be read ({error.strerror}): name a document") from None
    problem: str | None = None
    try:
        read_document(known, document)
    except InvalidMessage as error:
        problem = str(error)
    problem = problem or Schemas(configuration.schemas).problem(operation, document)
    if json:
        output.print_json({"ok": problem is None, "operation": operation, "problem": problem})
    elif problem is None:
        schema = " and its XML schema" if operation in configuration.schemas else ""
        output.console.print(output.plain(f"{file} fits {operation}, by the interface's rules{schema}"))
    if problem is not None:
        raise DocumentUnfit(f"{file}: {problem}")
