"""The wheel as a shop gets it: built once, installed beside SQLAlchemy for any Python of this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
INSTALL_SECONDS = 100
_PROBE = "import sqlite3, sys, venv; print('%d.%d' % sys.version_info[:2])"


def build(folder: Path) -> Path:
    """Build the wheel into `folder`, by the tools of the running environment; return its path."""
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def interpreter(version: str) -> Path | None:
    """Return a Python of `version` (such as `3.12`) that can open SQLite, None where there is none."""
    return next((path for path in _candidates(version) if _answers(path, version)), None)


def _candidates(version: str) -> Iterator[Path]:
    """Look at the running Python, along PATH, and at those that pyenv keeps but does not show."""
    if version == RUNNING:
        yield Path(sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder) / f"python{version}"
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(kept.glob(f"{version}.*/bin/python{version}"))


def _answers(path: Path, version: str) -> bool:
    if not os.access(path, os.X_OK):
        return False
    asked = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, timeout=30)
    return asked.returncode == 0 and asked.stdout.strip() == version


def environment(python: Path, folder: Path, wheel: Path, *requirements: str) -> Path:
    """Make a virtual environment of `python` in `folder` that holds the wheel; return its interpreter.

    Args:
        python: the interpreter it is for.
        folder: where it is made.
        wheel: what is installed, with whatever it requires.
        requirements: what is installed along with it, such as `sqlalchemy==2.0.*`.
    """
    _run([str(python), "-m", "venv", "--without-pip", str(folder)])
    inside = folder / "bin" / "python"
    _run([*_installer(inside), "--only-binary=:all:", str(wheel), *requirements])
    return inside


def _installer(target: Path) -> list[str]:
    """Return the command that installs into another environment; one made by uv has no pip itself."""
    if importlib.util.find_spec("pip") is None:
        uv = shutil.which("uv")
        assert uv is not None, "neither pip nor uv is there to install with"
        return [uv, "pip", "install", "--quiet", "--python", str(target)]
    pip = [sys.executable, "-m", "pip", "--python", str(target), "install", "--quiet"]
    return [*pip, "--no-compile", "--disable-pip-version-check"]


def run_in_shop(python: Path, shop: Path, script: Path, *arguments: str) -> Any:
    """Run `script` as a shop would in its own folder, and return the JSON that it prints."""
    copy = shop / script.name
    shutil.copy2(script, copy)
    told = _run([str(python), copy.name, *arguments], cwd=shop, env={"PATH": os.environ["PATH"]})
    return json.loads(told)


def _run(command: list[str], cwd: Path = PROJECT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout
