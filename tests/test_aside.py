"""Work aside: bounded in number and in time, whatever hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from orderflow_outbox.errors import OutboxError
from tasks.aside import Aside, TooMuchAside
from tasks.flower import dead_letters
from tasks.flower.dead_letters import DeadLetters
from tests.rig import eventually


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """What some work waits for; let go at the end."""
    event = threading.Event()
    yield event
    event.set()


def test_what_hangs_keeps_its_place_until_it_has_ended(hanging: threading.Event) -> None:
    aside = Aside(1)
    first = aside.begin(hanging.wait)
    with pytest.raises(TooMuchAside, match="try again"):
        aside.begin(int)
    hanging.set()
    assert first.result(10) is True
    assert eventually(lambda: aside.begin(lambda: "done")).result(10) == "done"


def test_work_that_gets_no_thread_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    aside = Aside(1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(TooMuchAside, match="no thread"):
            aside.begin(int)
    assert aside.begin(lambda: "done").result(10) == "done"


def test_the_page_waits_no_longer_than_it_says(
    monkeypatch: pytest.MonkeyPatch, hanging: threading.Event
) -> None:
    monkeypatch.setattr(dead_letters, "ANSWER_SECONDS", 0.05)
    page = cast(Any, None)
    with pytest.raises(OutboxError, match=r"did not answer within 0\.05 s"):
        asyncio.run(DeadLetters._aside(page, hanging.wait))
