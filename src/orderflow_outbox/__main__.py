"""`python -m orderflow_outbox ddl sqlite|postgresql`: print the statements that make the tables."""

from __future__ import annotations

import argparse

from .ddl import DATABASES, ddl


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m orderflow_outbox")
    commands = parser.add_subparsers(required=True, metavar="ddl")
    command = commands.add_parser("ddl", help="print the statements that make the outbox tables")
    command.add_argument("database", choices=DATABASES)
    for statement in ddl(parser.parse_args().database):
        print(f"{statement};")  # noqa: T201 (its whole purpose)


if __name__ == "__main__":
    main()
