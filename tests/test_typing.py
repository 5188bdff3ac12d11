"""The library's types hold in a shop's own project: mypy and pyright, strict, see the installed package."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

import orderflow_outbox
from tests.wheels import PROJECT, build, environment

PROGRAMS = PROJECT / "tests" / "installed"
CONSUMER, MISTAKES = "consumer.py", "mistakes.py"
MARK = "# wrong"
CHECK_SECONDS = 100
SETTINGS = ("MYPY", "PYRIGHT_", "PYTHONPATH")
"""Variables that would have a checker look elsewhere, or fetch another version of itself."""

pytestmark = pytest.mark.timeout(300)  # the first time, packages are downloaded

Reported = dict[str, dict[int, str]]
"""What a checker says of each line of each file."""


class Shop(NamedTuple):
    """A shop's project: a folder with its programs, and the Python that has the library installed."""

    folder: Path
    python: Path


def mypy(shop: Shop) -> Reported:
    options = ["--strict", "--output=json", f"--cache-dir={os.devnull}", f"--python-executable={shop.python}"]
    lines = check("mypy", shop, *options, CONSUMER, MISTAKES).splitlines()
    return by_file((each["file"], each["line"], each["message"]) for each in map(json.loads, lines))


def pyright(shop: Shop) -> Reported:
    (shop.folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "include": [CONSUMER, MISTAKES]})
    )
    told = json.loads(check("pyright", shop, "--outputjson", f"--pythonpath={shop.python}"))
    assert told["summary"]["filesAnalyzed"] == 2
    return by_file(
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"])
        for each in told["generalDiagnostics"]
    )


def check(checker: str, shop: Shop, *options: str) -> str:
    """Run a checker of the running environment in the shop's folder; return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", checker, *options],
        cwd=shop.folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)},
        capture_output=True,
        text=True,
        timeout=CHECK_SECONDS,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # there are mistakes to find
    return done.stdout


def by_file(found: Iterable[tuple[str, int, str]]) -> Reported:
    files: Reported = {CONSUMER: {}, MISTAKES: {}}
    for file, line, message in found:
        files[file][line] = message
    return files


CHECKERS: dict[str, Callable[[Shop], Reported]] = {"2.0": mypy, "2.1": pyright}
"""One for each series of SQLAlchemy."""
IN_TURN = [pytest.param("2.0", marks=pytest.mark.soak), "2.1"]
"""The program passes mypy each time that the project does, with its own environment."""


def examine(series: str, wheel: Path) -> Reported:
    """Set a shop up beside the wheel, with SQLAlchemy of `series`; return what its checker says of it."""
    folder = wheel.with_name(f"sqlalchemy-{series}")
    python = environment(Path(sys.executable), folder / "venv", wheel, f"sqlalchemy=={series}.*")
    for program in (CONSUMER, MISTAKES):
        shutil.copy2(PROGRAMS / program, folder)
    return CHECKERS[series](Shop(folder, python))


@pytest.fixture(scope="module", params=IN_TURN)
def reported(request: pytest.FixtureRequest) -> Reported:
    with TemporaryDirectory(prefix="outbox-shops-") as folder:
        return examine(request.param, build(Path(folder)))


def test_a_program_with_every_name_of_the_library_passes(reported: Reported) -> None:
    assert reported[CONSUMER] == {}


def test_each_wrong_call_is_reported(reported: Reported) -> None:
    lines = (PROGRAMS / MISTAKES).read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith(MARK)}
    assert wrong
    assert reported[MISTAKES].keys() == wrong, reported[MISTAKES]


def test_the_program_uses_every_name_of_the_library() -> None:
    tree = ast.parse((PROGRAMS / CONSUMER).read_text())
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == orderflow_outbox.__name__
        for name in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    forgotten = set(orderflow_outbox.__all__) - (imported & used)
    assert not forgotten, f"tests/installed/{CONSUMER} has no use of {sorted(forgotten)}"
