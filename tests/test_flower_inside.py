"""Flower promises nobody what is inside it: all of that which is used here, in one place."""

from __future__ import annotations

import ast
import pkgutil
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import flower
import pytest
from tornado.web import HTTPError

from tasks.flower.adding import END_OF_NAVIGATION
from tasks.flower.dead_letters import DeadLetters
from tests.rig import PROJECT

NAMES = (
    "flower.api:BaseApiHandler.run_blocking",
    "flower.api.control:TaskRevoke.post",
    "flower.app:Events",
    "flower.events:Events.on_event",
    "flower.events:Events.run",
    "flower.events:EventsState",
    "flower.options:options.auth",
    "flower.options:options.basic_auth",
    "flower.options:options.read_only",
    "flower.urls:handlers",
    "flower.urls:settings",
    "flower.views:BaseHandler.check_xsrf_cookie",
    "flower.views:BaseHandler.get_current_user",
    "flower.views:BaseHandler.render",
    "flower.views:BaseHandler.set_default_headers",
    "flower.views:BaseHandler.set_secure_cookie",
    "flower.views.monitor:Metrics.get",
)
TEMPLATES = {
    "base.html": ("{% block title %}", "{% block navbar %}", "{% block container %}"),
    "navbar.html": ("active_tab ==", END_OF_NAVIGATION),
}


@pytest.mark.parametrize("name", NAMES)
def test_flower_has_a_name_that_is_used_here(name: str) -> None:
    pkgutil.resolve_name(name)


@pytest.mark.parametrize("template", TEMPLATES)
def test_flowers_templates_have_what_ours_hold_on_to(template: str) -> None:
    text = (Path(flower.__path__[0]) / "templates" / template).read_text()
    assert [each for each in TEMPLATES[template] if each not in text] == []


def test_what_is_imported_of_flower_is_listed() -> None:
    listed = [f"{name.replace(':', '.')}." for name in NAMES]
    imported = {
        f"{node.module}.{each.name}."
        for file in (PROJECT / "tasks").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "flower"
        for each in node.names
    }
    assert len(imported) >= 5
    assert [each for each in imported if not any(name.startswith(each) for name in listed)] == []


def test_flower_is_of_the_release_that_this_was_written_for() -> None:
    assert version("flower").startswith("2.")
    assert '"flower>=2.2,<3"' in (PROJECT / "pyproject.toml").read_text()


def test_a_flower_that_is_open_to_everyone_shows_its_dead_letters_to_nobody() -> None:
    options = SimpleNamespace(basic_auth=[], auth="")
    handler = SimpleNamespace(application=SimpleNamespace(options=options))
    with pytest.raises(HTTPError) as refused:
        DeadLetters.get_current_user(cast("DeadLetters", handler))
    assert refused.value.status_code == 401
