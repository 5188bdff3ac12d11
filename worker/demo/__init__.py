"""The main job, shown end to end in a temporary folder: nothing of it outlives the demo."""

from __future__ import annotations

from .story import DemoFailed, run
from .summary import Summary, print_summary

__all__ = ["DemoFailed", "Summary", "print_summary", "run"]
