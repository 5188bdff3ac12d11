"""The plain way, written with care: a Celery task for each message, `celery -A bench.plain worker`.

Each child process keeps one HTTP client with its connections and one database connection. A message
is acknowledged to the broker once its result is committed; what fails is retried by Celery.
"""

from __future__ import annotations

import os
from typing import Any

import httpx
import psycopg
from celery import Celery
from celery.signals import worker_process_init

SEND = "bench.plain.send"
QUEUE = "plain"
BROKER_VARIABLE = "BENCH_BROKER_URL"
DSN_VARIABLE = "BENCH_DSN"
URL_VARIABLE = "BENCH_RECEIVER_URL"
PREFETCH_VARIABLE = "BENCH_PREFETCH"
ATTEMPT_SECONDS = 30.0

TABLE = """
    CREATE TABLE plain_result (
        identity text PRIMARY KEY,
        status integer NOT NULL,
        reply bytea NOT NULL,
        sent_at timestamptz NOT NULL DEFAULT now()
    )
"""
_RESULT = b"INSERT INTO plain_result (identity, status, reply) VALUES (%s, %s, %s)"

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
    """What a child process keeps open."""

    client: httpx.Client
    database: psycopg.Connection[Any]


@worker_process_init.connect
def open_connections(**_: Any) -> None:
    """Open this child's HTTP client and its database connection."""
    Child.client = httpx.Client(timeout=ATTEMPT_SECONDS)
    Child.database = psycopg.connect(os.environ[DSN_VARIABLE], autocommit=True)


@app.task(name=SEND, autoretry_for=(httpx.HTTPError,), retry_backoff=True, acks_late=True, ignore_result=True)
def send(identity: str, document: str, headers: dict[str, str]) -> None:
    """Post one document and write down what came of it."""
    reply = Child.client.post(os.environ[URL_VARIABLE], content=document.encode(), headers=headers)
    reply.raise_for_status()
    Child.database.execute(_RESULT, (identity, reply.status_code, reply.content))
