"""`python -m worker.quarantine`: the process that an engine starts and watches; not for people."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import sys
from contextlib import suppress
from functools import partial

from config import ConfigError, Configuration, load
from worker.database import DatabaseTrouble, connect, trouble_in_one_line
from worker.store.transactions import Store
from worker.transport import Transport
from worker.watchdog import end_in, let_live

from .delivering import OneByOne
from .telling import LEFT, TAKEN, Told, line_of

SHARE_OF_A_LEASE = 0.95
"""So long a message may be in hand: a process that hangs ends while the message is still its own."""

log = logging.getLogger(__name__)


def main() -> int:
    """Deliver what is in quarantine; return the exit status."""
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s quarantine: %(message)s")
    try:
        configuration = load()
    except ConfigError as error:
        sys.stderr.write("\n".join([*error.problems, ""]))
        return 1
    try:
        with trouble_in_one_line():
            asyncio.run(_deliver(configuration))
    except DatabaseTrouble as error:
        log.error("%s", error)
        return 1
    return 0


async def _deliver(configuration: Configuration) -> None:
    store = Store(connect(configuration.settings.database_address()))
    lease = configuration.settings.engine.lease.total_seconds()
    one_by_one = OneByOne(store, configuration, Transport(), partial(_tell, SHARE_OF_A_LEASE * lease))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, one_by_one.stop)
    await one_by_one.run()


def _tell(longest: float, told: Told) -> None:
    if told.what == TAKEN:
        end_in(longest)
    elif told.what == LEFT:
        let_live()
    with suppress(BrokenPipeError):  # whoever watched has died, and the kernel has this process stop
        sys.stdout.write(line_of(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
