"""What the tables share: the metadata they stand in, their version, and the lengths of texts."""

from __future__ import annotations

from sqlalchemy import MetaData, String

NAME = String(64)
REFERENCE = String(255)

CURRENT_VERSION = 1
"""The version of the tables."""

metadata = MetaData()
