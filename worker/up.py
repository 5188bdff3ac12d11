"""The whole service on one machine: broker, worker, beat, Flower and console, as parts of one supervisor."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from config import Settings

from . import broker
from .supervisor import Part

STOP_MARGIN_SECONDS = 15.0
CELERY = [sys.executable, "-m", "celery", "-A", "tasks"]


def parts_of(
    settings: Settings,
    children: int,
    with_pages: bool = True,
    environment: Mapping[str, str] | None = None,
) -> list[Part]:
    """Return the parts to run, in the order they start.

    Args:
        settings: the embedded broker is a part only where no other is configured.
        children: how many child processes the worker has, each with an engine.
        with_pages: whether Flower, the console and beat run too.
        environment: variables for every part.
    """
    worker_bound = settings.engine.drain.total_seconds() + STOP_MARGIN_SECONDS
    worker = [*CELERY, "worker", f"--concurrency={children}", "--loglevel=INFO", "--hostname=outbox@%h"]
    parts = [Part("worker", worker, environment, worker_bound)]
    if settings.broker_is_embedded:
        parts.insert(0, Part("broker", broker.command(settings.state_dir), environment))
    if with_pages:
        parts += [
            Part("beat", [*CELERY, "beat", "--loglevel=INFO", "--pidfile="], environment),
            Part("flower", [*CELERY, "flower"], environment),
            Part("web", [sys.executable, "-m", "worker", "web"], environment),
        ]
    return parts
