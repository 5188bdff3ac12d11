"""`config check` warns of a database that may lose what it has confirmed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from tests.databases import Databases
from tests.postgres import FAST, USER, Postgres
from tests.shell import Shell
from worker.commands import output
from worker.database import connect, trouble
from worker.durability import CONNECT_SECONDS

DURABLE = dict.fromkeys(FAST, "on")
SECRET = "s3cret-Pa55word"


@pytest.fixture
def careless(databases: Databases) -> Postgres:
    """A server with everything off that makes tests quick and messages disappear."""
    return databases.server


@pytest.fixture(scope="module")
def durable() -> Iterator[Postgres]:
    """A server that keeps what it confirms, and asks for a password."""
    with Postgres.running(DURABLE, password=SECRET) as server:
        yield server


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def warnings(shell: Shell) -> list[str]:
    told = shell.good("config", "check", "--json").json
    assert told["ok"] is True
    found: list[str] = told["warnings"]
    return found


def test_each_setting_that_breaks_the_promise_is_a_warning_with_its_fix(
    shell: Shell, careless: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", careless.url("postgres"))
    found = warnings(shell)
    assert len(found) == len(FAST)
    for name, line in zip(("fsync", "full_page_writes", "synchronous_commit"), found, strict=True):
        assert line.startswith(f"the database has {name} = off: ")
        assert f"set {name} = on" in line
    shown = shell.good("config", "check").out
    assert "are in order" in shown
    assert all(f"warning: {line}\n" in shown for line in found)
    assert [span.style for span in output.warning(found[0]).spans] == ["yellow"]


@pytest.mark.parametrize("value", ["on", "local", "remote_write", "remote_apply"])
def test_a_database_that_keeps_what_it_confirms_gives_no_warning(
    shell: Shell, durable: Postgres, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    durable.execute(f"ALTER ROLE {USER} SET synchronous_commit = {value}")
    monkeypatch.setenv("OUTBOX_DATABASE_URL", durable.url("postgres", SECRET))
    assert warnings(shell) == []


def test_what_is_off_for_the_services_own_role_or_database_alone_is_found(
    shell: Shell, durable: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.execute("CREATE DATABASE hasty")
    durable.execute("ALTER DATABASE hasty SET synchronous_commit = off")
    durable.execute(f"ALTER ROLE {USER} RESET synchronous_commit")
    monkeypatch.setenv("OUTBOX_DATABASE_URL", durable.url("postgres", SECRET))
    assert warnings(shell) == []
    monkeypatch.setenv("OUTBOX_DATABASE_URL", durable.url("hasty", SECRET))
    (line,) = warnings(shell)
    assert "synchronous_commit = off" in line


def test_sqlite_is_durable_by_our_own_doing(shell: Shell) -> None:
    assert warnings(shell) == []


def test_a_database_that_is_not_there_is_a_warning_and_no_error(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"postgresql://shop:{SECRET}@127.0.0.1:1/shop")
    (line,) = warnings(shell)
    assert "could not be looked at" in line
    assert "Connection refused" in line
    assert "\n" not in line


def test_a_database_that_does_not_answer_holds_nobody_up(
    shell: Shell, careless: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", careless.url("postgres"))
    careless.freeze()
    begun = time.monotonic()
    try:
        (line,) = warnings(shell)
    finally:
        careless.thaw()
    assert "could not be looked at" in line
    assert time.monotonic() - begun < CONNECT_SECONDS + 1


# The password of the database


def test_a_password_in_a_file_opens_the_database(
    shell: Shell, durable: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("secrets") / "postgres_password"
    file.write_text(f"{SECRET}\n")
    monkeypatch.setenv("OUTBOX_DATABASE_URL", durable.url("postgres"))
    monkeypatch.setenv("OUTBOX_DATABASE_PASSWORD", f'{{"file": "{file}"}}')
    assert warnings(shell) == []
    assert shell.good("db", "upgrade").out.startswith("the tables are of version")
    assert shell.good("health", "--json").json == {"ok": True, "engines": 0}
    file.write_text("another")
    refused = shell.any("health")
    assert (refused.status, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "password authentication failed" in refused.err
    assert "another" not in refused.err
    file.unlink()
    missing = f"database_password is not to be had from file {file}: put it there"
    assert shell.any("health").err == f"{missing}\n"
    assert missing in shell.any("config", "check").err


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
def test_postgresql_with_and_without_its_driver_named_is_the_same(careless: Postgres, driver: str) -> None:
    url = careless.url("postgres").replace("postgresql+psycopg", driver)
    engine = connect(SecretStr(url))
    with engine.connect() as connection:
        assert connection.dialect.driver == "psycopg"
    engine.dispose()


@pytest.mark.parametrize("option", ["prepare_threshold=0", "row_factory=x", "frob=1"])
def test_an_option_of_the_address_that_libpq_does_not_know_is_refused_by_name(
    shell: Shell, careless: Postgres, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    url = careless.url("postgres")
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"{url}{'&' if '?' in url else '?'}{option}")
    for command in (("health",), ("status",), ("db", "upgrade"), ("config", "check")):
        refused = shell.any(*command)
        assert (refused.status, refused.err.count("\n")) == (1, 1)
        assert f"has the option '{option.partition('=')[0]}'" in refused.err


def test_a_server_that_turns_the_login_down_is_told_from_one_that_is_away(
    shell: Shell, durable: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (durable.url("postgres", "wrong"), durable.url("nowhere", SECRET)):
        monkeypatch.setenv("OUTBOX_DATABASE_URL", url)
        for command in (("health",), ("db", "upgrade")):
            refused = shell.any(*command)
            assert (refused.status, refused.err.count("\n")) == (1, 1)
            assert refused.err.startswith("the database refuses the connection: ")
            assert refused.err.endswith("look at database_url and database_password\n")
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"postgresql://shop:{SECRET}@127.0.0.1:1/shop")
    assert shell.any("health").err.startswith("the database does not answer: ")


def test_what_a_database_that_answers_refuses_is_not_told_as_silence() -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as refused:
        connection.execute("SELECT * FROM nowhere")
    connection.close()
    assert trouble(OperationalError("", None, refused.value)) == (
        "the database refused: OperationalError: no such table: nowhere"
    )
    locked = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    assert trouble(OperationalError("", None, locked)).startswith("the database refused: LockNotAvailable: ")
