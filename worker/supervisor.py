"""Several child processes run as one service: started in order, kept running, stopped in reverse order."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from .processes import how_it_ended, kill_group, start_process

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A part that ran this long counts as healthy again: its next pause is the first one."""
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the service.

    Attributes:
        name: what it is called in messages, and its log file.
        argv: the program and its arguments; no shell is involved.
        env: variables set on top of the supervisor's own environment.
        stop_seconds: how long it may take to end after SIGTERM before its process group is killed.
    """

    name: str
    argv: list[str]
    env: Mapping[str, str] | None = None
    stop_seconds: float = 10.0


class Supervisor:
    """Runs parts as one service, with `run` until a signal or as a context manager until its block ends.

    Each part leads a process group of its own, which is killed with it: what a part starts ends with the part
    unless it leaves that group. On Linux a part is also told to end (SIGTERM) when the supervisor is killed.

    Args:
        parts: started in this order, stopped in reverse.
        say: is told in one line of every part that stopped by itself or had to be killed; called from
            the supervisor's own thread.
        log_dir: the folder for each part's output, `<name>.log`; None leaves the output on the supervisor's.
    """

    def __init__(self, parts: Sequence[Part], say: Callable[[str], None], log_dir: Path | None) -> None:
        self._children = [_Child(part, say, log_dir) for part in parts]
        self._stopping = False
        # Appended to and polled: one signal handler may interrupt another, which no lock and no sum survives.
        self._signals: list[int] = []
        self._begun = threading.Event()
        self._failure: BaseException | None = None
        # One thread starts every part, each time: the kernel ties a part's life to the thread that made it.
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the parts in order and return; from then on they are kept running.

        Raises:
            OSError: a part's program cannot be run; the parts before it have been stopped again.
        """
        if self._keeper.ident is None:
            self._keeper.start()
        self._begun.wait()
        self._raise_failure()

    def run(self) -> int:
        """Run the parts until SIGINT or SIGTERM, then stop them; a second signal kills them at once.

        Must be called from the main thread, which receives the signals.

        Returns:
            The exit code of the service, 0.

        Raises:
            OSError: a part's program cannot be run at the start.
        """
        with self._signals_handled():
            self.start()
            # In short waits: a signal that comes just before a wait is handled only after it.
            while self._keeper.is_alive():
                self._keeper.join(LOOK_SECONDS)
        self._raise_failure()
        return 0

    def stop(self) -> None:
        """Stop the parts in reverse order and return when all are gone; harmless when they already are."""
        self._stopping = True
        if self._keeper.ident is not None:
            self._keeper.join()
        self._raise_failure()

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def _keep(self) -> None:
        try:
            with ExitStack() as started:
                for child in self._children:
                    started.callback(child.stop, lambda: len(self._signals) > 1)
                    child.start()
                self._begun.set()
                self._tend()
        except BaseException as error:
            self._failure = error
        finally:
            self._begun.set()

    def _tend(self) -> None:
        while not self._stopping and not self._signals:
            for child in self._children:
                child.tend()
            time.sleep(LOOK_SECONDS)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        former = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signals.append(number)


class _Child:
    """A part and, while it runs, its process."""

    def __init__(self, part: Part, say: Callable[[str], None], log_dir: Path | None) -> None:
        self._part = part
        self._say = say
        self._log_dir = log_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0
        self._pause = 0.0

    def start(self) -> None:
        self._started_at = time.monotonic()
        with self._log() as output:
            self._process = start_process(self._part.argv, output, self._part.env)

    def _log(self) -> AbstractContextManager[IO[bytes] | None]:
        if self._log_dir is None:
            return nullcontext()
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return (self._log_dir / f"{self._part.name}.log").open("ab")

    def tend(self) -> None:
        """Start the part again when it has stopped by itself and its pause is over."""
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._start_again()
        elif self._process.poll() is not None:
            kill_group(self._process)
            ended = how_it_ended(self._process.returncode)
            self._process = None
            self._pause_after(ended)

    def stop(self, is_hurrying: Callable[[], bool]) -> None:
        """Ask the part to end, kill its group when its time is up or there is a hurry, and reap it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        deadline = time.monotonic() + self._part.stop_seconds
        while process.poll() is None and time.monotonic() < deadline and not is_hurrying():
            time.sleep(LOOK_SECONDS)
        had_to_be_killed = process.poll() is None
        kill_group(process)
        if had_to_be_killed:
            self._say(f"{self._part.name} did not stop when asked and was killed")

    def _start_again(self) -> None:
        try:
            self.start()
        except OSError as error:
            self._pause_after(f"cannot be run: {error}")

    def _pause_after(self, what: str) -> None:
        now = time.monotonic()
        self._pause = next_pause(self._pause, now - self._started_at)
        self._start_at = now + self._pause
        self._say(f"{self._part.name} {what}; starting it again in {self._pause:g} s")


def next_pause(last_pause: float, ran: float) -> float:
    """Return how many seconds a part that stopped by itself waits to be started again.

    Args:
        last_pause: its pause before, in seconds; 0 when it never stopped before.
        ran: how long it ran since, in seconds.
    """
    if last_pause == 0 or ran >= STEADY_SECONDS:
        return FIRST_PAUSE_SECONDS
    return min(2 * last_pause, LONGEST_PAUSE_SECONDS)
