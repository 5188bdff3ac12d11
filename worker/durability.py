"""Whether the database keeps what it has confirmed: without that no committed message is safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from config import Settings

from .database import connect, trouble
from .store.durability import give_up_connecting_after, settings_in_force
from .store.transactions import Store

CONNECT_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Risk:
    """A server setting that must not be off: what is lost by it, and how to switch it on."""

    breaks: str
    fix: str


RISKS = {
    "fsync": Risk(
        "a power cut or a crash of its machine loses confirmed messages and may ruin the whole database",
        "set fsync = on in postgresql.conf and reload",
    ),
    "full_page_writes": Risk(
        "a page half written at a power cut stays torn, and the messages on it are lost",
        "set full_page_writes = on in postgresql.conf and reload",
    ),
    "synchronous_commit": Risk(
        "a crash of the server loses the orders and messages confirmed in the moment before it",
        "set synchronous_commit = on where it was changed: "
        "postgresql.conf, ALTER DATABASE, ALTER ROLE, or the options of the address",
    ),
}


def durability_warnings(settings: Settings) -> list[str]:
    """Return a line for each setting of the configured database that breaks the promise of no loss.

    SQLite needs no look: each connection is told to be durable when it is made. A database that does
    not answer within `CONNECT_SECONDS` gives one line that says so.

    Raises:
        ConfigError: the database's address cannot be used.
    """
    if settings.database_is_sqlite:
        return []
    engine = connect(settings.database_address())
    give_up_connecting_after(engine, CONNECT_SECONDS)
    try:
        with Store(engine).reading() as transaction:
            found = settings_in_force(transaction, RISKS)
    except Exception as error:  # whatever keeps us from looking, that is what there is to say
        told = trouble(error) if isinstance(error, DBAPIError) else str(error)
        return [f"whether the database keeps what it confirms could not be looked at: {told}"]
    finally:
        engine.dispose()
    return [
        f"the database has {name} = off: {risk.breaks}: {risk.fix}" for name, risk in risks_of(found).items()
    ]


def risks_of(found: Mapping[str, str]) -> dict[str, Risk]:
    """Return the risks that are taken, by the name of the setting that is off.

    Args:
        found: the settings in force, those of `RISKS` among them.
    """
    return {name: risk for name, risk in RISKS.items() if found.get(name) == "off"}
