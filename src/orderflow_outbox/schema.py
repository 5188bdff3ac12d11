"""Which versions of the tables this release writes and understands."""

from __future__ import annotations

CURRENT_VERSION = 1
OLDEST_SUPPORTED_VERSION = 1
VERSION_TABLE = "outbox_schema_version"
