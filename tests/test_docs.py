"""The pages of the library's names: they build without a warning, and no name is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import orderflow_outbox
from tests.wheels import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text()
SOURCES = "docs/api"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, as `make docs` builds them but for the folder."""
    (told,) = re.findall(rf"python (-m sphinx .*) {SOURCES} build/docs$", MAKEFILE, re.MULTILINE)
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, *told.split(), SOURCES, str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_name_of_the_library_has_an_entry(pages: Path) -> None:
    listed = zlib.decompress((pages / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    entries = {line.split()[0] for line in listed.splitlines()}
    forgotten = [each for each in orderflow_outbox.__all__ if f"orderflow_outbox.{each}" not in entries]
    assert not forgotten, f"add them to the pages in {SOURCES}"


def test_every_operation_predefined_is_named(pages: Path) -> None:
    page = (pages / "operations.html").read_text()
    assert [name for name in orderflow_outbox.PREDEFINED if f">{name}<" not in page] == []


def test_the_pages_load_nothing_from_elsewhere(pages: Path) -> None:
    wanted = [
        address
        for page in pages.glob("*.html")
        for address in re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="([^"]*)"', page.read_text())
    ]
    assert wanted
    assert [address for address in wanted if "//" in address] == []


def test_every_file_that_the_page_on_security_names_is_there() -> None:
    named = set(
        re.findall(r"`((?:tests|docs)/[\w./]+|SECURITY\.md)`", (PROJECT / "docs" / "security.md").read_text())
    )
    assert len(named) > 10
    assert [each for each in sorted(named) if not (PROJECT / each).is_file()] == []
