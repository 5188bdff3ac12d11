"""The look-up of known vulnerabilities: it fails on one that is known, and says so where it cannot look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.audit import told

FAULT = {"id": "PYSEC-2026-1", "fix_versions": ["2.0"], "aliases": [], "description": "…"}
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}
FAULTY = {"name": "faulty", "version": "1.9", "vulns": [FAULT]}


def answer(*dependencies: Any) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


def test_a_known_vulnerability_fails_whatever_else_cannot_be_looked_up() -> None:
    lines, well = told(answer(SOUND, UNKNOWN, FAULTY), "")
    assert (lines, well) == (["faulty 1.9: PYSEC-2026-1, mended in 2.0"], False)


@pytest.mark.parametrize(
    ("said", "error", "line"),
    [
        (
            "",
            "WARNING:a\nERROR:no route to host\n",
            "vulnerabilities were not looked up: ERROR:no route to host",
        ),
        ("", "", "vulnerabilities were not looked up: no answer"),
        ("[]", "", "vulnerabilities were not looked up: no answer"),
        (answer(SOUND, UNKNOWN), "", "vulnerabilities of 1 of 2 packages cannot be looked up"),
    ],
)
def test_a_look_up_that_cannot_be_made_is_one_line_and_no_failure(said: str, error: str, line: str) -> None:
    assert told(said, error) == ([line], True)


def test_packages_without_a_known_vulnerability_are_counted() -> None:
    assert told(answer(SOUND, SOUND), "") == (["no vulnerability is known of 2 packages"], True)
