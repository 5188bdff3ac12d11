"""``python -m simulator``: a stand-in for OrderFlow, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from simulator.faults import KINDS, Fault
from simulator.options import Options, checked_instance
from simulator.server import Server

DEFAULT_PORT = 8808
EXIT_NO_PORT = 1
EXIT_BAD_OPTION = 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_OPTION, f"simulator: {' '.join(message.split())}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m simulator",
        description="A stand-in for OrderFlow that can be slow, wrong or down on demand.",
        epilog="While it runs: GET /_simulator/ledger and /_simulator/summary, "
        "POST /_simulator/faults (a JSON list of fault texts) and /_simulator/reset.",
        allow_abbrev=False,
    )
    _add_address(parser)
    _add_access(parser)
    _add_behaviour(parser)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=DEFAULT_PORT, help="0 takes any free port (default: %(default)s)")
    add(
        "--instance",
        type=_instance,
        default="web",
        help="first part of every path, may be empty or hold several segments (default: %(default)s)",
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--user", default="shop", help="user that is let in (default: %(default)s)")
    add("--password-env", metavar="NAME", help="environment variable with the password (default: 'demo')")
    add("--channel", action="append", default=[], help="known channel, repeatable (default: any)")
    add("--organisation", action="append", default=[], help="known organisation, repeatable (default: any)")


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--fault",
        metavar="SPEC",
        type=_fault,
        action="append",
        default=[],
        help="what goes wrong, repeatable: KIND[:PROBABILITY][:KEY=VALUE,...] with a kind of "
        f"{', '.join(KINDS)} and keys operation, reference, times, delay (slow), status (500); "
        "for example slow:0.05:delay=2",
    )
    add(
        "--work",
        metavar="SECONDS",
        type=float,
        default=0.0,
        help="how long a request takes (default: %(default)s)",
    )
    add(
        "--capacity",
        metavar="N",
        type=int,
        help="more than so many at once take longer, by the square of how many times as many (default: any)",
    )
    add("--seed", type=int, default=0, help="makes the faults repeatable (default: %(default)s)")
    add(
        "--missing-product",
        metavar="SKU",
        action="append",
        default=[],
        help="product whose orders fail until it has been imported, repeatable",
    )
    add("--ledger", metavar="FILE", type=Path, help="append what is received and accepted, as JSON Lines")


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to 65535")
    return int(text)


def _instance(text: str) -> str:
    try:
        return checked_instance(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _password(parser: argparse.ArgumentParser, name: str | None) -> str:
    if name is None:
        return "demo"
    if not os.environ.get(name):
        parser.error(f"argument --password-env: the environment variable {name!r} is not set")
    return os.environ[name]


def _options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> Options:
    given = parser.parse_args(arguments)
    try:
        return _options_of(parser, given)
    except ValueError as error:
        parser.error(str(error))


def _options_of(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Options:
    return Options(
        host=given.host,
        port=given.port,
        instance=given.instance,
        user=given.user,
        password=_password(parser, given.password_env),
        channels=given.channel,
        organisations=given.organisation,
        faults=given.fault,
        seed=given.seed,
        work=given.work,
        capacity=given.capacity,
        missing_products=given.missing_product,
        ledger_file=given.ledger,
    )


async def _serve(server: Server) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = await server.start()
    sys.stdout.write(f"OrderFlow simulator ready on {url}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code says how it went."""
    parser = _parser()
    options = _options(parser, arguments)
    try:
        server = Server(options)
    except OSError as error:
        parser.error(f"argument --ledger: cannot write {str(options.ledger_file)!r}: {error.strerror}")
    try:
        asyncio.run(_serve(server))
    except (OSError, UnicodeError) as error:
        sys.stderr.write(f"simulator: cannot listen on {options.host}:{options.port}: {error}\n")
        return EXIT_NO_PORT
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
