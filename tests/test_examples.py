"""Each example runs, through its own face: what is sold is on its way, and what is not leaves nothing."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select, text

from orderflow_outbox.tables import body, message
from tests.databases import on_sqlite_first
from tests.rig import PROJECT, Place, engine_of, eventually, rig

EXAMPLES = PROJECT / "examples"
ORDER = {"number": "SO-1", "sku": "A & B", "quantity": 2}


def messages(engine: Engine) -> list[tuple[str | None, str]]:
    """Return each message's key and state."""
    with engine.connect() as connection:
        found = connection.execute(select(message.c.key, message.c.state).order_by(message.c.id))
        return [(row.key, row.state) for row in found]


def orders(engine: Engine, table: str) -> list[str]:
    """Return the numbers of the shop's orders."""
    with engine.connect() as connection:
        return list(connection.scalars(text(f"SELECT number FROM {table} ORDER BY number")))


def run(url: str, *command: object, folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    """Run Python as a reader would, on the database at `url`."""
    environment = {**os.environ, "SHOP_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "settings"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


# FastAPI


@pytest.fixture
def shop(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The FastAPI shop on a database of this test's own."""
    monkeypatch.setenv("SHOP_DATABASE_URL", database_url)
    spec = importlib.util.spec_from_file_location("fastapi_shop", EXAMPLES / "fastapi_shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_shop", module)
    spec.loader.exec_module(module)
    yield module
    module.engine.dispose()


def place_order(shop: ModuleType, **changed: Any) -> httpx.Response:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(shop.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.post("/orders", json={**ORDER, **changed})

    return asyncio.run(post())


def test_fastapi_an_order_placed_is_a_message_pending(shop: ModuleType, engine: Engine) -> None:
    assert place_order(shop).status_code == 201
    assert orders(engine, "shop_order") == ["SO-1"]
    assert messages(engine) == [("order:SO-1", "pending")]


def test_fastapi_a_failed_payment_leaves_neither_order_nor_message(
    shop: ModuleType, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declined(_order: object) -> None:
        raise RuntimeError("declined")

    monkeypatch.setattr(shop, "take_payment", declined)
    assert place_order(shop).status_code == 500
    assert orders(engine, "shop_order") == []
    assert messages(engine) == []


def test_fastapi_an_order_sent_twice_is_stored_once(shop: ModuleType, engine: Engine) -> None:
    assert place_order(shop).json() == place_order(shop).json()
    assert place_order(shop, quantity=3).status_code == 409
    assert place_order(shop, number="SO\n2").status_code == 422
    assert place_order(shop, quantity=0).status_code == 422
    assert orders(engine, "shop_order") == ["SO-1"]
    assert messages(engine) == [("order:SO-1", "pending")]


# Django, in a process of its own: its settings are global

CUSTOMER = """
import django
django.setup()
from django.core.management import call_command
from django.test import Client
from orders import placing

def place(**changed):
    order = {"number": "SO-1", "sku": "A & B", "quantity": 2, **changed}
    return Client(raise_request_exception=False).post("/orders", order).status_code

def declined(order):
    raise RuntimeError("declined")

call_command("makemigrations", check=True, verbosity=0)  # ends here where one is missing
woken = []
placing.hint = lambda: woken.append(True)
print(place(), place(), place(quantity=3), place(quantity=0), place(number="SO-é\\x85"), len(woken))
placing.take_payment = declined
print(place(number="SO-2"), len(woken))
"""


def test_django_stores_order_and_message_together_or_not_at_all(engine: Engine, database_url: str) -> None:
    folder = EXAMPLES / "django_shop"
    migrated = run(database_url, folder / "manage.py", "migrate", folder=folder)
    assert migrated.returncode == 0, migrated.stderr
    customer = run(database_url, "-c", CUSTOMER, folder=folder)
    assert customer.stdout.splitlines() == ["201 201 409 422 422 1", "500 1"], customer.stderr
    assert orders(engine, "orders_order") == ["SO-1"]
    assert messages(engine) == [("order:SO-1", "pending")]


# A file of orders


@on_sqlite_first
def test_a_file_of_orders_is_delivered_once_however_often_it_is_read(place: Place) -> None:
    file = place.folder / "orders.csv"
    file.write_text("number,sku,quantity\nSO-1,A & B,2\nSO-2,<SKU>,1\n")
    with rig(place) as made:
        first = run(place.database_url, EXAMPLES / "import_orders.py", file)
        again = run(place.database_url, EXAMPLES / "import_orders.py", file)
        assert (first.stdout, again.stdout) == (
            "2 orders stored, 0 were there already\n",
            "0 orders stored, 2 were there already\n",
        ), first.stderr + again.stderr
        with engine_of(made):
            eventually(lambda: made.states() == {"delivered"})
        with made.engine.connect() as connection:
            sent = list(connection.scalars(select(body.c.payload).order_by(body.c.message_id)))
        assert b"product.externalReference=A & B\n" in sent[0]


@on_sqlite_first
def test_a_file_with_bad_rows_names_each_and_stores_nothing(engine: Engine, database_url: str) -> None:
    file = Path(os.environ["OUTBOX_STATE_DIR"]).with_name("orders.csv")
    file.write_text("number,sku,quantity\nSO-1,SKU-1,2\nSO-2,SKU-1\nSO-3,SKU-1,none\n,SKU-1,1\n")
    done = run(database_url, EXAMPLES / "import_orders.py", file)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "line 3: has not 3 fields: number, sku, quantity",
        "line 4: quantity is 'none': give a whole number above 0",
        "line 5: number is '': give printable text",
        "nothing was stored",
    ]
    assert messages(engine) == []


@on_sqlite_first
def test_a_file_that_contradicts_what_is_stored_changes_nothing(engine: Engine, database_url: str) -> None:
    file = Path(os.environ["OUTBOX_STATE_DIR"]).with_name("orders.csv")
    file.write_text("number,sku,quantity\nSO-1,SKU-1,2\nSO-1,SKU-1,3\n")
    done = run(database_url, EXAMPLES / "import_orders.py", file)
    assert (done.returncode, "other payload" in done.stderr) == (1, True)
    assert messages(engine) == []
