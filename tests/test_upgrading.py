"""From one release to the next under running engines; the revision of the next one is made up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orderflow_outbox import UnsupportedSchema
from orderflow_outbox.schema import OLDEST_SUPPORTED_VERSION
from orderflow_outbox.tables import CURRENT_VERSION
from tests.rig import Place, engine_of, eventually, rig
from worker import schema

NEXT_VERSION = CURRENT_VERSION + 1
NEXT_REVISION = f'''
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{NEXT_VERSION:04}", "{CURRENT_VERSION:04}"


def upgrade() -> None:
    op.add_column("outbox_message", sa.Column("colour", sa.Text(), nullable=True))
    op.create_table("outbox_colour", sa.Column("name", sa.Text(), primary_key=True))
'''


@contextmanager
def next_release(folder: Path) -> Iterator[None]:
    """Be the next release, which adds a column and a table, for the length of the block."""
    migrations = folder / "migrations"
    shutil.copytree(schema.MIGRATIONS, migrations)
    (migrations / "versions" / "next.py").write_text(NEXT_REVISION)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(schema, "MIGRATIONS", migrations)
        for module in ("worker.schema", "orderflow_outbox.schema"):
            changed.setattr(f"{module}.CURRENT_VERSION", NEXT_VERSION)
        yield


def test_a_release_works_with_the_tables_of_the_one_before() -> None:
    assert max(1, CURRENT_VERSION - 1) >= OLDEST_SUPPORTED_VERSION


def test_tables_are_upgraded_under_running_engines_and_shops(place: Place) -> None:
    with rig(place) as made, engine_of(made):
        made.order("SO-1")
        eventually(lambda: made.states() == {"delivered"})
        with next_release(place.folder):
            schema.check(made.engine)  # with the tables as they are
            made.order("SO-2")
            assert schema.upgrade(made.engine) == CURRENT_VERSION
            assert schema.version_of(made.engine) == NEXT_VERSION
            schema.check(made.engine)
        made.order("SO-3")  # this release's shop and engine go on with the tables of the next
        eventually(lambda: [row.state for row in made.rows()] == ["delivered"] * 3)
        # Whoever begins now is refused: first comes the release everywhere, then its tables.
        with pytest.raises(UnsupportedSchema, match=f"version {NEXT_VERSION},.*newer release"):
            schema.check(made.engine)
