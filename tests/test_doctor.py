"""`doctor`: what the service needs is looked at, and what is not well is told with what to do."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, text

from config import load, load_settings
from orderflow_outbox.tables import engine_seen
from tests.brokers import LOCALHOST, PASSWORD, RedisServer
from tests.consoles import console
from tests.databases import Databases, on_postgresql, on_sqlite
from tests.postgres import USER
from tests.rig import Place, eventually, free_port, rig
from tests.shell import Shell
from tests.steps import SECOND, claim_all, put, row, set_row
from tests.test_brokers import acl_user, tls_server
from worker.broker import EmbeddedBroker
from worker.commands import output
from worker.database import connect
from worker.doctor import Finding, State, broker, database
from worker.doctor.broker import keeps_hints
from worker.doctor.console import is_the_console
from worker.doctor.database import LARGEST_LAG, DatabaseChecks
from worker.doctor.finding import Check, all_found
from worker.doctor.flower import is_closed_to_strangers
from worker.doctor.machine import has_room
from worker.doctor.reaching import RENEWED_BEFORE, can_be_sent_to
from worker.durability import RISKS
from worker.store import text_index
from worker.store.transactions import Store
from worker.store.watching import note_life

DAY = timedelta(days=1)
SECRET = "s3cret-Pa55word"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(autouse=True)
def _no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_FLOWER__PORT", str(free_port()))
    monkeypatch.setenv("OUTBOX_WEB__PORT", str(free_port()))


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server((LOCALHOST, 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authorities.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    return made


def configure(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Have the one destination be at this address."""
    (folder / "destinations.toml").write_text(
        f'[destinations.main]\nurl = "{url}"\nprivate_addresses = true\nuser = "shop"\n'
        'password = { env = "ORDERFLOW_MAIN_PASSWORD" }\n'
    )
    (folder / "outbox.toml").write_text('destinations_file = "destinations.toml"\n')
    monkeypatch.setenv("OUTBOX_CONFIG", str(folder / "outbox.toml"))


def told(shell: Shell, status: int) -> dict[str, Finding]:
    """Return what the command finds, by the check's name, once it ended so."""
    ran = shell.any("doctor", "--json")
    assert (ran.status, ran.err) == (status, "")
    assert ran.json["ok"] is (status == 0)
    return {each["name"]: Finding(**{**each, "state": State(each["state"])}) for each in ran.json["checks"]}


def looked(engine: Engine, name: str, store: Store | None = None) -> Finding:
    """Return what one check of the database finds."""
    database = DatabaseChecks(load_settings(), store or Store(engine))
    return next(check() for check in database.checks() if check.name == name)


def breathe(store: Store) -> None:
    with store.writing() as transaction:
        note_life(transaction, "engine-1", "machine", transaction.now, {})


def rename(engine: Engine, table: str, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


# The command


@on_sqlite
def test_a_service_in_order_is_well_and_the_status_says_so(
    shell: Shell, store: Store, tmp_path: Path, listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, monkeypatch, f"http://{LOCALHOST}:{listener}/web")
    breathe(store)
    with EmbeddedBroker(load_settings().state_dir):
        found = told(shell, 0)
        shown = shell.good("doctor").out
    assert {name: each.state for name, each in found.items()} == dict.fromkeys(found, State.WELL)
    assert {each.fix for each in found.values()} == {""}
    assert list(found) == [
        "configuration",
        "database",
        "durability",
        "encoding",
        "clock",
        "leases",
        "engines",
        "dead rows",
        "oldest transaction",
        "search",
        "broker",
        "disks",
        "destination main",
        "flower",
        "console",
    ]
    words = " ".join(shown.split())
    assert [
        each.name for each in list(found.values())[1:] if f"{each.name} well {each.told}" not in words
    ] == []


def test_where_nothing_is_there_all_of_it_is_told_and_nothing_is_made(shell: Shell, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = told(shell, 1)
    assert found["database"].state is State.TROUBLE
    assert "db upgrade" in found["database"].told
    assert found["leases"].state is State.UNKNOWN
    assert found["broker"].state is State.TROUBLE
    assert found["destination main"].state is State.TROUBLE
    assert all(each.fix for each in found.values() if each.state is not State.WELL)
    assert sorted(tmp_path.rglob("*")) == before


def test_each_line_that_is_not_well_says_what_to_do(shell: Shell) -> None:
    ran = shell.any("doctor")
    assert ran.status == 1
    found = told(shell, 1)
    assert f"→ {found['broker'].fix}" in ran.out


def test_control_characters_of_what_was_found_do_no_harm(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = Finding("a\x1b[2J", State.TROUBLE, "b\x1b]0;c\x07", "[red]d\r")
    monkeypatch.setattr("worker.commands.doctor.examine", lambda: [evil])
    ran = shell.any("doctor")
    assert ran.status == 1
    assert "a·[2J" in ran.out
    assert "b·]0;c·\n" in "\n".join(line.rstrip() + "\n" for line in ran.out.splitlines())
    assert "→ [red]d·" in ran.out


def test_trouble_is_red_and_all_well_green() -> None:
    assert output.state(State.TROUBLE).style == "bold red"
    assert output.state(State.WELL).style == "green"


# The configuration


@on_sqlite
def test_a_missing_secret_keeps_nothing_else_from_being_looked_at(
    shell: Shell, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORDERFLOW_MAIN_PASSWORD")
    found = told(shell, 1)
    assert found["configuration"].state is State.TROUBLE
    assert "ORDERFLOW_MAIN_PASSWORD: put it there" in found["configuration"].told
    assert found["database"].state is State.WELL
    assert "destination main" in found


@on_sqlite
def test_wrong_destinations_keep_the_database_from_nothing(
    shell: Shell, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, monkeypatch, "ftp://nowhere")
    found = told(shell, 1)
    assert found["configuration"].state is State.TROUBLE
    assert found["database"].state is State.WELL


def test_settings_that_cannot_be_read_are_all_there_is_to_tell(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_CONFIG", str(tmp_path / "nowhere.toml"))
    (only,) = told(shell, 1).values()
    assert (only.name, only.state) == ("configuration", State.TROUBLE)
    assert "nowhere.toml" in only.told


# The database


def test_a_database_that_is_away_is_told_once_and_without_its_password(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"postgresql://shop:{SECRET}@{LOCALHOST}:1/shop")
    found = told(shell, 1)
    assert found["database"].state is State.TROUBLE
    assert "Connection refused" in found["database"].told
    rest = [found[name] for name in ("durability", "encoding", "clock", "leases", "engines")]
    assert {each.state for each in rest} == {State.UNKNOWN}
    assert SECRET not in shell.any("doctor").out


def test_a_database_that_takes_a_connection_and_says_nothing_is_left_in_time(
    listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", f"postgresql://shop@{LOCALHOST}:{listener}/shop")
    begun = time.monotonic()
    first, *rest = all_found([DatabaseChecks(load_settings()).checks()], 10)
    assert first.state is State.TROUBLE
    assert {each.state for each in rest} == {State.UNKNOWN}
    assert time.monotonic() - begun < database.CONNECT_SECONDS + 2


def test_a_database_without_tables_or_with_those_of_another_release_is_told(
    engine: Engine, database_url: str
) -> None:
    assert looked(engine, "database").state is State.WELL
    with engine.begin() as connection:
        connection.execute(text("UPDATE outbox_schema_version SET version_num = '9999'"))
    newer = looked(engine, "database")
    assert newer.state is State.TROUBLE
    assert "install a newer release" in newer.told
    rename(engine, "outbox_schema_version", "elsewhere")
    database = DatabaseChecks(load_settings(), Store(engine))
    found = {each.name: each for each in all_found([database.checks()], 10)}
    rename(engine, "elsewhere", "outbox_schema_version")
    assert found["database"].state is State.TROUBLE
    assert "db upgrade" in found["database"].told
    assert found["clock"].state is State.WELL, "what needs no tables is looked at all the same"


def test_a_table_that_cannot_be_read_is_told_of_the_check_that_needs_it(engine: Engine) -> None:
    rename(engine, "outbox_engine_seen", "elsewhere")
    found = looked(engine, "engines")
    rename(engine, "elsewhere", "outbox_engine_seen")
    assert found.state is State.UNKNOWN
    assert "outbox_engine_seen" in found.told
    assert "\n" not in found.told


@on_postgresql
def test_each_setting_that_breaks_the_promise_is_told_with_its_fix(engine: Engine) -> None:
    found = looked(engine, "durability")
    assert found.state is State.TROUBLE
    for name, risk in RISKS.items():
        assert f"{name} = off" in found.told
        assert risk.fix in found.fix


@on_sqlite
def test_a_sqlite_file_that_is_not_written_ahead_is_told(engine: Engine, tmp_path: Path) -> None:
    assert looked(engine, "durability").state is State.WELL
    careless = create_engine(f"sqlite:///{tmp_path}/another.db")
    found = looked(engine, "durability", Store(careless))
    careless.dispose()
    assert found.state is State.TROUBLE
    assert "journal_mode = delete" in found.told


@pytest.mark.parametrize(
    ("ahead", "state", "words"),
    [
        (timedelta(), State.WELL, "within 2 s"),
        (timedelta(seconds=60), State.TROUBLE, "ahead of"),
        (timedelta(seconds=-60), State.TROUBLE, "behind"),
        (timedelta(seconds=20), State.TROUBLE, "ahead of"),
        (timedelta(seconds=-1), State.WELL, "within 2 s"),
    ],
)
def test_a_clock_that_goes_wrong_is_told(store: Store, ahead: timedelta, state: State, words: str) -> None:
    database = DatabaseChecks(load_settings(), store, lambda: datetime.now(UTC) + ahead)
    found = database.has_our_time("clock")
    assert found.state is state
    assert words in found.told


def test_leases_that_no_sweep_took_back_are_told(store: Store, engine: Engine) -> None:
    for _ in range(2):
        put(engine)
    late, recent = (each.id for each in claim_all(store).claims)
    assert looked(engine, "leases").state is State.WELL
    now = row(engine, late)["lease_until"] - timedelta(seconds=90)
    set_row(engine, recent, lease_until=now - 30 * SECOND)
    assert looked(engine, "leases").state is State.WELL, "an engine sweeps once a minute at least"
    set_row(engine, late, lease_until=now - timedelta(minutes=10))
    found = looked(engine, "leases")
    assert found.state is State.TROUBLE
    assert found.told.startswith("1 ran out, the first 10 min")
    assert "worker sweep" in found.fix


def test_engines_that_are_silent_are_told(store: Store, engine: Engine) -> None:
    assert "none was ever seen" in looked(engine, "engines").told
    breathe(store)
    found = looked(engine, "engines")
    assert (found.state, found.told) == (State.WELL, "1 gave a sign of life within 30 s")
    with engine.begin() as connection:
        connection.execute(engine_seen.update().values(seen_at=datetime.now(UTC) - timedelta(minutes=1)))
    found = looked(engine, "engines")
    assert found.state is State.TROUBLE
    assert "the last was seen 1 min" in found.told


@on_postgresql
def test_dead_rows_that_are_not_cleaned_away_are_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [put(engine) for _ in range(3)]
    assert looked(engine, "dead rows").state is State.WELL
    monkeypatch.setattr(database, "DEAD_ROWS", 1)
    for number in numbers:
        set_row(engine, number, tries=1)
    engine.dispose()  # a session that ends tells what it did
    eventually(lambda: looked(engine, "dead rows").state is State.WARNING)
    assert "autovacuum" in looked(engine, "dead rows").fix


@on_postgresql
def test_a_database_that_cannot_hold_every_character_is_told(engine: Engine, databases: Databases) -> None:
    assert looked(engine, "encoding").state is State.WELL
    databases.server.execute(
        "CREATE DATABASE western ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    western = connect(SecretStr(databases.server.url("western")))
    try:
        found = looked(western, "encoding")
        assert (found.state, found.told.partition(":")[0]) == (State.TROUBLE, "LATIN1")
    finally:
        western.dispose()
        databases.server.execute("DROP DATABASE western")


@on_postgresql
def test_an_old_transaction_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.begin() as forgotten:
        forgotten.execute(text("SELECT 1"))
        assert looked(engine, "oldest transaction").state is State.WELL
        monkeypatch.setattr(database, "LONGEST_TRANSACTION", timedelta())
        assert looked(engine, "oldest transaction").state is State.WARNING
    assert looked(engine, "oldest transaction").told == "none is open"


@on_postgresql
def test_a_role_that_may_not_see_the_others_says_so(
    engine: Engine, databases: Databases, database_url: str
) -> None:
    server = databases.server
    server.execute("CREATE ROLE blinkered LOGIN")
    blinkered = connect(SecretStr(database_url.replace(f"//{USER}@", "//blinkered@")))
    try:
        with engine.begin() as another:
            another.execute(text("SELECT 1"))
            found = looked(blinkered, "oldest transaction")
            server.execute("GRANT pg_read_all_stats TO blinkered")
            assert looked(blinkered, "oldest transaction").state is State.WELL
    finally:
        blinkered.dispose()
        server.execute("DROP ROLE blinkered")
    assert found.state is State.UNKNOWN
    assert "pg_read_all_stats" in found.fix


# The broker


def broker_of(monkeypatch: pytest.MonkeyPatch, url: str, password: str = "") -> Finding:
    """Return what is found of the broker at an address."""
    monkeypatch.setenv("OUTBOX_BROKER_URL", url)
    if password:
        monkeypatch.setenv("BROKER_PASSWORD", password)
        monkeypatch.setenv("OUTBOX_BROKER_PASSWORD", '{"env": "BROKER_PASSWORD"}')
    return keeps_hints("broker", load_settings())


def test_the_embedded_broker_is_well_while_it_runs() -> None:
    settings = load_settings()
    with EmbeddedBroker(settings.state_dir):
        found = keeps_hints("broker", settings)
    assert found.state is State.WELL
    assert "noeviction" in found.told
    assert keeps_hints("broker", settings).state is State.TROUBLE


def test_a_redis_that_may_throw_hints_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer(
        tmp_path, "--requirepass", PASSWORD, "--maxmemory-policy", "allkeys-lru", on_socket=True
    ) as server:
        found = broker_of(monkeypatch, f"redis+socket://{server.socket}", PASSWORD)
    assert found.state is State.WARNING
    assert "allkeys-lru" in found.told
    assert "noeviction" in found.fix


def test_a_user_that_may_not_ask_for_the_policy_is_told_what_to_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path, *acl_user("outbox")) as server:
        found = broker_of(monkeypatch, f"redis://outbox@{LOCALHOST}:{server.port}/0", PASSWORD)
    assert found.state is State.UNKNOWN
    assert "+info" in found.fix


def test_a_password_that_the_broker_refuses_is_told_but_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path, "--requirepass", PASSWORD) as server:
        found = broker_of(monkeypatch, f"redis://:{SECRET}@{LOCALHOST}:{server.port}/0")
    assert found.state is State.TROUBLE
    assert "password" in found.told
    assert SECRET not in f"{found.told}{found.fix}"


def test_a_redis_that_says_nothing_is_left_in_time(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "ANSWER_SECONDS", 0.2)
    begun = time.monotonic()
    assert broker_of(monkeypatch, f"redis://{LOCALHOST}:{listener}/0").state is State.TROUBLE
    assert time.monotonic() - begun < 2


def test_the_brokers_certificate_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with tls_server(tmp_path, authority.issue_cert("localhost")) as port:
        refused = broker_of(monkeypatch, f"rediss://localhost:{port}/0", PASSWORD)
        monkeypatch.setenv("OUTBOX_BROKER_CA_FILE", str(tmp_path / "ca.pem"))
        found = broker_of(monkeypatch, f"rediss://localhost:{port}/0", PASSWORD)
        other = broker_of(monkeypatch, f"rediss://{LOCALHOST}:{port}/0", PASSWORD)
    assert found.state is State.WELL
    assert refused.state is State.TROUBLE
    assert "certificate verify failed" in refused.told
    assert other.state is State.TROUBLE


def test_of_rabbitmq_only_that_it_listens_is_told(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = broker_of(monkeypatch, f"amqp://shop:{SECRET}@{LOCALHOST}:{listener}//")
    assert found.state is State.WELL
    assert "takes connections" in found.told
    nobody = broker_of(monkeypatch, f"amqp://shop:{SECRET}@{LOCALHOST}:{free_port()}//")
    assert nobody.state is State.TROUBLE
    assert SECRET not in f"{found}{nobody}"


# Disks


def test_a_disk_that_is_nearly_full_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_ALERTS__DISK_FREE", "0")
    assert has_room("disks", load_settings()).state is State.WELL
    monkeypatch.setenv("OUTBOX_ALERTS__DISK_FREE", "0.9999")
    found = has_room("disks", load_settings())
    assert found.state is State.TROUBLE
    assert "disk_free" in found.fix


# Destinations


@contextmanager
def over_tls(certificate: trustme.LeafCert) -> Iterator[int]:
    """Yield a port that shows this certificate, once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with socket.create_server((LOCALHOST, 0)) as listening:
        listening.settimeout(20)

        def greet() -> None:
            connection, _ = listening.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass

        thread = threading.Thread(target=greet)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def sent_to(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> Finding:
    configure(folder, monkeypatch, url)
    return can_be_sent_to("main", load().destinations["main"])


@pytest.mark.parametrize(
    ("left", "state"), [(RENEWED_BEFORE + DAY / 2, State.WELL), (RENEWED_BEFORE - DAY / 2, State.WARNING)]
)
def test_a_certificate_that_ends_soon_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: trustme.CA,
    left: timedelta,
    state: State,
) -> None:
    ends = datetime.now(UTC) + left
    with over_tls(authority.issue_cert("localhost", not_after=ends)) as port:
        found = sent_to(tmp_path, monkeypatch, f"https://localhost:{port}/web")
    assert found.state is state
    assert f"for another {left.days} d" in found.told


def test_a_certificate_that_is_not_valid_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    past = datetime.now(UTC) - DAY
    cases = {
        "expired": authority.issue_cert("localhost", not_before=past - DAY, not_after=past),
        "Hostname mismatch": authority.issue_cert("orderflow.example.com"),
        "unable to get local issuer": trustme.CA().issue_cert("localhost"),
    }
    for why, certificate in cases.items():
        with over_tls(certificate) as port:
            found = sent_to(tmp_path, monkeypatch, f"https://localhost:{port}/web")
        assert found.state is State.TROUBLE
        assert why in found.told


def test_a_host_that_is_not_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https"):
        found = sent_to(tmp_path, monkeypatch, f"{scheme}://{LOCALHOST}:{free_port()}/web")
        assert found.state is State.TROUBLE
        assert "is not reached" in found.told


def test_a_host_at_an_inner_address_is_told_and_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, monkeypatch, f"http://{LOCALHOST}/web")
    with socket.create_server((LOCALHOST, 0)) as server:
        url = f"http://localhost:{server.getsockname()[1]}/web"
        allowed = load().destinations["main"].model_copy(update={"url": url})
        found = can_be_sent_to("main", allowed.model_copy(update={"private_addresses": False}))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert can_be_sent_to("main", allowed).state is State.WELL
    assert found.state is State.TROUBLE
    assert "localhost is at" in found.told
    assert "private_addresses = true" in found.fix


def test_a_host_that_does_not_speak_tls_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server({}):
        url = f"https://{LOCALHOST}:{load_settings().flower.port}/web"
        found = sent_to(tmp_path, monkeypatch, url)
    assert found.state is State.TROUBLE
    assert "is reached, but not by TLS" in found.told


# Flower


@contextmanager
def web_server(statuses: dict[str, int], port: int = 0, said: bytes = b"") -> Iterator[None]:
    """Have something on a port, or Flower's, that says this of each page, and answers so, others with 401."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, 401))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with ExitStack() as stack:
        server = stack.enter_context(HTTPServer((LOCALHOST, port or load_settings().flower.port), Handler))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        yield


@pytest.mark.parametrize("page", ["/", "/api/tasks", "/metrics"])
def test_a_flower_that_shows_a_page_to_strangers_is_told(page: str) -> None:
    with web_server({page: 200}):
        found = is_closed_to_strangers("flower", load_settings())
    assert found.state is State.TROUBLE
    assert f"{page} answers a stranger with 200" in found.told


def test_a_flower_that_refuses_strangers_and_none_at_all_are_well() -> None:
    with web_server({"/": 403}):
        found = is_closed_to_strangers("flower", load_settings())
    assert found.state is State.WELL
    nothing = is_closed_to_strangers("flower", load_settings())
    assert (nothing.state, nothing.told.split(" at ")[0]) == (State.WELL, "nothing listens")


def test_what_is_no_web_server_is_not_taken_for_a_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        monkeypatch.setenv("OUTBOX_FLOWER__PORT", str(server.getsockname()[1]))

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example.com ESMTP\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        check = Check("flower", lambda name: is_closed_to_strangers(name, load_settings()))
        found = check()
        thread.join()
    assert found.state is State.UNKNOWN
    assert "does not answer as a web server" in found.told
    assert "flower.port" in found.fix


@on_sqlite
def test_the_console_is_well_while_it_answers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(place) as made:
        settings = load(made.file).settings
        assert is_the_console("console", settings).told.startswith("nothing listens")
        with console(made):
            found = is_the_console("console", settings)
    assert (found.state, found.fix) == (State.WELL, "")
    assert "sends strangers to sign in" in found.told


def test_what_is_no_console_is_told() -> None:
    settings = load_settings()
    with web_server({"/health": 200}, settings.web.port):
        found = is_the_console("console", settings)
    assert found.state is State.TROUBLE
    assert "that is not the console" in found.told


def test_a_console_that_shows_a_page_to_strangers_is_told() -> None:
    settings = load_settings()
    with web_server({"/health": 200, "/": 200}, settings.web.port, said=b"OK\n"):
        found = is_the_console("console", settings)
    assert found.state is State.TROUBLE
    assert "answers a stranger with 200" in found.told


# Checks beside each other


def test_a_check_that_hangs_or_fails_keeps_no_other_from_being_made() -> None:
    released = threading.Event()

    def hang(name: str) -> Finding:
        released.wait(20)
        return Finding(name, State.WELL, "at last")

    def fail(_: str) -> Finding:
        raise ValueError("no such thing")

    def good(name: str) -> Finding:
        return Finding(name, State.WELL, "as it should be")

    groups = [
        [Check("one", hang), Check("after it", good)],
        [Check("two", fail), Check("three", good)],
    ]
    begun = time.monotonic()
    found = all_found(groups, 1.0)
    took = time.monotonic() - begun
    left = [each for each in threading.enumerate() if each.name == "doctor"]
    released.set()
    assert [each.daemon for each in left] == [True], "the process does not wait for what hangs"
    assert took < 5
    assert [each.name for each in found] == ["one", "after it", "two", "three"]
    assert [each.state for each in found] == [State.TROUBLE, State.UNKNOWN, State.UNKNOWN, State.WELL]
    assert "no such thing" in found[2].told
    assert all(each.fix for each in found[:3])


# Search


def test_a_database_without_an_index_of_texts_is_warned_of_with_the_fix(engine: Engine) -> None:
    assert looked(engine, "search").told == "everything is found"
    what, end = ("INDEX", "") if engine.dialect.name == "postgresql" else ("TRIGGER", "_added")
    with engine.begin() as connection:
        connection.execute(text(f"DROP {what} {text_index.NAME}{end}"))
    found = looked(engine, "search")
    assert found.state is State.WARNING
    assert "python -m worker db upgrade" in found.fix


@on_sqlite
def test_what_waits_long_to_be_found_is_warned_of(engine: Engine) -> None:
    number = put(engine)
    found = looked(engine, "search")
    assert found.state is State.WELL
    assert found.told.startswith("1 messages and 0 texts are not found yet, the first of ")
    set_row(engine, number, created_at=datetime.now(UTC) - LARGEST_LAG)
    assert looked(engine, "search").state is State.WARNING
