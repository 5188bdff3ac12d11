"""The real outbox, driven by the steps that the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, RowMapping

from config import Configuration, RetryPolicy
from orderflow_outbox import Catalogue, NewMessage, enqueue_many
from orderflow_outbox.tables import body, dead_letter, message, metadata
from tests.model import CATALOGUE, JUMP, LEASE, WAITS, New, Told
from tests.steps import ALERT_TIMES, Clock, configuration, outcome, rows, why
from worker.by_hand import NotPossible, cancel, discard
from worker.deliveries import Claim, Outcome
from worker.documents import items_of
from worker.looking import Looker
from worker.ports import announce_nothing
from worker.quarantine import Death, Keeper
from worker.recorder import Recorder
from worker.replays.replaying import replay
from worker.store.transactions import Store
from worker.sweep import sweep
from worker.verdicts import Delivered, ItemResult, OfOne, Refused, RetryLater, Verdict

BLIND = Catalogue(replace(each, supersedes=()) for each in CATALOGUE.values())
"""The operations as they are to a shop that sees nothing of what it makes obsolete."""
CHECKED_BY = "order-detail"
FURTHER = timedelta(seconds=2 * JUMP)
"""How far the store's clock is ahead of the database's own, by which messages are enqueued: a moment of the
one is never taken for one of the other, however far it jumps."""
_RESULTS: Mapping[str, OfOne] = {
    "success": Delivered(why("imported")),
    "duplicate": Delivered(why("duplicate")),
    "refused": Refused(why("items_failed")),
    "retry": RetryLater(why("locked"), systemic=False),
    "omitted": RetryLater(why("not_mentioned"), systemic=False),
}
_VERDICTS: Mapping[str, Verdict | None] = {
    "delivered": Delivered(why("imported")),
    "split": Delivered(why("split")),
    "refused": Refused(why("items_failed")),
    "later": RetryLater(why("http_503"), systemic=True),
    "unsent": None,
    "absent": RetryLater(why("absent"), systemic=False, after=timedelta(), spends_try=False),
    "untold": RetryLater(why("check_unclear"), systemic=False, spends_try=False),
}


class RealOutbox:
    """An outbox in a database, emptied; its messages are numbered as they were stored, from 0."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                if table.name != "outbox_schema_version":
                    connection.execute(table.delete())
        self._clock = Clock()
        self._by_the_true_clock = self._clock.now
        self._clock.forward(FURTHER)
        self._store = Store(engine, self._clock)
        self._configuration = _without_chance(configuration())
        self._recorder = Recorder(self._store, self._configuration, ALERT_TIMES, announce_nothing)
        self._claims: dict[tuple[int, int], Claim] = {}

    def enqueue(self, given: New) -> None:
        operation, key, version, items, life, unseen = given
        imports = "".join(f'<import externalReference="{item}"/>' for item in items)
        expires_at = None if life is None else self._clock.now + timedelta(seconds=life)
        new = NewMessage(
            operation, f"<imports>{imports}</imports>", key=key, version=version, expires_at=expires_at
        )
        with self._engine.begin() as connection:
            enqueue_many(connection, [new], catalogue=BLIND if unseen else CATALOGUE)
            connection.execute(
                message.update()
                .where(message.c.due_at < self._by_the_true_clock)
                .values(due_at=self._clock.now)
            )

    def claim(self, quarantined: bool = False) -> list[int]:
        lease = timedelta(seconds=LEASE)
        looker = Looker(self._store, lease, CATALOGUE.superseded_by, quarantined=quarantined)
        claims = looker.look({"main": 1000}).claims
        place = {number: place for place, number in enumerate(self._ids())}
        for each in claims:
            self._claims[place[each.id], each.token] = each
        return [place[each.id] for each in claims]

    def record(self, number: int, token: int, told: Told) -> None:
        claim = self._claims[number, token]
        assert self._recorder.record([_outcome(claim, told)])

    def die(self, number: int, token: int) -> None:
        keeper = Keeper(self._store, self._configuration, ALERT_TIMES, announce_nothing)
        keeper.bury_or_retry(Death(self._claims[number, token], "vanished"))

    def sweep(self) -> None:
        sweep(self._store, self._configuration, ALERT_TIMES)

    def replay(self, number: int, force: bool) -> bool:
        try:
            return replay(
                self._store, self._ids()[number], "ann", "mended", catalogue=CATALOGUE, force=force
            ).created
        except NotPossible:
            return False

    def discard(self, number: int) -> bool:
        return self._done(discard, number)

    def cancel(self, number: int) -> bool:
        return self._done(cancel, number)

    def forward(self, seconds: float) -> None:
        self._clock.forward(timedelta(seconds=seconds))

    def standing(self) -> list[tuple[Any, ...]]:
        """Return how each message stands, as it is compared with the model."""
        letters = {each["message_id"]: each["resolution"] for each in rows(self._engine, dead_letter)}
        bodies = {each["message_id"]: each["payload"] for each in rows(self._engine, body)}
        messages = rows(self._engine, message)
        place = {each["id"]: place for place, each in enumerate(messages)}
        return [
            (
                each["operation"],
                each["key"],
                each["version"],
                each["state"],
                self._due(each),
                each["blocks"],
                place[each["position"]],
                each["attempts"],
                each["tries"],
                each["rescues"],
                each["in_doubt"],
                place.get(each["replay_of"]),
                place.get(each["split_from"]),
                letters.get(each["id"]),
                tuple(item.reference for item in items_of(bodies[each["id"]])),
            )
            for each in messages
        ]

    def _due(self, row: RowMapping) -> float | None:
        due_at: datetime | None = row["due_at"]
        if row["state"] == "sending" or due_at is None:
            return None
        return max((due_at - self._clock.now).total_seconds(), 0.0)

    def _ids(self) -> list[int]:
        return [each["id"] for each in rows(self._engine, message)]

    def _done(self, act: Any, number: int) -> bool:
        try:
            act(self._store, self._ids()[number], "ann", "as it must be")
        except NotPossible:
            return False
        return True


def _without_chance(known: Configuration) -> Configuration:
    retry = RetryPolicy(retry_after=[f"{each:g}s" for each in WAITS], jitter=0.0)  # type: ignore[list-item]
    main = known.destinations["main"].model_copy(update={"retry": retry, "operations": {}})
    return replace(known, catalogue=CATALOGUE, destinations={"main": main})


def _outcome(claim: Claim, told: Told) -> Outcome:
    items = [
        ItemResult(place, str(place), _RESULTS[result], result != "omitted")
        for place, result in enumerate(told.results, 1)
    ]
    checked_by = CHECKED_BY if told.verdict in ("absent", "untold") else None
    return outcome(
        claim,
        _VERDICTS[told.verdict],
        in_doubt=told.in_doubt,
        items=tuple(items),
        checked_by=checked_by,
    )
