"""Visits to the database by those who are waited for."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from config import load_settings
from orderflow_outbox.errors import OutboxError
from tests.databases import on_postgresql
from worker.visiting import hurried_store_of

LONG_SECONDS = 60


@on_postgresql
@pytest.mark.usefixtures("engine")
def test_a_statement_that_takes_long_is_given_up_and_said_in_one_line() -> None:
    begun = time.monotonic()
    with (
        pytest.raises(OutboxError, match="statement timeout") as caught,
        hurried_store_of(load_settings(), 1) as store,
        store.reading() as transaction,
    ):
        transaction.connection.execute(text(f"SELECT pg_sleep({LONG_SECONDS})"))
    assert time.monotonic() - begun < LONG_SECONDS / 2
    assert "\n" not in str(caught.value)
