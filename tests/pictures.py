"""`python -m tests.pictures`: each page of the console, light and dark, in docs/pictures."""

from __future__ import annotations

import base64
import os
import struct
import tempfile
import zlib
from pathlib import Path

from playwright.sync_api import Browser, Page

from config import Role
from tests.browsers import Surfer, running_browser
from tests.consoles import RunningConsole, served
from tests.looks import LOOKS, SCHEMES
from tests.rig import PROJECT
from tests.telling import Night, tell

PICTURES = PROJECT / "docs" / "pictures"
WIDTH, HEIGHT = 1280, 1000

PALETTE = """
async (encoded) => {
  const bytes = Uint8Array.from(atob(encoded), (each) => each.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]));
  const drawn = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  drawn.drawImage(bitmap, 0, 0);
  const pixels = drawn.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const counts = new Map();
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = (pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2];
    counts.set(colour, (counts.get(colour) ?? 0) + 1);
  }
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([colour]) => colour);
  const parts = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const nearest = (colour) => {
    const distances = palette.map((each) => parts(each).reduce(
      (sum, part, n) => sum + (part - parts(colour)[n]) ** 2, 0));
    return distances.indexOf(Math.min(...distances));
  };
  const places = new Map([...counts.keys()].map((colour) => [colour, nearest(colour)]));
  let picture = "";
  for (let at = 0; at < pixels.length; at += 4) {
    picture += String.fromCharCode(
      places.get((pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2]));
  }
  return [palette.flatMap(parts), btoa(picture)];
}
"""
"""Finds the 256 most frequent colours of a picture, and for each pixel the nearest of them."""


def small(painter: Page, picture: bytes) -> bytes:
    """Return a picture as a PNG of 256 colours, which is a third of its size.

    Args:
        painter: a page that may run scripts, with a picture's pixels at hand.
    """
    palette, places = painter.evaluate(PALETTE, base64.b64encode(picture).decode())
    pixels = base64.b64decode(places)
    rows = b"".join(b"\0" + pixels[at : at + WIDTH] for at in range(0, len(pixels), WIDTH))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(palette)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def mend(page: Page) -> None:
    """Correct the article in the document, and see the difference."""
    document = page.get_by_label("Document", exact=True)
    document.fill(document.input_value().replace("SKU-90210", "SKU-90120"))
    page.get_by_role("button", name="See the difference").click()
    page.get_by_label("Why send it so").fill("the shop had mistyped the article")


def send(page: Page, night: Night) -> None:
    """Send the document that was mended, and have it delivered."""
    page.get_by_role("button", name="Send it so").click()
    page.wait_for_url("**/messages/*?done=edited")
    night.numbers["replay"] = int(page.url.rpartition("/")[2].partition("?")[0])
    night.deliver()


def take(browser: Browser, console: RunningConsole, night: Night, folder: Path) -> None:
    """Take a picture of each page, in each scheme."""
    size = {"width": WIDTH, "height": HEIGHT}
    with Surfer(browser, console, often=False, reduced_motion="reduce", viewport=size) as anna:
        page, painter = anna.page, browser.new_page()
        for name, address in LOOKS.items():
            page.goto(address.format(**night.numbers))
            if name == "edit":
                mend(page)
            elif name == "search":
                page.get_by_text("Fill in fields instead").click()
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                picture = page.screenshot(caret="hide")
                (folder / f"{name}-{scheme}.png").write_bytes(small(painter, picture))
            if name == "sign-in":
                anna.sign_in(Role.ADMINISTRATOR)
            elif name == "edit":
                send(page, night)


def main() -> None:
    """Take the pictures anew."""
    os.environ.setdefault("ORDERFLOW_MAIN_PASSWORD", "demo")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        night = tell(Path(folder))
        with served(night.file) as console, running_browser() as browser:
            take(browser, console, night, PICTURES)
        night.engine.dispose()


if __name__ == "__main__":
    main()
