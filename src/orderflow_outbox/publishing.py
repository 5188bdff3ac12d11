"""Publishing a hint: called out where an engine listens, else the task `tasks.deliver`, by its name alone.

It goes over a connection of its own, never one of the shop's pool, and gives up soon: by default a
Celery publisher waits for a dead broker for ever. Needs Celery, which a shop that gives its own
application has, and one that gives an address installs.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl, urlsplit

from .calling import call, may_call
from .errors import InvalidBroker, shown

TASK = "tasks.deliver"
QUEUE = "orderflow"
EXPIRES_SECONDS = 60
MAX_WAITING = 100
"""While so many hints wait in the queue, as when no worker runs, none is added."""
COUNT_EVERY_SECONDS = 1.0
IDLE_SECONDS = 10.0
"""A connection unused for longer may be dead without a word: it is made anew."""
REDIS_SECONDS = 0.5
AMQP_SECONDS = 0.3
"""How long RabbitMQ may take for one answer: publishing waits for up to three of them."""

SCHEMES = ("redis", "rediss", "redis+socket", "amqp", "amqps", "pyamqp")
_KNOWN = ", ".join(f"{each}://" for each in SCHEMES)
REDIS_TIMEOUTS = ("socket_connect_timeout", "socket_timeout")
AMQP_TIMEOUTS = ("connect_timeout", "read_timeout", "write_timeout")


@runtime_checkable
class CeleryApp(Protocol):
    """What is asked of a Celery application."""

    @property
    def conf(self) -> Any:
        """Its configuration."""

    def connection_for_write(self, *args: Any, **options: Any) -> Any:
        """Return a connection to the broker, not open yet."""

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Publish a task by its name."""


class _NoRoutes:
    """Takes the place of the shop's own routes, which may lead anywhere, or raise."""

    def route(self, options: dict[str, Any], *_: Any) -> dict[str, Any]:
        return options


_NO_ROUTES = _NoRoutes()


class Publisher:
    """Publishes hints to the broker of a Celery application; one thread at a time may call it.

    Args:
        app: the shop's own Celery application, whatever its options.
    """

    def __init__(self, app: CeleryApp) -> None:
        self._app = app
        self._connection: Any = None
        self._process = 0
        self._used_at = 0.0
        self._counted_at = float("-inf")
        self._waiting = 0
        self._may_call: bool | None = None

    def __call__(self) -> bool:
        """Publish one hint; return False where enough of them wait already.

        Raises:
            Exception: whatever keeps the broker from taking it, within a second for each address it has.
        """
        fresh = self._connect()
        try:
            return self._publish()
        except Exception:
            self.close()
            if fresh:
                raise
        self._connect()  # what was kept may have died of the broker's restart
        try:
            return self._publish()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None and self._process == os.getpid():
            connection.release()

    def _connect(self) -> bool:
        """Have a connection; return whether it is a new one."""
        now = time.monotonic()
        kept = self._connection is not None and self._process == os.getpid()
        if kept and now - self._used_at <= IDLE_SECONDS:
            self._used_at = now
            return False
        self.close()
        options = publish_options(_first(self._app.conf.broker_write_url))
        self._connection = self._app.connection_for_write(heartbeat=0, transport_options=options)
        self._process, self._used_at = os.getpid(), now
        self._may_call = None
        return True

    def _publish(self) -> bool:
        # The address may name several brokers: each is tried once.
        others = max(0, len(self._connection.alt) - 1)
        self._connection.ensure_connection(max_retries=others, interval_start=0, interval_step=0)
        if self._may_call is None:
            self._may_call = may_call(self._connection)
        if self._may_call and self._is_heard():
            return True
        if self._is_enough():
            return False
        self._app.send_task(
            TASK,
            connection=self._connection,
            # Past the shop's own routes, and whether it makes missing queues or not.
            queue=_queue(),
            exchange="",
            routing_key=QUEUE,
            router=_NO_ROUTES,
            priority=0,
            retry=False,
            serializer="json",
            expires=EXPIRES_SECONDS,
            ignore_result=True,
        )
        self._waiting += 1
        return True

    def _is_heard(self) -> bool:
        try:
            return call(self._connection)
        except self._connection.channel_errors:  # this user may not
            self._may_call = False
            return False

    def _is_enough(self) -> bool:
        now = time.monotonic()
        if now - self._counted_at >= COUNT_EVERY_SECONDS:
            self._waiting = _waiting_on(self._connection)
            self._counted_at = now
        return self._waiting >= MAX_WAITING


def publisher_for(to: object) -> Callable[[], object]:
    """Return what publishes a hint: for a Celery application, a broker's address, or as it was given.

    Raises:
        InvalidBroker: it is none of the three, or an address and Celery is not installed.
    """
    if isinstance(to, str):
        return Publisher(_app_for(to))
    if isinstance(to, CeleryApp):
        return Publisher(to)
    if callable(to):
        return to
    fix = "give the shop's Celery application, a broker's address as text, or a function"
    raise InvalidBroker(f"a value of type {type(to).__name__}", fix)


def publish_options(url: str) -> dict[str, Any]:
    """Return the transport options of a connection that gives up within a second.

    Args:
        url: the broker's address; its scheme tells which words its transport knows.
    """
    if is_amqp(url):
        return {"max_retries": 0, **dict.fromkeys(AMQP_TIMEOUTS, AMQP_SECONDS)}
    # A prefix of the shop's own would lead to another queue than the worker's.
    return {"max_retries": 0, "global_keyprefix": "", **dict.fromkeys(REDIS_TIMEOUTS, REDIS_SECONDS)}


def is_amqp(url: str) -> bool:
    """Tell whether an address leads to RabbitMQ, whose transport has other words for its options."""
    return url.startswith(("amqp", "pyamqp"))


def tls_options(url: str) -> dict[str, Any] | None:
    """Return what Celery needs to verify the broker's certificate; None for a broker without TLS.

    Celery and kombu verify less when they are told nothing: Redis's certificate not at all, and that of
    RabbitMQ without its host name.

    Args:
        url: the broker's address; the `ssl_…` parameters of a Redis are kept.
    """
    parts = urlsplit(url)
    given = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    if parts.scheme == "rediss":
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **given}
    if parts.scheme == "amqps":
        return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname}
    return None


def _app_for(url: str) -> CeleryApp:
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in SCHEMES:
        raise InvalidBroker(f"an address of the kind {shown(scheme)}", f"begin it with one of {_KNOWN}")
    try:
        urlsplit(url)
    except ValueError:  # its text may hold a part of the password
        fix = "write special characters of a password as %XX"
        raise InvalidBroker(f"this {scheme} address", fix) from None
    try:
        celery: Any = import_module("celery")
    except ImportError:
        raise InvalidBroker(f"a {scheme} address", "that needs Celery: install celery[redis]") from None
    app = celery.Celery(broker=url, set_as_current=False)
    app.conf.broker_use_ssl = tls_options(url)
    app.conf.task_ignore_result = True
    made: CeleryApp = app
    return made


def _first(urls: Any) -> str:
    """Return a broker's address, or the first of several: those of one kind stand together."""
    return str((urls[0] if isinstance(urls, list | tuple) else urls) or "")


def _queue() -> Any:
    kombu: Any = import_module("kombu")
    return kombu.Queue(QUEUE)


def _waiting_on(connection: Any) -> int:
    """Return how many hints wait in the queue; none where there is no such queue yet."""
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue=QUEUE, passive=True).message_count)
    except connection.channel_errors:
        return 0
