"""Who gets into the console, how, and for how long."""

from __future__ import annotations

import io
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

import config
from config import Role
from orderflow_outbox.tables import session
from tests.consoles import CHEAP, HASH, PASSWORD, USERS, RunningConsole, console, text_of
from tests.databases import on_sqlite
from tests.rig import PROJECT, Place, Rig, eventually, free_port, rig
from tests.shell import Shell
from worker.web import passwords
from worker.web.passwords import Busy, Checks
from worker.web.sign_in import WRONG
from worker.web.tries import MOST_BY_ADDRESS, MOST_BY_NAME, SPAN_SECONDS, Tries
from worker.web.users import PASSWORD_FILE, users_of


def web(more: str = "") -> str:
    return f"port = {free_port()}\nusers = [{USERS}]\n{more}"


@pytest.fixture
def made(place: Place) -> Iterator[Rig]:
    with rig(place, web=web()) as made:
        yield made


def set_session(engine: Engine, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(session).values(**values))


def test_a_session_begins_lasts_and_ends(made: Rig) -> None:
    with console(made) as running, running.stranger() as anna:
        assert anna.get("/").headers["location"] == "/sign-in"
        assert anna.get("/dead").headers["location"] == "/sign-in?next=/dead"
        reply = anna.sign_in("anna", next="/dead")
        assert (reply.status_code, reply.headers["location"]) == (303, "/dead")
        token = anna.client.cookies["outbox"]
        with made.engine.connect() as connection:
            (row,) = connection.execute(select(session)).mappings()
        assert token.encode() not in bytes(row["digest"]) + bytes(row["proof"]), "it is the browser's alone"
        assert "anna administrator" in text_of(anna.get("/"))

        with running.stranger() as thief:
            thief.client.cookies["outbox"] = token
            assert thief.get("/").status_code == 200
            assert anna.post("/sign-out").status_code == 303
            assert thief.get("/").status_code == 303, "who copied the token is out too"


@on_sqlite
def test_who_signs_in_anew_ends_the_session_before(made: Rig) -> None:
    with console(made) as running, running.person(Role.READER) as rita, running.stranger() as thief:
        thief.client.cookies["outbox"] = rita.client.cookies["outbox"]
        assert thief.get("/").status_code == 200
        assert rita.sign_in("otto").status_code == 303
        assert "otto operator" in text_of(rita.get("/"))
        assert thief.get("/").status_code == 303
        assert rows_of_sessions(made) == 1


@pytest.mark.parametrize("column", ["seen_at", "begun_at"])
def test_a_session_ends_by_itself(made: Rig, column: str) -> None:
    limits = {"seen_at": timedelta(minutes=30), "begun_at": timedelta(hours=12)}
    second = timedelta(seconds=10)
    with console(made) as running, running.person(Role.READER) as rita:
        with made.engine.connect() as connection:
            begun = connection.execute(select(session.c.begun_at)).scalar_one()
        set_session(made.engine, **{column: begun - limits[column] + second})
        assert rita.get("/", **{"X-Live": "yes"}).status_code == 200
        with made.engine.connect() as connection:
            seen = connection.execute(select(session.c.seen_at)).scalar_one()
        assert (seen == begun - limits[column] + second) == (column == "seen_at"), (
            "a page that watches is no use"
        )
        set_session(made.engine, **{column: begun - limits[column]})
        assert rita.get("/").status_code == 303
        assert rita.get("/", **{"X-Live": "yes"}).status_code == 401


def test_use_keeps_a_session(made: Rig) -> None:
    with console(made) as running, running.person(Role.READER) as rita:
        with made.engine.connect() as connection:
            begun = connection.execute(select(session.c.begun_at)).scalar_one()
        set_session(made.engine, seen_at=begun - timedelta(minutes=29))
        assert rita.get("/").status_code == 200
        with made.engine.connect() as connection:
            assert connection.execute(select(session.c.seen_at)).scalar_one() >= begun


@on_sqlite
def test_another_hash_or_a_user_taken_out_ends_the_sessions(made: Rig) -> None:
    with console(made) as running, running.person(Role.OPERATOR) as otto, running.person(Role.READER) as rita:
        cookies = {person: dict(person.client.cookies) for person in (otto, rita)}
    text = made.file.read_text()
    other = CHEAP.hash(PASSWORD)
    made.file.write_text(text.replace("otto", "another").replace(HASH, other, 1))  # rita is the first
    with console(made) as running:
        for person, cookie in cookies.items():
            with running.stranger() as again:
                again.client.cookies.update(cookie)
                assert again.get("/").status_code == 303, person
    made.file.write_text(text)
    with console(made) as running, running.stranger() as again:
        again.client.cookies.update(cookies[otto])
        assert again.get("/").status_code == 200, "a start of the console alone ends none"


@on_sqlite
def test_wrong_passwords_are_answered_alike_and_not_for_ever(made: Rig) -> None:
    with console(made) as running, running.stranger() as guest:
        known, unknown = guest.sign_in("anna", "wrong"), guest.sign_in("nobody", "wrong")
        assert known.status_code == unknown.status_code == 403
        assert WRONG in known.text
        assert known.text == unknown.text
        for _ in range(MOST_BY_NAME - 1):
            assert guest.sign_in("anna", "wrong" * 300).status_code == 403
        refused = guest.sign_in("anna")
        assert refused.status_code == 429, "the right password helps nobody then"
        assert 0 < int(refused.headers["retry-after"]) <= SPAN_SECONDS
        assert guest.sign_in("otto").status_code == 303, "others are not concerned"


def test_tries_are_counted_by_name_and_by_address_until_a_span_is_over() -> None:
    tries = Tries()
    for _ in range(MOST_BY_NAME):
        assert tries.begin("anna", "192.0.2.1", 10.0) == 0
    assert tries.begin("anna", "192.0.2.2", 20.0) == SPAN_SECONDS - 10
    assert tries.begin("anna", "192.0.2.2", 10 + SPAN_SECONDS) == 0
    tries = Tries()
    for n in range(MOST_BY_ADDRESS):
        assert tries.begin(f"user-{n}", f"2001:db8::{n:x}", 10.0) == 0
    assert tries.begin("another", "2001:db8::ffff", 10.0) > 0, "a network of one customer is one address"
    assert tries.begin("another", "2001:db8:1::1", 10.0) == 0


def test_who_gets_in_is_not_kept_out_by_earlier_mistakes() -> None:
    tries = Tries()
    for _ in range(3 * MOST_BY_ADDRESS):
        assert tries.begin("anna", "192.0.2.1", 10.0) == 0
        tries.succeeded("anna", "192.0.2.1", 10.0)


def test_passwords_are_checked_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "PATIENCE_SECONDS", 0.01)
    checks = Checks()
    assert checks.fits(PASSWORD, HASH)
    for _ in range(passwords.AT_ONCE):
        checks._turns.acquire()
    with pytest.raises(Busy):
        checks.fits(PASSWORD, HASH)


@on_sqlite
def test_nobody_is_led_elsewhere_by_signing_in(made: Rig) -> None:
    with console(made) as running, running.stranger() as anna:
        for onward in ("//evil.test", "https://evil.test", "/\\evil.test", "/x?y=z\n", "//x?y=z", "/\nx", ""):
            assert anna.sign_in("anna", next=onward).headers["location"] == "/", onward


@on_sqlite
def test_without_users_there_is_one_administrator_whose_password_is_made_once(place: Place) -> None:
    with rig(place) as made:
        made.file.write_text(made.file.read_text().replace("state_dir", "# "))
        settings = config.load(made.file).settings
        first = users_of(settings)
        file = settings.state_dir / PASSWORD_FILE
        password = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert password in first.told
        again = users_of(settings)
        assert password not in again.told, "it is told the first time alone"
        assert again.accounts == first.accounts
        with console(made) as running, running.stranger() as admin:
            assert admin.sign_in("admin", password).status_code == 303
            assert "admin administrator" in text_of(admin.get("/"))


@on_sqlite
def test_the_password_of_that_administrator_can_be_given(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_WEB_PASSWORD", PASSWORD)
    with rig(place) as made, console(made) as running, running.stranger() as admin:
        assert admin.sign_in("admin").status_code == 303
        assert not (place.folder / "state" / PASSWORD_FILE).exists()


# Proxies that say who it is

TRUSTED = 'trusted_header = "X-Forwarded-User"\ntrusted_proxies = ["127.0.0.1"]\n'


@on_sqlite
def test_a_trusted_proxy_says_who_it_is_and_the_configuration_as_what(place: Place) -> None:
    with (
        rig(place, web=web(f'{TRUSTED}default_role = "reader"')) as made,
        console(made) as running,
        running.stranger() as person,
    ):
        assert "otto operator" in text_of(person.get("/", **{"X-Forwarded-User": "otto"}))
        token = person.client.cookies["outbox"]
        assert "guest@shop.test reader" in text_of(person.get("/", **{"X-Forwarded-User": "guest@shop.test"}))
        assert person.client.cookies["outbox"] == token
        assert person.get("/", **{"X-Forwarded-User": "<b>"}).status_code == 403
        two = [("X-Forwarded-User", "otto"), ("X-Forwarded-User", "anna")]
        assert person.client.get("/", headers=two).status_code == 403, "it may be that one is the browser's"
        assert person.get("/").status_code == 303, "the cookie alone says nothing"
        assert rows_of_sessions(made) == 0
        assert "Sign out" not in person.get("/", **{"X-Forwarded-User": "otto"}).text
        page = person.get("/destinations", **{"X-Forwarded-User": "otto"}).text
        person.token = page.partition('name="token" value="')[2][:64]
        out = person.post("/sign-out", **{"X-Forwarded-User": "otto"})
        assert (out.status_code, "sign out there" in text_of(out)) == (409, True)


@on_sqlite
def test_where_a_proxy_alone_says_who_it_is_there_is_no_administrator(place: Place) -> None:
    with rig(place, web=f'{TRUSTED}default_role = "reader"') as made:
        users = users_of(config.load(made.file).settings)
        assert (users.accounts, users.told, users.in_words) == ((), "", "whom the proxy names")
        assert not (place.folder / "state" / PASSWORD_FILE).exists()
    with rig(place, web=web(TRUSTED)) as made:
        assert users_of(config.load(made.file).settings).in_words == "rita, otto, anna"


@on_sqlite
def test_whom_nobody_knows_a_proxy_cannot_name_without_a_default_role(place: Place) -> None:
    with rig(place, web=web(TRUSTED)) as made, console(made) as running, running.stranger() as person:
        assert person.get("/", **{"X-Forwarded-User": "rita"}).status_code == 200
        assert person.get("/", **{"X-Forwarded-User": "guest"}).status_code == 403
        assert person.sign_in("anna").status_code == 303, "with a password she gets in all the same"


@on_sqlite
def test_the_header_from_elsewhere_is_refused(place: Place) -> None:
    elsewhere = TRUSTED.replace("127.0.0.1", "10.0.0.0/8")
    with rig(place, web=web(elsewhere)) as made, console(made) as running:
        with running.stranger() as person:
            assert person.get("/", **{"X-Forwarded-User": "anna"}).status_code == 403
        with running.person(Role.READER) as rita:
            assert rita.get("/", **{"X-Forwarded-User": "anna"}).status_code == 403


@on_sqlite
def test_tries_are_counted_by_the_address_that_a_trusted_proxy_hands_on(place: Place) -> None:
    with rig(place, web=web(TRUSTED)) as made, console(made) as running, running.stranger() as guest:
        for n in range(MOST_BY_ADDRESS):
            fields = {"name": f"user-{n}", "password": "", "next": "/"}
            reply = guest.post(
                "/sign-in", fields, **{"X-Forwarded-For": f"198.51.100.{n}, 192.0.2.1, 127.0.0.1"}
            )
            assert reply.status_code == 403
        fields = {"name": "another", "password": "", "next": "/"}
        assert guest.post("/sign-in", fields, **{"X-Forwarded-For": "192.0.2.1"}).status_code == 429
        assert guest.post("/sign-in", fields, **{"X-Forwarded-For": "192.0.2.2"}).status_code == 403


def rows_of_sessions(made: Rig) -> int:
    with made.engine.connect() as connection:
        return len(connection.execute(select(session)).all())


# The commands


def test_a_hash_is_made_of_what_is_typed_and_fits_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(capsys)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    done = shell.good("web", "hash-password")
    assert config.is_password_hash(done.out.strip())
    assert Checks().fits(PASSWORD, done.out.strip())
    assert PASSWORD not in done.out + done.err
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    short = shell.any("web", "hash-password")
    assert (short.status, short.out) == (2, "")
    assert "12 to 1024 characters" in short.err


@on_sqlite
def test_the_command_serves_until_it_is_told_to_stop_and_logs_no_queries(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with rig(place, web=web()) as made, (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "web"], cwd=PROJECT, env=made.environment, stdout=log, stderr=log
        )
        try:
            base = f"http://127.0.0.1:{config.load(made.file).settings.web.port}"
            running = RunningConsole(base, True)
            eventually(lambda: f"Console: {base}" in (tmp_path / "log").read_text())
            with running.stranger() as person:
                eventually(lambda: answers(person), what="a console that answers")
                assert person.sign_in("anna").status_code == 303
                person.get("/dead?q=a-customers-name")
                monkeypatch.setenv("OUTBOX_CONFIG", str(made.file))
                monkeypatch.delenv("OUTBOX_DATABASE_URL")
                second = Shell(capsys).any("web")
                assert (second.status, second.out, second.err.count("\n")) == (1, "", 1)
                assert "give web.port another number" in second.err
                process.terminate()
                assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
        said = (tmp_path / "log").read_text()
        assert "127.0.0.1 anna GET /dead 404 " in said or "127.0.0.1 anna GET /dead 200 " in said
        assert PASSWORD not in said
        assert "a-customers-name" not in said


def answers(person: Any) -> bool:
    try:
        return bool(person.get("/health").text == "OK\n")
    except OSError:
        return False
    except Exception as error:  # httpx's own, of a socket nobody listens at yet
        return not type(error).__module__.startswith("httpx")
