"""The command line, run in this process: starting Python for each command would take a second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from worker.commands import main


@dataclass(frozen=True)
class Ran:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1, "one document on one line"
        return json.loads(self.out)


class Shell:
    """Runs commands, and hands back what they said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def any(self, *arguments: object) -> Ran:
        self._capsys.readouterr()
        status = main([str(each) for each in arguments])
        told = self._capsys.readouterr()
        return Ran(status, told.out, told.err)

    def good(self, *arguments: object) -> Ran:
        ran = self.any(*arguments)
        assert (ran.status, ran.err) == (0, "")
        return ran
