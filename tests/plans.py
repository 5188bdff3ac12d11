"""What PostgreSQL really does for each statement: its plan, made for the values and for any values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event

_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Planned:
    """One statement as it was run, with its plans.

    Attributes:
        blocks: how many blocks of tables and indexes it touched.
    """

    statement: str
    custom: dict[str, Any]
    generic: dict[str, Any]

    @property
    def blocks(self) -> int:
        return int(self.custom["Shared Hit Blocks"] + self.custom["Shared Read Blocks"])

    def scans(self, plan: dict[str, Any], table: str) -> set[str]:
        """Return how a table is read: the names of indexes, or `everything`."""
        found = set()
        for node in nodes(plan):
            kind, index = node["Node Type"], node.get("Index Name", "")
            if kind == "Seq Scan" and node["Relation Name"] == table:
                found.add("everything")
            elif index.startswith(table):
                found.add(index)
        return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return a plan's nodes, from the top down."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def planned(engine: Engine, act: Callable[[], Any]) -> list[Planned]:
    """Return what PostgreSQL does for each statement that `act` runs; of many alike, for the first."""
    seen: list[Planned] = []

    def explain(
        connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if not statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE", "WITH")):
            return
        driver = connection.connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor:
            cursor.execute("SAVEPOINT explained")
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters[0] if many else parameters
            )
            custom = cursor.fetchone()[0][0]["Plan"]
            cursor.execute("ROLLBACK TO SAVEPOINT explained")
            cursor.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {_numbered(statement)}")
            generic = cursor.fetchone()[0][0]["Plan"]
        seen.append(Planned(statement, custom, generic))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", explain)
    return seen


def _numbered(statement: str) -> str:
    """Return a statement with PostgreSQL's own placeholders."""
    numbers: dict[str, int] = {}
    numbered = _PARAMETER.sub(lambda m: f"${numbers.setdefault(m[1], len(numbers) + 1)}", statement)
    return numbered.replace("%%", "%")
