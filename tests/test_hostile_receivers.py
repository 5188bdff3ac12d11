"""Receivers that mean harm, or know no better: how each is judged, and how little it costs the others."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import subprocess
import time
import tracemalloc
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from sqlalchemy import select

from config import load_rules
from orderflow_outbox import PREDEFINED, enqueue
from orderflow_outbox.tables import attempt, message
from tests.databases import on_postgresql
from tests.hostile_receivers import BEHAVIOURS, DOCUMENT, FOLLOWED, TRUSTED, hostile_receivers
from tests.nursery import Program
from tests.rig import Place, Rig, eventually, rig
from worker.deliveries import Failure, Reply, Request
from worker.rules import Judge, leaves_in_doubt
from worker.transport import Transport
from worker.verdicts import Delivered, word_of

SHORT_SECONDS, AMPLE_SECONDS = 1.0, 10.0
"""Deadlines: of those that nothing else ends, and of those that end before, however busy the machine is."""
OVERTIME_SECONDS = 1.0
MOST_BYTES = 20_000_000
MANY_BYTES = b"<imports>" + b" " * 5_000_000 + b"</imports>"
"""More than the buffers on the way take."""
LONGEST_TURN_SECONDS = 0.06
"""What one turn of the loop may take of the processor, of which everybody else waits for the end."""
LATE_SECONDS = 0.02
"""How late a loop comes to each turn that has other things to do: a flood has filled its buffers by then."""
FLOODS = [name for name in BEHAVIOURS if name.startswith("endless") and "body" not in name]
NOISY = ["endless-1xx", "endless-tiny-chunks", "endless-blank-lines", "tls-stalls"]
BULKY = [name for name in BEHAVIOURS if "endless-body" in name or "bomb" in name]
"""Those that are read up to the limit: what is said of memory is said of each by itself."""


@dataclass(frozen=True, slots=True)
class Met:
    """What came of a request, how many seconds past its deadline, and the most memory it took."""

    answer: Reply | Failure
    overtime: float
    grown: int


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def urls(folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of the receivers, whose authority is trusted."""
    with hostile_receivers(folder) as urls, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / TRUSTED))
        yield urls


@pytest.fixture(scope="module")
def met(urls: dict[str, str]) -> dict[str, Met]:
    """Meet every receiver: together those that only wait, each by itself those that send much."""
    waiting = [name for name, each in BEHAVIOURS.items() if each.until_deadline]

    async def meet_all() -> dict[str, Met]:
        async with Transport() as transport:
            await answer_of(transport, urls, "tls")  # what is made once is made now
            found = await measured(transport, urls, waiting)
            for name in BEHAVIOURS.keys() - set(waiting):
                found.update(await measured(transport, urls, [name]))
        return found

    tracemalloc.start()
    try:
        return in_a_loop(meet_all())
    finally:
        tracemalloc.stop()


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` in a loop of the kind that an engine has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def measured(transport: Transport, urls: dict[str, str], names: Sequence[str]) -> dict[str, Met]:
    """Meet these receivers at once; all of the memory that they took is said of each."""
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    answers = await asyncio.gather(*(answer_of(transport, urls, name) for name in names))
    grown = tracemalloc.get_traced_memory()[1] - before
    return {name: Met(*answer, grown) for name, answer in zip(names, answers, strict=True)}


async def answer_of(transport: Transport, urls: dict[str, str], name: str) -> tuple[Reply | Failure, float]:
    """Return a receiver's answer, and how many seconds past the deadline it was there."""
    behaviour = BEHAVIOURS[name]
    deadline = SHORT_SECONDS if behaviour.until_deadline else AMPLE_SECONDS
    body = MANY_BYTES if behaviour.many_bytes else DOCUMENT.encode()
    begun = time.monotonic()
    request = Request("POST", urls[name], {}, {}, body, private_addresses=True)
    answer = await transport.send(request, deadline)
    return answer, time.monotonic() - begun - deadline


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_hostile_receiver_takes_little_time_and_memory_and_is_judged_rightly(
    met: dict[str, Met], name: str
) -> None:
    behaviour, answer = BEHAVIOURS[name], met[name].answer
    assert met[name].overtime < OVERTIME_SECONDS
    assert met[name].grown < MOST_BYTES
    judge, operation = Judge(load_rules(None, PREDEFINED, ["main"])), PREDEFINED["order-import"]
    verdict = judge.judge(answer, "main", operation, False, datetime.now(UTC), DOCUMENT.encode()).verdict
    assert (word_of(verdict), verdict.why.reason) == behaviour.verdict, answer
    assert (leaves_in_doubt(answer, verdict) and not isinstance(verdict, Delivered)) == behaviour.in_doubt


def test_no_redirect_is_followed(met: dict[str, Met], folder: Path) -> None:
    assert isinstance(met["redirects-inwards"].answer, Reply)
    assert not (folder / FOLLOWED).exists()


def test_no_flood_keeps_others_waiting_for_long(urls: dict[str, str]) -> None:
    turns: list[float] = []

    async def watch_turns() -> None:
        """Note what each turn of the loop takes of the processor, however busy the machine is."""
        while True:
            time.sleep(LATE_SECONDS)
            begun = time.thread_time()
            await asyncio.sleep(0)
            turns.append(time.thread_time() - begun)

    async def run() -> dict[str, float]:
        longest = {}
        async with Transport() as transport:
            await answer_of(transport, urls, "tls")  # what is made once is made now
            watching = asyncio.create_task(watch_turns())
            for name in FLOODS:
                turns.clear()
                await answer_of(transport, urls, name)
                longest[name] = max(turns)
            watching.cancel()
        return longest

    gc.freeze()  # what other tests have made takes long to go through
    try:
        longest = in_a_loop(run())
    finally:
        gc.unfreeze()
    assert not {name: seconds for name, seconds in longest.items() if seconds > LONGEST_TURN_SECONDS}


class Beside:
    """An engine in a process of its own, with hostile receivers beside good ones."""

    def __init__(self, made: Rig, number: int) -> None:
        self._made = made
        self._process = psutil.Process(number)
        self._files = Path(f"/proc/{number}")

    def enqueue(self, names: Iterable[str]) -> dict[str, int]:
        """Enqueue a message to each of these destinations; return the numbers of the messages."""
        with self._made.engine.begin() as connection:
            return {
                name: enqueue(connection, "order-import", DOCUMENT, channel="web", destination=name).id
                for name in names
            }

    def attempts(self, numbers: Collection[int]) -> dict[int, Any]:
        """Return the attempt of each of these messages, once it is made."""
        statement = select(attempt).where(attempt.c.message_id.in_(numbers))

        def all_made() -> dict[int, Any]:
            with self._made.engine.connect() as connection:
                rows = {row.message_id: row for row in connection.execute(statement)}
            return rows if len(rows) == len(numbers) else {}

        return eventually(all_made, what="an attempt of each message")

    def p99(self, names: Iterable[str], orders: int) -> float:
        """Return how long orders to the good destination took, while those of `names` have a message each."""
        others = self.enqueue(names)
        numbers = [self._made.order(f"SO-{n}").id for n in range(orders)]
        self.attempts([*numbers, *others.values()])
        statement = select(message).where(message.c.id.in_(numbers))
        with self._made.engine.connect() as connection:
            rows = connection.execute(statement).all()
        assert {row.state for row in rows} == {"delivered"}
        took = sorted((row.finished_at - row.created_at).total_seconds() for row in rows)
        return took[math.ceil(0.99 * len(took)) - 1]

    @contextmanager
    def growing_little(self) -> Iterator[None]:
        """Fail where the engine's process is larger meanwhile than it was, by more than is allowed."""
        before = self._process.memory_info().rss
        (self._files / "clear_refs").write_text("5")  # the peak is counted anew from here
        yield
        status = (self._files / "status").read_text().splitlines()
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        assert peak - before < MOST_BYTES


@contextmanager
def beside(place: Place, addresses: Mapping[str, str], folder: Path) -> Iterator[Beside]:
    """Run an engine with the rig's destination, and one more for each of the addresses."""
    with rig(place, attempt_deadline="2s", lease=4 * AMPLE_SECONDS) as made:
        with (made.folder / "destinations.toml").open("a") as file:
            file.writelines(table(name, url) for name, url in addresses.items())
        made.file.write_text(made.file.read_text().replace("[engine]", '[engine]\npoll = "20ms"'))
        environment = {**made.environment, "SSL_CERT_FILE": str(folder / TRUSTED)}
        process = Program[bytes]("tests.proof.engine", env=environment, stderr=subprocess.DEVNULL)
        try:
            made.orders(10)
            eventually(lambda: made.states() == {"delivered"})
            yield Beside(made, process.pid)
        finally:
            process.kill()
            process.wait()


def table(name: str, url: str) -> str:
    """Return the table of a destination that is tried once, and never left alone for its failures."""
    stalls = name in BEHAVIOURS and BEHAVIOURS[name].until_deadline
    return (
        f'[destinations.{name}]\nurl = "{url}"\nprivate_addresses = true\nuser = "shop"\n'
        'password = { env = "ORDERFLOW_MAIN_PASSWORD" }\n'
        f'attempt_deadline = "{SHORT_SECONDS if stalls else AMPLE_SECONDS}s"\n'
        f"[destinations.{name}.breaker]\nfailures = 1000\nshare = 1.0\n"
        f'[destinations.{name}.retry]\nretry_after = ["1h"]\n'
    )


@on_postgresql
def test_an_engine_judges_each_hostile_receiver_rightly_and_grows_little(
    place: Place, urls: dict[str, str], folder: Path
) -> None:
    with beside(place, urls, folder) as stage:
        numbers = {}
        for names in (BEHAVIOURS.keys() - set(BULKY), *([name] for name in BULKY)):
            with stage.growing_little():
                numbers.update(sent := stage.enqueue(names))
                stage.attempts(sent.values())
        rows = stage.attempts(numbers.values())
    found = {name: rows[number] for name, number in numbers.items()}
    assert {name: ((row.verdict, row.reason), row.in_doubt) for name, row in found.items()} == {
        name: (each.verdict, each.in_doubt) for name, each in BEHAVIOURS.items()
    }


@on_postgresql
@pytest.mark.parametrize(
    ("rounds", "orders", "allowance"),
    [
        pytest.param(3, 10, 3.0, id="with-an-allowance-for-a-busy-machine"),
        pytest.param(15, 100, 0.0, id="strictly", marks=pytest.mark.soak),
    ],
)
def test_the_others_are_served_as_fast_beside_hostile_receivers_as_beside_good_ones(
    place: Place, urls: dict[str, str], folder: Path, rounds: int, orders: int, allowance: float
) -> None:
    # Good ones in the place of nobody: what an engine writes for each destination is no receiver's doing.
    good = {f"good-{n}": urls["tls"] for n in range(len(NOISY))}
    with beside(place, {**good, **{name: urls[name] for name in NOISY}}, folder) as stage:
        found = [(stage.p99(good, orders), stage.p99(NOISY, orders)) for _ in range(rounds)]
    beside_good, beside_hostile = (statistics.median(each) for each in zip(*found, strict=True))
    assert beside_hostile < 1.5 * beside_good + allowance
