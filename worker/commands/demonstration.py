"""`demo`: the main job shown in a temporary folder."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    del app
