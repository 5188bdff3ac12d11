"""A clock that a test sets: the server's own on PostgreSQL, that of each process on SQLite.

`python -m tests.proof.clock FILE MODULE WORDS…` runs a module with SQLite's clock as far ahead as FILE says
by then. Nothing else of a process is moved: what it watches by its monotonic clock goes on as before.
"""

from __future__ import annotations

import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url

from orderflow_outbox.storing import on_sqlite
from tests.rig import Place

_FORMAT = "%Y-%m-%d %H:%M:%f"
_ON_POSTGRESQL = (
    "CREATE TABLE clock AS SELECT interval '0' AS ahead",
    "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
    "'SELECT pg_catalog.clock_timestamp() + ahead FROM public.clock'",
)


class SetClock:
    """The clock of the database at `place`; a PostgreSQL's connections see it from their beginning on."""

    def __init__(self, place: Place) -> None:
        self._url = make_url(place.database_url)
        self._file = place.folder / "clock"
        if self._is_postgresql:
            # Functions of the server's own are found behind ours.
            path = f'ALTER DATABASE "{self._url.database}" SET search_path = public, pg_catalog'
            self._execute(*_ON_POSTGRESQL, path)
        self.set_ahead(timedelta())

    def set_ahead(self, by: timedelta) -> None:
        """Set the clock ahead of the true time, or behind it."""
        if self._is_postgresql:
            self._execute(f"UPDATE clock SET ahead = interval '{by.total_seconds()} s'")
        else:
            new = self._file.with_suffix(".new")
            new.write_text(str(by.total_seconds()))
            new.replace(self._file)

    def running(self, module: str, *words: str) -> tuple[str, ...]:
        """Return the module to run, with its words, for `module` to see this clock."""
        if self._is_postgresql:
            return (module, *words)
        return (__name__, str(self._file), module, *words)

    @property
    def _is_postgresql(self) -> bool:
        return self._url.get_backend_name() == "postgresql"

    def _execute(self, *statements: str) -> None:
        engine = create_engine(self._url)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()


def _move(file: Path) -> None:
    """Have SQLite's clock be as `file` says, in this process."""

    def now() -> datetime:
        moment = datetime.now(UTC) + timedelta(seconds=float(file.read_text()))
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def strftime(form: str, of: str) -> str:
        if (form, of) != (_FORMAT, "now"):
            raise ValueError(f"nobody asked for {form} of {of} before")
        return now().isoformat(" ", "milliseconds").removesuffix("+00:00")

    def connected(connection: Any, _record: Any) -> None:
        connection.create_function("strftime", 2, strftime)

    event.listen(Engine, "connect", connected)
    on_sqlite.sqlite_now = now


if __name__ == "__main__":
    _clock, _module, *_words = sys.argv[1:]
    _move(Path(_clock))
    sys.argv = [_module, *_words]
    runpy.run_module(_module, run_name="__main__")
