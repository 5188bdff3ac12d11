"""The Chromium of the system, driven by Playwright; Playwright brings none of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright

from config import Role
from tests.consoles import NAMES, PASSWORD, RunningConsole

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"there is no browser: none of {', '.join(PROGRAMS)} is installed"
NARROW, WIDE = 360, 1280


def chromium() -> str:
    """Return the browser's program; without one a test is skipped, but fails where CI promised one."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run the browser for the length of the block."""
    program = chromium()
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


OFTEN = """
document.addEventListener("readystatechange", () => {
  document.getElementById("live")?.setAttribute("data-every", "0.2");
}, { once: true });
"""
"""Pages that are watched renew themselves sooner than they would: a test waits for it."""


class Surfer:
    """Somebody with a browser, and what it had to complain of.

    Args:
        often: whether pages that are watched renew themselves sooner than they would.
    """

    def __init__(
        self, browser: Browser, console: RunningConsole, *, often: bool = True, **options: Any
    ) -> None:
        self._context = browser.new_context(base_url=console.base, **options)
        if often:
            self._context.add_init_script(OFTEN)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self._note(said.type, said.text))
        self.page.on("pageerror", lambda error: self._note("error", str(error)))
        self.page.on("dialog", lambda dialog: (self._note("error", dialog.message), dialog.dismiss()))
        self.page.set_default_timeout(20_000)

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def __enter__(self) -> Surfer:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def sign_in(self, role: Role) -> None:
        self.page.goto("/sign-in")
        self.page.get_by_label("Name").fill(NAMES[role])
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/")

    def faults(self, *rules: str) -> list[str]:
        """Return what keeps somebody from using this page, and whether it is too wide.

        Args:
            rules: of axe's, those to look for; all where none is named.
        """
        options: dict[str, Any] = {"resultTypes": ["violations"], "elementRef": False}
        if rules:
            options["runOnly"] = list(rules)
        if not self.page.evaluate("'axe' in window"):  # to read it takes as long as to run it
            self.page.evaluate(AXE_SCRIPT)
        violations = self.page.evaluate("options => axe.run(options).then(all => all.violations)", options)
        found = [f"{each['id']}: {[node['html'] for node in each['nodes']][:3]}" for each in violations]
        width = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return [*found, *([f"{width} pixels too wide"] if width > 0 else [])]

    def look(self, scheme: str, width: int) -> None:
        """See pages in a scheme and at a width."""
        self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        self.page.set_viewport_size({"width": width, "height": 800})
