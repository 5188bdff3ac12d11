"""The project as somebody who has just cloned it finds it, once it is set up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.rig import PROJECT

SET_UP_FROM = ("requirements/service.txt", "requirements/dev.txt", "pyproject.toml")


def clone_into(folder: Path) -> Path:
    """Copy the project's own files into `folder`, and put the environment that runs in its place."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, names):
        if (PROJECT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    for each in {Path(name).parent for name in names if name.endswith(".py")}:
        if (compiled := PROJECT / each / "__pycache__").exists():  # to compile it again takes long
            shutil.copytree(compiled, folder / each / compiled.name)
    for name in SET_UP_FROM:
        os.utime(folder / name, (0, 0))  # older than the environment, which make leaves as it is
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def environment_of(clone: Path) -> dict[str, str]:
    """Return the environment of a reader without any settings, whose home is beside the clone."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "TMPDIR"}}
    return {**kept, "HOME": str(clone.parent), "USER": "reader"}
