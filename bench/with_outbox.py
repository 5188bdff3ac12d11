"""The contestant `outbox`: this service as `python -m worker up` runs it, without beat and Flower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from celery import Celery
from pydantic import SecretStr
from sqlalchemy import Engine

from config import load
from config.loading import FILE_VARIABLE
from orderflow_outbox import enqueue_many
from orderflow_outbox.publishing import Publisher
from worker import schema
from worker.by_hand import hold, resume
from worker.database import connect
from worker.store.transactions import Store
from worker.supervisor import Part
from worker.up import parts_of

from .contestant import CHILDREN, Contestant, Place
from .orders import PASSWORD, USER, order

DEFAULT_WINDOW = 256
BATCH = 500
BY, WHY = "bench", "to measure from a full outbox"


class Outbox(Contestant):
    """Messages are rows of the outbox; the broker carries hints.

    Args:
        window: the most requests in progress at once from the two engines together.
    """

    name = "outbox"
    finished_sql = "SELECT count(*) FROM outbox_message WHERE state = 'delivered'"

    def __init__(self, place: Place, window: int) -> None:
        self._window = window
        self._engine: Engine = connect(SecretStr(place.url))
        super().__init__(place)

    def prepare(self) -> None:
        """Make the tables and the two configuration files."""
        schema.upgrade(self._engine)
        folder = self.place.folder
        self.place.state_dir.mkdir(mode=0o700)
        (folder / "password").write_text(PASSWORD)
        (folder / "destinations.toml").write_text(
            f'[destinations.main]\nurl = "{self.place.receiver.url}"\nprivate_addresses = true\n'
            f'user = "{USER}"\n'
            f"password = {{ file = {json.dumps(str(folder / 'password'))} }}\nwindow = {self._window}\n"
        )
        self.file.write_text(
            f"database_url = {json.dumps(self.place.url)}\n"
            f"state_dir = {json.dumps(str(self.place.state_dir))}\n"
        )

    def parts(self) -> Sequence[Part]:
        """Return the service's own parts."""
        settings = load(self.file).settings
        return parts_of(settings, CHILDREN, with_pages=False, environment=self._variables)

    def is_up(self) -> bool:
        """Tell whether each child's engine has given a sign of life, which each does at its start."""
        return self.count("SELECT count(*) FROM outbox_engine_seen") >= CHILDREN

    def put(self, these: Sequence[str]) -> None:
        """Enqueue in transactions of many."""
        for first in range(0, len(these), BATCH):
            with self._engine.begin() as connection:
                enqueue_many(connection, [order(each) for each in these[first : first + BATCH]])

    def pause(self) -> None:
        """Hold the destination."""
        hold(Store(self._engine), "main", BY, WHY)

    def go(self) -> None:
        """Resume the destination and send one hint, as after a shop's commit."""
        resume(Store(self._engine), "main", BY, WHY)
        Publisher(Celery(broker=self.place.broker, set_as_current=False))()

    def close(self) -> None:
        """Close this process's own connections."""
        self._engine.dispose()
        super().close()

    def shop(self) -> dict[str, str]:
        """Return what a shop of this contestant needs to know."""
        return {**self._variables, "SHOP_DATABASE_URL": self.place.url, "SHOP_BROKER_URL": self.place.broker}

    @property
    def file(self) -> Path:
        return self.place.folder / "outbox.toml"

    @property
    def _variables(self) -> dict[str, str]:
        return {FILE_VARIABLE: str(self.file)}
