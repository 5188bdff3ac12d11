"""The check of the broker: that it answers, and throws nothing away."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, urlsplit

from config import ConfigError, Settings
from worker.broker import address_of_broker

from .finding import Finding, State

ANSWER_SECONDS = 2.0
KEEPS_ALL = "noeviction"
_AMQP_PORTS = {"amqp": 5672, "amqps": 5671}
_UNREACHABLE = "start it, or mend broker_url; until then messages leave up to 2 s later than with it"
_FOR_HINTS = f"set maxmemory-policy {KEEPS_ALL}: any other may throw hints away when memory is short"


def keeps_hints(name: str, settings: Settings) -> Finding:
    """Check that the broker answers, and that a Redis has the eviction policy that throws nothing away."""
    try:
        address = address_of_broker(settings)
    except ConfigError as error:
        return Finding(name, State.TROUBLE, str(error), _UNREACHABLE)
    parts = urlsplit(address)
    if parts.scheme in _AMQP_PORTS:
        return _reachable(name, parts)
    return _policy(name, parts, settings)


def _reachable(name: str, parts: SplitResult) -> Finding:
    """Check that something listens at RabbitMQ's address: its protocol is not spoken here."""
    host, port = parts.hostname or "", parts.port or _AMQP_PORTS[parts.scheme]
    try:
        socket.create_connection((host, port), ANSWER_SECONDS).close()
    except OSError as error:
        return Finding(name, State.TROUBLE, f"{host}:{port} cannot be reached: {error}", _UNREACHABLE)
    return Finding(name, State.WELL, f"{host}:{port} takes connections; more RabbitMQ is not asked here")


def _policy(name: str, parts: SplitResult, settings: Settings) -> Finding:
    import redis  # only who asks a Redis waits for this to be read

    place = parts.path if parts.hostname is None else f"{parts.hostname}:{parts.port or 6379}"
    with closing(_client(parts, settings)) as client:
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            return Finding(name, State.TROUBLE, f"{place} does not serve: {_told(error)}", _UNREACHABLE)
        try:
            policy = client.info("memory").get("maxmemory_policy")
        except (redis.RedisError, OSError) as error:
            told = f"{place} answers, but not what its maxmemory-policy is: {_told(error)}"
            return Finding(name, State.UNKNOWN, told, f"allow its user +info, or see that it is {KEEPS_ALL}")
    if policy == KEEPS_ALL:
        return Finding(name, State.WELL, f"{place} answers, its maxmemory-policy is {policy}")
    if policy is None:
        told = f"{place} answers, but does not say what its maxmemory-policy is"
        return Finding(name, State.UNKNOWN, told, f"see that it is {KEEPS_ALL}")
    return Finding(name, State.WARNING, f"{place} answers, its maxmemory-policy is {policy}", _FOR_HINTS)


def _client(parts: SplitResult, settings: Settings) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    scheme = "unix" if parts.scheme == "redis+socket" else parts.scheme
    options: dict[str, Any] = {
        "socket_connect_timeout": ANSWER_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    if scheme == "rediss":
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if settings.broker_ca_file is not None:
            options["ssl_ca_certs"] = str(settings.broker_ca_file)
    return redis.Redis.from_url(f"{scheme}://{parts.netloc}{parts.path}", **options)


def _told(error: Exception) -> str:
    return " ".join(str(error).split())
