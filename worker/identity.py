"""Who an engine is, in every table that names one."""

from __future__ import annotations

import os
import socket
import uuid

MACHINE = socket.gethostname()[:64]


def new_engine_name() -> str:
    """Return a name that no other engine has, and that tells a person where it runs."""
    return f"{MACHINE}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
