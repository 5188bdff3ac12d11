"""The pages, and who may ask for each: docs/console.md has the same as a table."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.convertors import Convertor, register_url_convertor

from config import Role
from worker.web.roles import Guarded

from . import audit, dead, destinations, edit, find, incidents, many, message, overview, replays, search


class _Number(Convertor[int]):
    """A number in an address: of no more digits than the largest has, since thousands cannot even be read."""

    regex = "[0-9]{1,19}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _Number())

_READER, _OPERATOR, _ADMINISTRATOR = Role
_MESSAGE = "/messages/{message:number}"
_UNMASKED = f"{_MESSAGE}/unmasked"
_DOCUMENT, _REPLY = "/document", "/replies/{attempt:number}"
_DESTINATION = "/destinations/{destination}"
_RUN = "/replays/{run:number}"

PAGES: Sequence[Guarded] = (
    Guarded("/", _READER, overview.page),
    Guarded("/find", _READER, find.page),
    Guarded("/search", _READER, search.page),
    Guarded("/search/csv", _OPERATOR, search.as_csv),
    Guarded(_MESSAGE, _READER, message.page),
    Guarded(f"{_MESSAGE}{_DOCUMENT}", _OPERATOR, message.payload),
    Guarded(f"{_MESSAGE}{_REPLY}", _OPERATOR, message.reply),
    Guarded(_UNMASKED, _OPERATOR, message.unmasked_page),
    Guarded(f"{_UNMASKED}{_DOCUMENT}", _OPERATOR, message.unmasked_payload),
    Guarded(f"{_UNMASKED}{_REPLY}", _OPERATOR, message.unmasked_reply),
    Guarded(f"{_UNMASKED}/curl", _OPERATOR, message.unmasked_curl),
    Guarded(f"{_MESSAGE}/replay", _OPERATOR, message.replay_it, "POST"),
    Guarded(f"{_MESSAGE}/discard", _OPERATOR, message.discard_it, "POST"),
    Guarded(f"{_MESSAGE}/cancel", _OPERATOR, message.cancel_it, "POST"),
    Guarded(f"{_MESSAGE}/edit", _OPERATOR, edit.page),
    Guarded(f"{_MESSAGE}/edit", _OPERATOR, edit.preview, "POST", edit.MOST_BYTES),
    Guarded(f"{_MESSAGE}/edit/send", _OPERATOR, edit.send, "POST", edit.MOST_BYTES),
    Guarded("/dead", _READER, dead.page),
    Guarded("/dead/replay", _OPERATOR, many.dry_run),
    Guarded("/dead/replay", _OPERATOR, many.begin_it, "POST"),
    Guarded("/dead/discard", _OPERATOR, many.confirm_discard),
    Guarded("/dead/discard", _OPERATOR, many.discard_them, "POST"),
    Guarded("/replays", _READER, replays.page),
    Guarded(_RUN, _READER, replays.run_page),
    Guarded(f"{_RUN}/stop", _OPERATOR, replays.stop_it, "POST"),
    Guarded(f"{_RUN}/continue", _OPERATOR, replays.continue_it, "POST"),
    Guarded(f"{_RUN}/cancel", _OPERATOR, replays.cancel_it, "POST"),
    Guarded("/destinations", _READER, destinations.page),
    Guarded(f"{_DESTINATION}/hold", _OPERATOR, destinations.hold_it, "POST"),
    Guarded(f"{_DESTINATION}/resume", _OPERATOR, destinations.resume_it, "POST"),
    Guarded(f"{_DESTINATION}/limit", _ADMINISTRATOR, destinations.limit_it, "POST"),
    Guarded("/incidents", _READER, incidents.page),
    Guarded("/incidents/{incident:number}/acknowledge", _OPERATOR, incidents.acknowledge_it, "POST"),
    Guarded("/audit", _ADMINISTRATOR, audit.page),
)
