"""Flower's metrics, which by themselves are open to everyone."""

from __future__ import annotations

from flower.views.monitor import Metrics
from tornado import web


class ClosedMetrics(Metrics):
    """The same page, behind the login."""

    @web.authenticated
    async def get(self) -> None:
        await super().get()
