"""The plain way, written with care: a Celery task for each message, `celery -A bench.plain worker`.

Each child process keeps one HTTP client with its connections and one database connection. A message
is acknowledged to the broker once its result is committed; what fails is retried by Celery.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import httpx
import psycopg
from celery import Celery
from celery.signals import worker_process_init

SEND = "bench.plain.send"
SEND_STORED = "bench.plain.send_stored"
QUEUE = "plain"
BROKER_VARIABLE = "BENCH_BROKER_URL"
DATABASE_VARIABLE = "BENCH_DATABASE_URL"
URL_VARIABLE = "BENCH_RECEIVER_URL"
PREFETCH_VARIABLE = "BENCH_PREFETCH"
ATTEMPT_SECONDS = 30.0
BUSY_SECONDS = 10.0

_SQLITE = "sqlite:///"
_TABLE = """
    CREATE TABLE plain_result (
        identity text PRIMARY KEY,
        status integer NOT NULL,
        reply {bytes} NOT NULL,
        sent_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
"""
_STORED = "CREATE TABLE plain_message (identity text PRIMARY KEY, document text NOT NULL)"
_DOCUMENT = "SELECT document FROM plain_message WHERE identity = {0}"
_RESULT = "INSERT INTO plain_result (identity, status, reply) VALUES ({0}, {0}, {0})"

app = Celery("plain", broker=os.environ.get(BROKER_VARIABLE), set_as_current=False)
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=int(os.environ.get(PREFETCH_VARIABLE, "16")),
    broker_connection_retry_on_startup=True,
)


class Child:
    """What a child process keeps open, and how its database is told of a result."""

    client: httpx.Client
    database: Any
    result: str
    document: str


def connect(url: str) -> Any:
    """Return a driver's own connection that commits each statement, to disk.

    Args:
        url: SQLAlchemy's address of the database.
    """
    if not url.startswith(_SQLITE):
        return psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True)
    connection = sqlite3.connect(url.removeprefix(_SQLITE), timeout=BUSY_SECONDS, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def make_tables(url: str) -> None:
    """Make the table of results, and that of messages which a shop stores."""
    connection = connect(url)
    connection.execute(_STORED)
    connection.execute(_TABLE.format(bytes="blob" if url.startswith(_SQLITE) else "bytea"))
    connection.close()


@worker_process_init.connect
def open_connections(**_: Any) -> None:
    """Open this child's HTTP client and its database connection."""
    url = os.environ[DATABASE_VARIABLE]
    Child.client = httpx.Client(timeout=ATTEMPT_SECONDS)
    Child.database = connect(url)
    place = "?" if url.startswith(_SQLITE) else "%s"
    Child.result, Child.document = _RESULT.format(place), _DOCUMENT.format(place)


@app.task(name=SEND, autoretry_for=(httpx.HTTPError,), retry_backoff=True, acks_late=True, ignore_result=True)
def send(identity: str, document: str, headers: dict[str, str]) -> None:
    """Post one document and write down what came of it."""
    reply = Child.client.post(os.environ[URL_VARIABLE], content=document.encode(), headers=headers)
    reply.raise_for_status()
    Child.database.execute(Child.result, (identity, reply.status_code, reply.content))


@app.task(name=SEND_STORED, autoretry_for=(httpx.HTTPError,), retry_backoff=True, acks_late=True)
def send_stored(identity: str, headers: dict[str, str]) -> None:
    """Post a document that its shop has stored, and write down what came of it."""
    (document,) = Child.database.execute(Child.document, (identity,)).fetchone()
    send(identity, document, headers)
