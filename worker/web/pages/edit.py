"""Edit and replay: the document of a dead message mended in a page, its difference seen, and sent."""

from __future__ import annotations

from starlette.responses import Response

from orderflow_outbox import InvalidMessage
from worker.by_hand import NotPossible
from worker.replays.editing import Editor
from worker.replays.typed import LARGEST, document_of, text_of
from worker.schemas import Schemas
from worker.web.console import Visit
from worker.web.texts import visible

MOST_BYTES = 8 * LARGEST
"""Of a form with a document, each byte of which may take three, and each end of a line six."""


def page(visit: Visit) -> Response:
    """Show the document, to be edited."""
    number = visit.number("message")
    return _form(visit, number, text_of(_editor(visit).document(visit.store, number)))


def preview(visit: Visit) -> Response:
    """Show what was changed, or what is wrong with it, before anything is sent."""
    number, typed = visit.number("message"), visit.form.get("document", "")
    editor = _editor(visit)
    before = editor.document(visit.store, number)
    try:
        difference = editor.preview(visit.store, number, document_of(typed, before))
    except (InvalidMessage, NotPossible) as error:
        return _form(visit, number, typed, problem=str(error))
    return _form(visit, number, typed, difference=difference)


def send(visit: Visit) -> Response:
    """Send the message again with the document that was previewed."""
    number, typed = visit.number("message"), visit.form.get("document", "")
    editor = _editor(visit)
    before = editor.document(visit.store, number)
    try:
        why = visit.why()
        made = editor.replay(visit.store, number, document_of(typed, before), visit.who.name, why)
    except (InvalidMessage, NotPossible) as error:
        return _form(visit, number, typed, problem=str(error))
    return visit.to(f"/messages/{made.replay}", "edited")


def _editor(visit: Visit) -> Editor:
    configuration = visit.console.configuration
    return Editor(configuration.catalogue, Schemas(configuration.schemas))


def _form(
    visit: Visit, number: int, typed: str, *, difference: str | None = None, problem: str | None = None
) -> Response:
    lines = "\n".join(typed.splitlines())
    return visit.page(
        "edit.html",
        200 if problem is None else 409,
        number=number,
        text=typed,
        hides=visible(lines) != lines,
        difference=difference,
        problem=problem,
    )
