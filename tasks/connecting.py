"""How the processes of this service reach their broker, and what they do while they cannot.

A hint may be lost, so nobody is patient with a broker that does not answer; but everyone tries again
every few seconds, for ever, and says so once.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from config import Settings
from orderflow_outbox import publishing
from worker.switch import LoggedSwitch

ANSWER_SECONDS = 3.0
"""How long a broker may take for an answer before the connection is given up."""
CHECK_SECONDS = 5
"""How often a connection that is only listened to is checked."""
HEARTBEAT_SECONDS = 10
"""RabbitMQ's heartbeat; a broker silent for two of them is gone."""
RETRY_SECONDS = 4
"""The longest pause between two tries to connect."""


def broker_options(url: str) -> dict[str, Any]:
    """Return the transport options of a connection that stays.

    Args:
        url: the broker's address; its scheme tells which words its transport knows.
    """
    if publishing.is_amqp(url):
        return dict.fromkeys(publishing.AMQP_TIMEOUTS, ANSWER_SECONDS)
    return {
        **dict.fromkeys(publishing.REDIS_TIMEOUTS, ANSWER_SECONDS),
        "socket_keepalive": True,
        "socket_keepalive_options": _keepalive(),
        "health_check_interval": CHECK_SECONDS,
    }


def tls_options(settings: Settings) -> dict[str, Any] | None:
    """Return what Celery needs to verify the broker's certificate; None for a broker without TLS."""
    options = publishing.tls_options(settings.broker_url.get_secret_value())
    if options is None or settings.broker_ca_file is None:
        return options
    name = "ssl_ca_certs" if "ssl_cert_reqs" in options else "ca_certs"
    return {**options, name: str(settings.broker_ca_file)}


def connection_to_publish(app: Celery) -> Any:
    """Return a connection, to be used in a `with`, that gives up within a second."""
    return app.connection_for_write(transport_options=publishing.publish_options(app.conf.broker_write_url))


def connect_patiently(
    connection: Any, usable: LoggedSwitch, each_second: Callable[[], None] = lambda: None
) -> Any:
    """Return the connection once it is open, however long that takes.

    Args:
        connection: a kombu connection.
        usable: is switched off by the first try that fails.
        each_second: is called about once a second meanwhile; what it raises ends the waiting.
    """
    errors = (*connection.connection_errors, *connection.channel_errors, OperationalError)
    pauses = chain((1, 2), repeat(RETRY_SECONDS))
    while True:
        try:
            return connection.ensure_connection(max_retries=0)
        except errors as error:
            usable.off(error)
        wait(next(pauses), each_second)


def wait(seconds: int, each_second: Callable[[], None]) -> None:
    """Wait, calling `each_second` before each second."""
    for _ in range(seconds):
        each_second()
        time.sleep(1)


def broker_switch(log: logging.Logger, connection: Any) -> LoggedSwitch:
    """Return a switch that says of a connection's broker, without its password, whether it can be used."""
    broker = f"the broker at {connection.as_uri()}"
    return LoggedSwitch(
        log, f"{broker} can be used again", f"{broker} cannot be used; messages are delivered without it"
    )


def _keepalive() -> dict[int, int]:
    """Have the kernel find out within half a minute that the other side is gone without a word."""
    wanted = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
