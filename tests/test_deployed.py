"""The stack of docker-compose.yml: what the file promises, and that it runs, delivers and stops."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import nursery
from tests.consoles import Person, text_of
from tests.containers import Service
from tests.deployment import DOCKERFILE, FILE, Stack, copied, read, stack
from tests.documents import order
from tests.flowers import Visitor
from tests.rig import PROJECT, eventually
from worker.database import CONNECTIONS

SERVICES = read()["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
LASTING = [name for name, service in SERVICES.items() if service["restart"] != "no"]


# What stands in the files


def test_the_file_is_valid(tmp_path: Path) -> None:
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    docker = ["docker", "compose", "-f", str(FILE)]
    if shutil.which("docker") and subprocess.run([*docker, "version"], capture_output=True).returncode == 0:
        subprocess.run([*docker, "config", "--quiet"], check=True, timeout=60)


def test_it_has_the_services_it_is_known_for() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate", "worker", "beat", "flower", "web", "simulator"}
    assert set(OURS) == set(SERVICES) - {"postgres", "redis"}
    assert set(LASTING) == set(SERVICES) - {"migrate"}


def test_only_flower_and_the_console_can_be_reached_from_outside_and_only_from_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"flower": ["127.0.0.1:5555:5555"], "web": ["127.0.0.1:8880:8880"]}
    assert not [name for name, service in SERVICES.items() if "network_mode" in service]


@pytest.mark.parametrize("name", LASTING)
def test_a_service_that_goes_on_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"].keys() >= {"test", "interval", "timeout", "retries", "start_period"}


@pytest.mark.parametrize("name", OURS)
def test_ours_may_do_nothing_that_they_need_not(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "user" not in service
    assert "privileged" not in service


def test_the_image_runs_as_a_user_without_rights() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users == ["10001:10001"]
    assert all(f"uid={users[0].split(':')[0]}" in SERVICES[name]["tmpfs"][1] for name in OURS)


def test_every_image_is_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert bases
    assert all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base) for base in bases)
    assert "--require-hashes" in DOCKERFILE.read_text()
    others = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    assert all(re.fullmatch(r"[a-z/]+:\d+-alpine", image) for image in others)


def test_what_the_dockerfile_copies_is_there_and_is_let_in() -> None:
    hidden, *let_in = (PROJECT / ".dockerignore").read_text().split()
    assert hidden == "*"
    for source in copied():
        assert (PROJECT / source).exists(), source
        assert f"!{source}" in let_in, source


def test_every_password_comes_from_a_file_that_git_does_not_keep() -> None:
    declared = {name: secret["file"] for name, secret in read()["secrets"].items()}
    asked_for = {name for service in SERVICES.values() for name in service.get("secrets", ())}
    assert asked_for == declared.keys()
    for file in declared.values():
        ignored = subprocess.run(
            ["git", "check-ignore", "--quiet", "--no-index", file], cwd=PROJECT, timeout=10
        )
        assert ignored.returncode == 0, file
    for service in SERVICES.values():
        named = re.findall(r"/run/secrets/(\w+)", json.dumps(service))
        assert set(named) <= set(service.get("secrets", ())), "a service gets what it names"
        for key, value in service.get("environment", {}).items():
            assert ("PASSWORD" in key) == ("/run/secrets/" in value), key


def test_redis_gets_its_password_where_no_list_of_processes_shows_it() -> None:
    command, _, standard_input = SERVICES["redis"]["command"][-1].partition("<<")
    assert "requirepass" not in command
    assert "requirepass" in standard_input


@pytest.mark.parametrize("name", ["worker", "beat", "flower", "web"])
def test_nothing_starts_before_the_tables_are_there(name: str) -> None:
    assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


# What runs


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("deployed")) as made:
        yield made


def get(url: str, login: str = "") -> Any:
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return json.load(answer)


def ask(command: Service, *arguments: str, stdin: str = "") -> Any:
    """Run a command of ours with what the worker's container is told; return what it prints as JSON."""
    done = nursery.run("worker", *arguments, "--json", env=command.environment, input=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_starts_in_the_order_and_on_the_conditions_named(running: Stack) -> None:
    assert "the tables are of version" in running.services["migrate"].log.read_text()
    assert [service.name for service in running.running() if service.has_ended()] == []


def test_an_order_is_delivered_by_the_worker_and_seen_in_flower(running: Stack) -> None:
    worker, here = running.services["worker"], running.here
    enqueue = ("enqueue", "order-import", "-", "--channel", "web", "--key", "order:SO-1")
    assert ask(worker, *enqueue, stdin=order("SO-1"))["id"] == 1
    ledger = f"http://127.0.0.1:{here.port('8808')}/_simulator/ledger"
    (accepted,) = eventually(lambda: get(ledger)["accepted"], what="the order is accepted")
    assert accepted["externalReference"] == "SO-1"
    tasks = f"http://127.0.0.1:{here.port('5555')}/api/tasks"
    login = f"admin:{running.secrets['flower_password']}"
    row = eventually(lambda: get(tasks, login).get("message-1"), what="Flower has a row for it")
    assert row["name"] == "order-import"
    page = Visitor(f"http://127.0.0.1:{here.port('5555')}", login).get("/dead-letters")
    assert "No open dead letter" in page.text
    eventually(lambda: ask(worker, "show", "1")["state"] == "delivered", what="message 1 is delivered")


def test_the_console_takes_the_password_of_its_secret(running: Stack) -> None:
    with Person(f"http://127.0.0.1:{running.here.port('8880')}") as admin:
        assert admin.sign_in("admin", running.secrets["web_password"]).status_code == 303
        assert "main open" in text_of(admin.get("/"))


def test_worker_and_beat_hold_no_more_connections_than_the_manual_says(running: Stack) -> None:
    worker = running.services["worker"]
    children = next(
        int(word.partition("=")[2]) for word in worker.description["command"] if "concurrency" in word
    )
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orderflow-outbox'"

    def connections() -> int:
        return int(running.ask_postgres(count)[0][0])

    eventually(connections, what="the engines are connected")
    of_beat = 1
    assert max(connections() for _ in range(50)) <= children * CONNECTIONS + of_beat


def test_the_settings_of_postgres_hold_and_give_no_warning(running: Stack) -> None:
    assert ask(running.services["worker"], "config", "check")["warnings"] == []
    for word in SERVICES["postgres"]["command"][1:]:
        name, _, value = word.removeprefix("--").partition("=")
        ((shown,),) = running.ask_postgres(f"SHOW {name}")
        assert {"pglz": "on"}.get(shown, shown) == value, name


def test_no_password_is_in_a_command_line_a_process_s_environment_or_a_log(running: Stack) -> None:
    seen = [service.log.read_bytes() for service in running.services.values()]
    for process in (each for service in running.running() for each in service.processes()):
        with suppress(ProcessLookupError, FileNotFoundError):  # such as a health check that has ended
            seen += [Path(f"/proc/{process}/{what}").read_bytes() for what in ("cmdline", "environ")]
    assert len(seen) > 20
    secrets = [value for name, value in running.secrets.items() if name != "orderflow_main_password"]
    assert all(len(secret) == 48 for secret in secrets)
    assert not [secret for secret in secrets for each in seen if secret.encode() in each]


def test_redis_lets_nobody_in_without_the_password(running: Stack) -> None:
    done = running.services["redis"].run(
        ["valkey-cli", "-p", str(running.here.port("6379"))], stdin="PING\nCONFIG GET maxmemory-policy\n"
    )
    assert done.stdout.count("NOAUTH") == 2


def test_a_health_check_fails_while_its_service_is_frozen(running: Stack) -> None:
    frozen = [running.services[name] for name in ("postgres", "redis", "flower", "web", "simulator")]
    for service in frozen:
        service.signal_all(signal.SIGSTOP)
    try:
        asked = [*frozen, running.services["worker"]]  # whose database is frozen
        assert running.unhealthy(asked) == asked
    finally:
        for service in frozen:
            service.signal_all(signal.SIGCONT)
    running.wait_until_healthy()


def test_beats_health_check_fails_when_its_schedule_is_no_longer_written(running: Stack) -> None:
    beat = running.services["beat"]
    files = list((beat.cwd / "var").glob("beat-schedule*"))
    assert files
    kept = [(file, file.stat()) for file in files]
    for file in files:
        assert beat.run(["touch", "-d", "6 minutes ago", str(file)]).returncode == 0
    assert not beat.is_healthy()
    for file, stat in kept:
        assert beat.run(["touch", "-d", f"@{stat.st_mtime}", str(file)]).returncode == 0
    assert beat.is_healthy()


def test_term_stops_each_service_in_its_time_and_nothing_is_left(running: Stack) -> None:
    by_name = running.services
    first = [by_name[name] for name in ("worker", "beat", "flower", "web", "simulator")]
    with ThreadPoolExecutor(len(first)) as pool:
        ended = dict(zip((each.name for each in first), pool.map(Service.stop, first), strict=True))
    ended |= {each.name: each.stop() for each in (by_name["redis"], by_name["postgres"])}
    assert ended == dict.fromkeys(ended, 0)
    assert running.left_over() == []
