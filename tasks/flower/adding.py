"""Putting what is ours into Flower, by what is inside it: tests/test_flower_inside.py lists all of that."""

from __future__ import annotations

from pathlib import Path

from flower.urls import handlers, settings
from tornado.template import DictLoader
from tornado.web import url

from .dead_letters import NAME, DeadLetters
from .metrics import ClosedMetrics
from .revoking import Revoke

OURS = Path(__file__).with_name("templates")
END_OF_NAVIGATION = "</ul>"
"""Where Flower's own list of pages ends, in the bar that is on each of them."""


def add_to_flower() -> None:
    """Put our pages before Flower's own, and a link into its navigation bar; once, before it starts."""
    handlers[:0] = [
        (r"/metrics", ClosedMetrics),
        (r"/api/task/revoke/(.+)", Revoke),
        url(r"/dead-letters", DeadLetters, name=NAME),
    ]
    settings["template_loader"] = DictLoader(templates(Path(settings["template_path"])))


def templates(flowers: Path) -> dict[str, str]:
    """Return Flower's templates and ours, by name.

    Args:
        flowers: the folder of Flower's.
    """
    found = {
        file.name: file.read_text(encoding="utf-8")
        for folder in (flowers, OURS)
        for file in folder.glob("*.html")
    }
    link = found.pop("link.html")
    bar = found["navbar.html"].replace(END_OF_NAVIGATION, link + END_OF_NAVIGATION, 1)
    return {**found, "navbar.html": bar}
