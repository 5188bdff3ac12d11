"""The Celery application. Its broker carries wake-up hints and nothing else.

A hint may be lost, doubled or late; so there is no result backend, no acknowledgement to wait for,
and no patience with a broker that does not answer.
"""

from __future__ import annotations

import logging
import sys

from celery import Celery

from config import ConfigError, Settings, load_settings
from orderflow_outbox.publishing import QUEUE
from worker.broker import address_of_broker

from .connecting import ANSWER_SECONDS, HEARTBEAT_SECONDS, broker_options, tls_options

SWEEP = "tasks.sweep"
SWEEP_SCHEDULE_SECONDS = 30.0


def make_app(settings: Settings) -> Celery:
    """Return the Celery application for these settings.

    Raises:
        ConfigError: the broker's password is not where it is said to be kept.
    """
    url = address_of_broker(settings)
    made = Celery("orderflow_outbox", broker=url, events="tasks.consuming:Events", set_as_current=False)
    made.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_consumer="tasks.consuming:Consumer",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=ANSWER_SECONDS,
        # A broker that is full or forbids a command is as good as a dead one, and no worse.
        broker_channel_error_retry=True,
        broker_heartbeat=HEARTBEAT_SECONDS,
        broker_transport_options=broker_options(url),
        broker_use_ssl=tls_options(settings),
        beat_scheduler="tasks.beating:Scheduler",
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


def _app() -> Celery:
    try:
        return make_app(load_settings())
    except ConfigError as error:  # the command line shows the problems, not where Python met them
        sys.exit("\n".join(error.problems))


# A line for each hint would bury the lines that matter.
for _noisy in ("celery.worker.strategy", "celery.app.trace"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)

app = _app()
