"""The Celery application. Its broker carries wake-up hints and nothing else.

A hint may be lost, doubled or late; so there is no result backend, no acknowledgement to wait for,
and no patience with a broker that does not answer.
"""

from __future__ import annotations

import logging
import sys

from celery import Celery

from config import ConfigError, Settings, load_settings
from worker.broker import broker_url

QUEUE = "orderflow"
DELIVER = "tasks.deliver"
SWEEP = "tasks.sweep"
HINT_EXPIRES_SECONDS = 60
SWEEP_SCHEDULE_SECONDS = 30.0

PUBLISH_OPTIONS = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "max_retries": 0}
"""Publishing gives up within a second: by default it would wait for a dead broker for ever."""


def celery_broker_url(settings: Settings) -> str:
    """Return the broker's address: the configured one, or the embedded broker's socket."""
    if settings.broker_is_embedded:
        return broker_url(settings.state_dir)
    return settings.broker_url.get_secret_value()


def make_app(settings: Settings) -> Celery:
    """Return the Celery application for these settings."""
    made = Celery("orderflow_outbox", broker=celery_broker_url(settings), set_as_current=False)
    made.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2.0,
        broker_transport_options={
            "health_check_interval": 10,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": SWEEP_SCHEDULE_SECONDS,
                "options": {"expires": SWEEP_SCHEDULE_SECONDS},
            }
        },
        beat_schedule_filename=str(settings.state_dir / "beat-schedule"),
        timezone="UTC",
    )
    return made


def _settings() -> Settings:
    try:
        return load_settings()
    except ConfigError as error:  # the command line shows the problems, not where Python met them
        sys.exit("\n".join(error.problems))


# A line for each hint would bury the lines that matter.
for _noisy in ("celery.worker.strategy", "celery.app.trace"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)

app = make_app(_settings())
