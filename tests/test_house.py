"""The house keeps its own rules: types, style, import directions, what is pinned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ROOMS = ("src", "config", "worker", "tasks", "simulator")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60


def run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_are_strict() -> None:
    run("mypy")


def test_style_is_kept() -> None:
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")


def test_imports_go_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["service.txt", "dev.txt"])
def test_every_dependency_is_pinned_with_hashes_and_without_an_address(name: str) -> None:
    text = (PROJECT / "requirements" / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=", ""), re.MULTILINE), "an option of an index"
    pins = re.findall(r"^[a-z0-9][^\n]*", text, re.MULTILINE)
    assert pins
    assert all(re.match(r"[a-z0-9.-]+(\[[a-z]+\])?==\S+", pin) for pin in pins)
    assert all("--hash=sha256:" in each for each in re.split(r"\n(?=[a-z0-9])", text))


def test_files_and_functions_stay_small_enough_to_read() -> None:
    long = []
    for file in (file for room in ROOMS for file in (PROJECT / room).rglob("*.py")):
        text = file.read_text()
        if text.count("\n") > MAX_FILE_LINES:
            long.append(f"{file}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body and node.end_lineno else 0
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{file}:{node.lineno} {node.name}: {lines} lines")
    assert not [each for each in long if "/migrations/versions/" not in each]
