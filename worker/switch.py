"""A condition that is logged when it changes, not each time it is met."""

from __future__ import annotations

import logging


class LoggedSwitch:
    """On or off, with one log line for each change.

    Args:
        log: where to.
        when_on: the line when it is on again.
        when_off: the line when it is off; the kind of error is added.
    """

    def __init__(self, log: logging.Logger, when_on: str, when_off: str) -> None:
        self._log = log
        self._when_on = when_on
        self._when_off = when_off
        self.is_on = True

    def on(self) -> None:
        if not self.is_on:
            self.is_on = True
            self._log.warning(self._when_on)

    def off(self, error: BaseException) -> None:
        if self.is_on:
            self.is_on = False
            cause = error.__cause__ or error
            said = "".join(each if each.isprintable() else " " for each in str(cause))
            self._log.error("%s: %s: %s", self._when_off, type(cause).__name__, " ".join(said.split()))
