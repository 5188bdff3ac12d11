"""What Celery runs: `celery -A tasks worker`, `celery -A tasks beat`, `celery -A tasks flower`."""

from __future__ import annotations

import os
from pathlib import Path

from . import children, deliver, revoking  # noqa: F401 (registers signal handlers, tasks and commands)
from .app import app

# Flower opens its pages to everyone unless told otherwise; so it is told, whatever folder it starts in.
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flowerconfig.py")))

__all__ = ["app"]
