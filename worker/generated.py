"""Passwords made here where none is configured: once, and kept in the state folder for its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr


class Generated(NamedTuple):
    """A password that was made here, the file it is kept in, and whether that was just now."""

    password: SecretStr
    file: Path
    is_new: bool


def generated_password(state_dir: Path, name: str) -> Generated:
    """Return the password kept in a file of the state folder; both are made where they are missing."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = state_dir / name
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        known = file.read_text(encoding="utf-8").strip()
        if known:
            return Generated(SecretStr(known), file, is_new=False)
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC, 0o600)
    password = secrets.token_urlsafe(18)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(password + "\n")
    return Generated(SecretStr(password), file, is_new=True)
