"""`dead edit`: one dead message sent again with its document mended."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from config import load
from orderflow_outbox import InvalidMessage
from worker.by_hand import NotPossible
from worker.replays.editing import Editor
from worker.schemas import Schemas
from worker.store.transactions import Store

from . import output
from .arguments import By, Id, UsageProblem, Why, checked_why, opened_store

EDITORS = ("VISUAL", "EDITOR")

File = Annotated[
    Path | None, typer.Option("--file", help="The document to send; without it $EDITOR is opened.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def edit_command(
    message_id: Id, file: File = None, yes: Yes = False, *, by: By, why: Why, json: output.Json = False
) -> None:
    """Send one dead message again with another document, once the difference was seen."""
    note = checked_why(why)
    if json and not yes:
        raise UsageProblem("--json asks nobody: say --yes, too")
    configuration = load(need_secrets=False)
    editor = Editor(configuration.catalogue, Schemas(configuration.schemas))
    with opened_store() as store:
        if file is None:
            document, changes = _edited(store, editor, message_id)
        else:
            document = _read(file)
            changes = editor.preview(store, message_id, document)
        if not json:
            output.print_difference(changes)
        if not yes:
            typer.confirm(f"send message {message_id} again so?", abort=True, err=True)
        replayed = editor.replay(store, message_id, document, by, note)
    if json:
        output.print_json({"message": message_id, "replay": replayed.replay, "difference": changes})
    else:
        output.console.print(f"message {message_id} is replayed as message {replayed.replay}, edited")


def _edited(store: Store, editor: Editor, message_id: int) -> tuple[bytes, str]:
    """Return the document as a person has edited it, and the difference; what is refused is edited on."""
    document = editor.document(store, message_id)
    while True:
        document = _in_editor(document)
        try:
            return document, editor.preview(store, message_id, document)
        except (InvalidMessage, NotPossible) as error:
            sys.stderr.write(f"{output.plain(error).plain}\n")
            typer.confirm("edit it again?", default=True, abort=True, err=True)


def _in_editor(document: bytes) -> bytes:
    """Return what a person makes of a document, in a file that nobody else reads and that is gone then."""
    editor = next((os.environ[name] for name in EDITORS if os.environ.get(name)), None)
    if editor is None:
        raise UsageProblem("no editor is known: set EDITOR, or give the document with --file")
    with TemporaryDirectory(prefix="outbox-") as folder:
        file = Path(folder) / "document.xml"
        file.touch(mode=0o600)
        file.write_bytes(document)
        try:
            ended = subprocess.run([*shlex.split(editor), str(file)], check=False)
        except (OSError, ValueError) as error:
            raise UsageProblem(f"the editor {editor!r} cannot be started: {error}") from None
        if ended.returncode:
            raise UsageProblem(f"the editor ended with status {ended.returncode}: nothing is replayed")
        return file.read_bytes()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageProblem(f"{file} cannot be read ({error.strerror}): name a document") from None
