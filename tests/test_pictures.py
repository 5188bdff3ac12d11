"""Pictures of the console: each page has two of them, of one size, small, and on the page about it."""

from __future__ import annotations

import struct

from tests.looks import LOOKS, SCHEMES, routes_not_seen
from tests.pictures import HEIGHT, PICTURES, WIDTH
from tests.rig import PROJECT

MOST_BYTES = 2_000_000
NAMES = {f"{name}-{scheme}.png" for name in LOOKS for scheme in SCHEMES}


def test_each_page_of_the_console_has_a_look() -> None:
    addresses = [each.format(dead=1, replay=1, run=1) for each in LOOKS.values()]
    assert routes_not_seen(addresses) == [], "give it one in tests/looks.py, and run `make pictures`"
    assert "/audit" in routes_not_seen(each for each in addresses if each != "/audit")


def test_each_look_has_a_picture_in_light_and_dark_of_one_size() -> None:
    pictures = {each.name: each.read_bytes() for each in PICTURES.iterdir()}
    assert pictures.keys() == NAMES, "run `make pictures`"
    sizes = {struct.unpack(">II", content[16:24]) for content in pictures.values()}
    assert sizes == {(WIDTH, HEIGHT)}
    assert sum(map(len, pictures.values())) < MOST_BYTES


def test_every_picture_is_shown_on_the_page_about_the_console() -> None:
    page = (PROJECT / "docs" / "console.md").read_text()
    assert [each for each in sorted(NAMES) if f"pictures/{each}" not in page] == []
