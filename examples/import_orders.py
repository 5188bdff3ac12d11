"""Drain a file of orders into the outbox: all of them, or on a bad row none.

python examples/import_orders.py orders.csv

The file begins with a line of names: number,sku,quantity
"""

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import create_engine

from orderflow_outbox import IdempotencyConflict, InvalidMessage, NewMessage, Order, enqueue_many, imports
from orderflow_outbox.sqlite import prepare

COLUMNS = ("number", "sku", "quantity")


def document(row: dict[str, str]) -> bytes:
    """Return the order as OrderFlow imports it."""
    lines = [{"product": {"externalReference": row["sku"]}, "quantity": row["quantity"]}]
    return imports([Order(row["number"], {"state": "created", "orderLine": lines})])


def fault(row: dict[str, str]) -> str:
    """Return what is wrong with a row, or nothing."""
    if None in row or None in row.values():
        return f"has not {len(COLUMNS)} fields: {', '.join(COLUMNS)}"
    for name in COLUMNS:
        if not row[name].strip() or not row[name].isprintable():
            return f"{name} is {row[name]!r}: give printable text"
    if not (row["quantity"].isdecimal() and int(row["quantity"]) > 0):
        return f"quantity is {row['quantity']!r}: give a whole number above 0"
    return ""


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with its line number."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            sys.exit(f"line 1: the names are {reader.fieldnames}: give {','.join(COLUMNS)}")
        for row in reader:
            yield reader.line_num, row


def main(path: Path) -> None:
    """Store one message for each order, in one transaction."""
    orders = list(rows(path))
    faults = [f"line {line}: {reason}" for line, row in orders if (reason := fault(row))]
    if faults:
        sys.exit("\n".join([*faults, "nothing was stored"]))
    messages = [
        NewMessage(
            "order-import",
            document(order),
            channel="web",
            key=f"order:{order['number']}",
            idempotency_key=f"order-import:{order['number']}",
        )
        for _, order in orders
    ]
    engine = create_engine(os.environ.get("SHOP_DATABASE_URL", "sqlite:///var/outbox.db"))
    if engine.dialect.name == "sqlite":
        prepare(engine)
    try:
        with engine.begin() as connection:
            stored = enqueue_many(connection, messages)
    except InvalidMessage as error:
        sys.exit(f"line {orders[error.place or 0][0]}: {error}\nnothing was stored")
    except IdempotencyConflict as error:
        sys.exit(f"{error}\nnothing was stored")
    new = sum(message.created for message in stored)
    print(f"{new} orders stored, {len(stored) - new} were there already")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
