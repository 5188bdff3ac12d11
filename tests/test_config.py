"""Configuration: the shipped files are complete and true, and what is wrong in one is told."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import make_url

from config import (
    BreakerPolicy,
    ConfigError,
    Configuration,
    Destination,
    PersonalDataSettings,
    RetentionSettings,
    RetryPolicy,
    Settings,
    WebSettings,
    in_words,
    load,
    load_settings,
)
from config.alerts import AlertSettings
from config.destinations import DEFAULT_RETRY_AFTER
from config.loading import DEFAULT_FILE
from config.settings import EngineSettings, FlowerSettings, SearchSettings
from config.values import duration

SHIPPED = DEFAULT_FILE.parent
OUTBOX = SHIPPED / "outbox.toml"
DESTINATIONS = SHIPPED / "destinations.toml"
SECRET = "s3cret-Pa55word"

MAIN = """
[destinations.main]
url = "https://orderflow.example.com/web"
user = "shop"
password = { env = "ORDERFLOW_MAIN_PASSWORD" }
"""


@pytest.fixture(autouse=True)
def _as_if_nobody_had_set_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OUTBOX_DATABASE_URL", "OUTBOX_STATE_DIR"):
        monkeypatch.delenv(name)


def written(folder: Path, destinations: str = MAIN, outbox: str = "") -> Configuration:
    """Load a configuration of these two files."""
    (folder / "destinations.toml").write_text(destinations, encoding="utf-8")
    (folder / "outbox.toml").write_text(outbox, encoding="utf-8")
    return load(folder / "outbox.toml")


def refusal(folder: Path, destinations: str = MAIN, outbox: str = "") -> str:
    """Return what is said of these two files, which must be refused."""
    with pytest.raises(ConfigError) as caught:
        written(folder, destinations, outbox)
    assert caught.value.problems
    return str(caught.value)


# The shipped files


def test_the_shipped_files_load() -> None:
    configuration = load()
    assert list(configuration.destinations) == ["main"]
    assert (configuration.file, configuration.destinations_file) == (OUTBOX, DESTINATIONS)


def test_the_shipped_settings_are_the_defaults_of_the_code() -> None:
    assert load_settings() == Settings()


def test_the_shipped_destination_is_the_default_of_the_code(tmp_path: Path) -> None:
    shipped = load().destinations["main"]
    bare = written(tmp_path).destinations["main"]
    for name in Destination.model_fields.keys() - {
        "url",
        "private_addresses",
        "user",
        "password",
        "operations",
    }:
        assert getattr(shipped, name) == getattr(bare, name), name
    policy = RetryPolicy.model_validate({"retry_after": DEFAULT_RETRY_AFTER})
    assert shipped.retry == bare.retry == policy


TABLES = [
    (
        OUTBOX,
        "",
        Settings,
        {"engine", "alerts", "search", "flower", "web", "retention", "personal_data", "schemas"},
    ),
    (OUTBOX, "engine", EngineSettings, set()),
    (OUTBOX, "alerts", AlertSettings, set()),
    (OUTBOX, "search", SearchSettings, set()),
    (OUTBOX, "flower", FlowerSettings, set()),
    (OUTBOX, "web", WebSettings, set()),
    (OUTBOX, "retention", RetentionSettings, set()),
    (OUTBOX, "personal_data", PersonalDataSettings, set()),
    (DESTINATIONS, "destinations.main", Destination, {"breaker", "retry", "operations"}),
    (DESTINATIONS, "destinations.main.breaker", BreakerPolicy, set()),
    (DESTINATIONS, "destinations.main.retry", RetryPolicy, set()),
]


def table(file: Path, name: str) -> list[str]:
    """Return the lines of one table of a shipped file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("[")]
    start = lines.index(f"[{name}]") + 1 if name else 0
    return lines[start : next((head for head in heads if head >= start), None)]


@pytest.mark.parametrize(
    ("file", "name", "key"),
    [
        pytest.param(file, name, key, id=f"{name}.{key}")
        for file, name, model, tables in TABLES
        for key in sorted(model.model_fields.keys() - tables)
    ],
)
def test_every_key_stands_in_the_shipped_files_below_a_sentence_about_it(
    file: Path, name: str, key: str
) -> None:
    lines = table(file, name)
    place = next(n for n, line in enumerate(lines) if re.match(rf"(# )?{key} = ", line))
    while place and lines[place - 1].strip() and not lines[place - 1].startswith("#"):
        place -= 1  # keys that stand together share their sentence
    comment = lines[place - 1]
    assert comment.startswith("# ")
    assert comment.endswith((".", ":"))


@pytest.mark.parametrize(
    "name", ["engine", "alerts", "search", "flower", "web", "retention", "personal_data", "schemas"]
)
def test_every_table_of_the_settings_stands_in_the_shipped_file(name: str) -> None:
    assert name in tomllib.loads(OUTBOX.read_text(encoding="utf-8"))


def test_what_stands_commented_out_in_the_shipped_files_works_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_MAIL", "mailto://desk@shop.test")
    text = DESTINATIONS.read_text(encoding="utf-8")
    ruled = re.sub(r"(?m)^retry_after = .*\n", "", text, count=1).replace("# exponential =", "exponential =")
    ruled = re.sub(r"(?m)^pauses = .*\n", "", ruled).replace("# rate =", "rate =")
    pauses = re.search(r"(?ms)^# pauses = \[.*?^# \]", text)
    assert pauses is not None
    ruled = ruled.replace(pauses[0], pauses[0].replace("# ", ""))
    hooks = re.search(r"(?ms)^# hooks = \[.*?^# \]", OUTBOX.read_text(encoding="utf-8"))
    assert hooks is not None
    alerts = "[alerts]\n" + hooks[0].replace("# ", "")
    configuration = written(tmp_path, ruled, alerts)
    main = configuration.destinations["main"]
    assert (main.retry.tries, main.rate and main.rate.per_second, len(main.pauses)) == (9, 10, 2)
    assert [hook.kind for hook in configuration.settings.alerts.hooks] == [
        "apprise",
        "webhook",
        "command",
        "python",
    ]


# The numbers of the manual

NUMBERS = ["no tries", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def test_the_numbers_told_of_the_shipped_schedule_are_what_is_computed() -> None:
    configuration = load()
    policy = configuration.destinations["main"].retry
    told = " ".join(line.removeprefix("# ") for line in table(DESTINATIONS, "destinations.main.retry"))
    grouping = in_words(configuration.settings.alerts.grouping)
    assert f"{NUMBERS[len(policy.waits)]} waits make {NUMBERS[policy.tries]} tries" in told
    assert f"last try is made {in_words(policy.last_try_after)} after the first" in told
    assert f"a person is called {grouping.removesuffix(' s')} s later" in told
    assert f"after {policy.max_age.days} days and {grouping} at the latest" in told
    assert (in_words(policy.last_try_after), policy.tries) == ("27 h 36 min", 9)


def test_the_number_told_of_probes_a_day_is_what_is_computed() -> None:
    policy = load().destinations["main"].breaker
    probes, passed = 0, policy.probe_after(0)
    while passed < timedelta(days=1):
        probes += 1
        passed += policy.probe_after(probes)
    told = " ".join(line.removeprefix("# ") for line in table(DESTINATIONS, "destinations.main.breaker"))
    assert f"a day's outage sees {probes} probes" in told
    assert probes <= 40


def test_the_numbers_told_of_a_cancellation_are_what_is_computed() -> None:
    policy = load().destinations["main"].retry_policy("order-cancel")
    minutes = timedelta(minutes=policy.last_try_after // timedelta(minutes=1))
    told = f"{NUMBERS[policy.tries]} tries within {in_words(minutes)}"
    assert told == "five tries within 36 min"
    assert told in DESTINATIONS.read_text(encoding="utf-8")


# Wrong files


def with_main(**lines: str) -> str:
    """Return a destinations file whose table `main` has these lines instead of, or beside, its own."""
    kept = [line for line in MAIN.strip().splitlines() if line.partition(" ")[0] not in lines]
    return "\n".join([*kept, *(f"{key} = {value}" for key, value in lines.items()), ""])


def with_retry(text: str) -> str:
    return f"{MAIN}\n[destinations.main.retry]\n{text}\n"


@pytest.mark.parametrize(
    ("destinations", "key", "found", "allowed"),
    [
        (with_main(windw="8"), "destinations.main.windw", "nobody knows", "window"),
        (with_main(rate="5"), "destinations.main.rate", "5", "requests = 600"),
        (
            with_main(rate='{ requests = 0, per = "1s" }'),
            "destinations.main.rate.requests",
            "0",
            "equal to 1",
        ),
        (
            with_main(rate='{ requests = 100, per = "1s", burst = 3 }'),
            "destinations.main.rate",
            "burst = 3",
            "give 25 or more",
        ),
        (
            with_main(pauses='[{ begin = "02:00", end = "03:00", zone = "London" }]'),
            "destinations.main.pauses.0.zone",
            "London",
            "Europe/London",
        ),
        (
            with_main(
                pauses='[{ begin = "00:00", end = "12:00", zone = "UTC" },'
                ' { begin = "12:00", end = "00:00", zone = "UTC" }]'
            ),
            "destinations.main.pauses",
            "00:00",
            "hold it",
        ),
        (
            with_main(
                pauses='[{ begin = "02:00", end = "03:00", zone = "UTC", operations = ["order-imprt"] }]'
            ),
            "destinations.main.pauses.0.operations",
            "order-imprt",
            "order-import",
        ),
        (with_main(window="0"), "destinations.main.window", "0", "greater than or equal to 1"),
        (with_main(window="257"), "destinations.main.window", "257", "less than or equal to 256"),
        (with_main(window='"many"'), "destinations.main.window", "'many'", "integer"),
        (with_main(attempt_deadline='"30"'), "destinations.main.attempt_deadline", "'30'", '"30s"'),
        (with_main(attempt_deadline="30"), "destinations.main.attempt_deadline", "30", '"30s"'),
        (with_main(attempt_deadline='"0s"'), "destinations.main.attempt_deadline", "'0s'", "longer than 0"),
        (with_main(attempt_deadline='"9999d"'), "destinations.main.attempt_deadline", "9999d", "3650d"),
        (with_main(attempt_deadline='"45s"'), "destinations.main.attempt_deadline", "45s", "at most 30s"),
        (with_main(url='"orderflow.example.com"'), "destinations.main.url", "'orderflow", "https://"),
        (with_main(url='"ftp://orderflow.example.com"'), "destinations.main.url", "ftp:", "https://"),
        (with_main(url='"https:///web"'), "destinations.main.url", "https:///web", "https://orderflow"),
        (with_main(url='"https://h/web?a=b"'), "destinations.main.url", "a=b", "leave query"),
        (with_main(url='"https://h:port/web"'), "destinations.main.url", "h:port", "port"),
        (
            with_main(url='"http://orderflow.example.com/web"'),
            "destinations.main.url",
            "http://",
            "use https",
        ),
        (with_main(user='""'), "destinations.main.user", "''", "at least 1"),
        (with_main(user='"a:b"'), "destinations.main.user", "'a:b'", "without a colon"),
        (with_main(user='"z\u00f6e"'), "destinations.main.user", "'z\u00f6e'", "ASCII"),
        (with_main(authentication='"digest"'), "destinations.main.authentication", "'digest'", "'basic'"),
        (with_main(password="{}"), "destinations.main.password", "hidden", "name one place"),
        (
            with_main(password='{ env = "A", file = "/b" }'),
            "destinations.main.password",
            "hidden",
            "name one place",
        ),
        (with_retry('retry_after = ["5 s"]'), "destinations.main.retry.retry_after.0", "'5 s'", '"30s"'),
        (
            with_retry("jitter = 0.1"),
            "destinations.main.retry",
            "jitter",
            "either retry_after or exponential",
        ),
        (
            with_retry('retry_after = []\nexponential = { first = "1s", factor = 2, max = "1m", tries = 3 }'),
            "destinations.main.retry",
            "exponential",
            "either retry_after or exponential",
        ),
        (with_retry("retry_after = []\njitter = 0.6"), "destinations.main.retry.jitter", "0.6", "0.5"),
        (
            with_retry('exponential = { first = "1s", factor = 0.5, max = "1m", tries = 3 }'),
            "exponential.factor",
            "0.5",
            "greater than or equal to 1",
        ),
        (
            with_retry('exponential = { first = "1s", factor = 2, max = "1m" }'),
            "exponential.tries",
            "missing",
            "first, factor, max, tries",
        ),
        (
            MAIN + "[destinations.main.operations.order-export]",
            "main.operations",
            "order-export",
            "order-cancel",
        ),
        (MAIN.replace(".main]", ".Main]"), "destinations", "'Main'", "lower-case"),
        (MAIN.replace(".main]", '."a b"]'), "destinations", "'a b'", "lower-case"),
        ("", "destinations", "missing", "destinations"),
        ("[destinations]", "destinations", "nothing", "at least 1"),
        (MAIN.replace("user = ", "usr = "), "destinations.main.user", "missing", "user"),
        (MAIN + "window = = 8", "line 6", "not TOML", "mend that line"),
    ],
)
def test_a_wrong_destinations_file_is_refused_naming_key_finding_and_fix(
    tmp_path: Path, destinations: str, key: str, found: str, allowed: str
) -> None:
    said = refusal(tmp_path, destinations)
    assert str(tmp_path / "destinations.toml") in said
    for part in (key, found, allowed):
        assert part in said


@pytest.mark.parametrize(
    ("outbox", "key", "found", "allowed"),
    [
        ("databse_url = 'sqlite://'", "databse_url", "nobody knows", "database_url"),
        ("[engine]\nlese = '90s'", "engine.lese", "nobody knows", "lease, poll, sweep, drain"),
        ("[engine]\nlease = 'long'", "engine.lease", "'long'", '"30s"'),
        ("[engine]\npoll = '2s'", "engine.poll", "2 s", "less than or equal to 1 second"),
        ("[engine]\n\nlease = 90s", "line 3", "not TOML", "mend that line"),
        ("database_url = 'mysql://h/d'", "database_url", "hidden", "sqlite:///path"),
        ("[flower]\nport = 0", "flower.port", "0", "greater than or equal to 1"),
        ("[flower]\nuser = 'a:b'", "flower.user", "'a:b'", "match pattern"),
        ("[alerts]\nhooks = [{}]", "alerts.hooks.0", "hidden", "give one of webhook"),
        ("[alerts]\nhooks = [{ python = 'a.b' }]", "alerts.hooks.0.python", "hidden", "should match"),
        ("[alerts]\nhooks = [{ apprise = 'x' }]", "alerts.hooks.0", "hidden", "an address of Apprise"),
        ("[alerts]\nhooks = [{ apprise = 7 }]", "alerts.hooks.0.apprise", "hidden", "write an address"),
        (
            "[alerts]\nhooks = [{ webhook = {env = 'a', file = 'b'} }]",
            "hooks.0.webhook",
            "hidden",
            "name one",
        ),
        (
            "[alerts]\nhooks = [{ python = 'a:b', severities = ['bad'] }]",
            "severities.0",
            "'bad'",
            "'critical'",
        ),
        ("[alerts]\nhooks = [{ python = 'a:b', severities = [] }]", "hooks.0.severities", "[]", "at least 1"),
        ("[alerts]\nhooks = [{ python = 'a:b', destinations = ['x'] }]", "0.destinations", "'x'", "of main"),
        ("[alerts]\ndisk_free = 1.0", "alerts.disk_free", "1.0", "less than 1"),
        ("[alerts]\nhooks = [{ command = [] }]", "alerts.hooks.0.command", "hidden", "at least 1"),
        ("[alerts]\nhooks = [{ command = [''] }]", "hooks.0.command", "hidden", "name a program first"),
        ("[alerts]\nhooks = [{ command = ['a', \"\\u0000\"] }]", "hooks.0.command", "hidden", "write no NUL"),
        ("[alerts]\ntimeout = '61m'", "alerts.timeout", "1 h 1 min", "less than or equal to 1 hour"),
        ("[alerts]\nsilence = '999ms'", "alerts.silence", "0.999 s", "greater than or equal to 1 second"),
        ("destinations_file = 'gone.toml'", "gone.toml", "No such file", "name one that is"),
    ],
)
def test_a_wrong_settings_file_is_refused_naming_key_finding_and_fix(
    tmp_path: Path, outbox: str, key: str, found: str, allowed: str
) -> None:
    said = refusal(tmp_path, outbox=outbox)
    assert str(tmp_path) in said
    for part in (key, found, allowed):
        assert part in said


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"outbox\.toml: the file is not readable"):
        load(tmp_path / "outbox.toml")


def test_a_file_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "outbox.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        load(tmp_path / "outbox.toml")


def test_all_that_is_wrong_in_a_file_is_told_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, with_main(window="0", windw="8"))
    assert "main.window is 0" in said
    assert "main.windw" in said


# Plain http


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8808", "127.9.9.9", "[::1]:80"])
def test_plain_http_to_a_loopback_address_is_accepted(tmp_path: Path, host: str) -> None:
    main = with_main(url=f'"http://{host}/web"', private_addresses="true")
    configuration = written(tmp_path, main)
    assert configuration.destinations["main"].base_url == f"http://{host}/web"


@pytest.mark.parametrize(
    "host", ["localhost.example.com", "10.0.0.1", "0.0.0.0", "127.0.0.1.example.com", "[::]", "[fe80::1]"]
)
def test_plain_http_to_any_other_is_refused_until_it_is_accepted_in_writing(
    tmp_path: Path, host: str
) -> None:
    keys = {"url": f'"http://{host}/web"', "private_addresses": "true"}
    assert "allow_plain_http = true" in refusal(tmp_path, with_main(**keys))
    written(tmp_path, with_main(**keys, allow_plain_http="true"))


# Secrets


@pytest.mark.parametrize(
    ("destinations", "outbox"),
    [
        (with_main(password=f'"{SECRET}"'), ""),
        (with_main(password=f'["{SECRET}"]'), ""),
        (with_main(password=f'{{ value = "{SECRET}" }}'), ""),
        (with_main(password=f'{{ env = "A", file = "{SECRET}" }}'), ""),
        (with_main(url=f'"https://shop:{SECRET}@h/web"'), ""),
        (MAIN.replace("https://", f"https://shop:{SECRET}@"), ""),
        (f'[destinations.main]\npassword = "{SECRET}"', ""),
        (f'[destinations.main.retry]\npassword = "{SECRET}"', ""),
        (MAIN, f"[alerts]\nhooks = ['https://h/{SECRET}']"),
        (MAIN, f"[flower]\npassword = '{SECRET}'"),
        (MAIN, f"database_url = 'mysql://shop:{SECRET}@h/d'"),
        (MAIN, f"[alerts]\nhooks = [{{ webhook = 'http://hooks.example.com/{SECRET}' }}]"),
        (MAIN, f"[alerts]\nhooks = [{{ webhook = 'https://h/{SECRET}', command = ['a'] }}]"),
        (MAIN, f"[alerts]\nhooks = [{{ apprise = '{SECRET}' }}]"),
        (MAIN, f"[alerts]\nhooks = [{{ apprise = {{ password = '{SECRET}' }} }}]"),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_shown(
    tmp_path: Path, destinations: str, outbox: str
) -> None:
    assert SECRET not in refusal(tmp_path, destinations, outbox)


def test_a_password_written_into_the_file_is_answered_with_where_to_keep_it(tmp_path: Path) -> None:
    said = refusal(tmp_path, with_main(password=f'"{SECRET}"'))
    assert "destinations.main.password is (hidden)" in said
    assert 'write { env = "NAME" }' in said


def test_a_password_that_is_not_set_is_refused_naming_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORDERFLOW_MAIN_PASSWORD")
    said = refusal(tmp_path)
    assert "destinations.main.password" in said
    assert "environment variable ORDERFLOW_MAIN_PASSWORD" in said
    assert load(tmp_path / "outbox.toml", need_secrets=False).destinations


@pytest.mark.parametrize(
    ("hooks", "told"),
    [
        ('[{"command": []}]', "alerts.hooks.0.command is (hidden)"),
        ('[{"python": "a:b", "destinations": ["x"]}]', "alerts.hooks.0.destinations names 'x'"),
        ('[{"webhook": {"env": "NOWHERE"}}]', "alerts.hooks.0 is not to be had from"),
        ('[{"webhook":', "not JSON: write JSON there"),
    ],
)
def test_a_wrong_hook_in_the_environment_is_refused_naming_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: str, told: str
) -> None:
    monkeypatch.setenv("OUTBOX_ALERTS__HOOKS", hooks)
    assert refusal(tmp_path).startswith(f"environment variable OUTBOX_ALERTS__HOOKS: {told}")


def test_a_webhook_in_plain_http_is_refused_without_a_setting_that_it_has_not(tmp_path: Path) -> None:
    said = refusal(tmp_path, outbox="[alerts]\nhooks = [{ webhook = 'http://hooks.example.com/' }]")
    assert said.endswith("use https; plain http is for loopback")


def test_a_hook_whose_address_is_not_where_it_is_kept_is_refused_naming_the_place(tmp_path: Path) -> None:
    said = refusal(tmp_path, outbox='[alerts]\nhooks = [{ apprise = { env = "ALERT_MAIL" } }]')
    assert "alerts.hooks.0 is not to be had from environment variable ALERT_MAIL: put it there" in said


@pytest.mark.parametrize("content", ["", " \n", "a\0b", None])
def test_a_password_file_that_is_empty_or_gone_or_holds_a_nul_is_refused(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    assert f"file {file}" in refusal(tmp_path, with_main(password=f'{{ file = "{file}" }}'))


def test_a_password_is_read_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    destination = written(tmp_path, with_main(password=f'{{ file = "{file}" }}')).destinations["main"]
    assert destination.secret().get_secret_value() == SECRET


def test_secrets_are_in_no_representation_and_no_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", SECRET)
    monkeypatch.setenv("OUTBOX_FLOWER_PASSWORD", SECRET)
    configuration = written(
        tmp_path,
        outbox=f"database_url = 'postgresql+psycopg://shop:{SECRET}@h/d'\n"
        f"broker_url = 'redis://:{SECRET}@h/0'\n"
        f"[alerts]\nhooks = [{{ webhook = 'https://h/{SECRET}' }}, {{ apprise = 'mailto://a:{SECRET}@h' }}]",
    )
    settings, main = configuration.settings, configuration.destinations["main"]
    shown = [repr(configuration), str(configuration), repr(settings), str(settings), repr(main), str(main)]
    shown += [str(settings.dump_for_people()), settings.model_dump_json(), main.model_dump_json()]
    shown += [str(main.secret()), repr(main.secret()), str(settings.flower.password.read())]
    assert not [text for text in shown if SECRET in text]


# The database's password


PLACE = "database_password = { file = '/run/secrets/postgres' }\n"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///var/outbox.db", "database_url is SQLite, which asks for no password"),
        (f"postgresql://shop:{SECRET}@h/d", "database_url holds a password already"),
        (f"postgresql://shop@h/d?password={SECRET}", "database_url holds a password already"),
        ("postgresql://h/d", "database_url names no user for it: write postgresql://user@host/database"),
    ],
)
def test_a_password_that_the_database_s_address_has_no_place_for_is_refused(
    tmp_path: Path, url: str, told: str
) -> None:
    said = refusal(tmp_path, outbox=f"database_url = '{url}'\n{PLACE}")
    assert "outbox.toml: database_password is (hidden): " in said
    assert told in said
    assert SECRET not in said


@pytest.mark.parametrize("kind", ["postgresql", "postgresql+psycopg"])
@pytest.mark.parametrize(
    "host", ["h/d", "h:5432/d?sslmode=verify-full", "/d?host=/run/postgresql", "[::1]/d"]
)
def test_a_password_from_a_file_completes_the_database_s_address(
    tmp_path: Path, kind: str, host: str
) -> None:
    file, odd = tmp_path / "secret", "p@s:s/w?r#d%+&ü"
    file.write_text(f"{odd}\n")
    settings = written(
        tmp_path,
        outbox=f"database_url = '{kind}://shop@{host}'\ndatabase_password = {{ file = '{file}' }}",
    ).settings
    made = make_url(settings.database_address().get_secret_value())
    assert made == make_url(f"{kind}://shop@{host}").set(password=odd)
    shown = [repr(settings), str(settings.database_address()), str(settings.dump_for_people())]
    assert not [text for text in shown if odd in text or quote(odd, safe="") in text]


def test_the_database_s_password_comes_from_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_SECRET", SECRET)
    monkeypatch.setenv("OUTBOX_DATABASE_URL", "postgresql://shop@h/d")
    monkeypatch.setenv("OUTBOX_DATABASE_PASSWORD", '{"env": "DATABASE_SECRET"}')
    settings = written(tmp_path, outbox=f"database_url = 'postgresql://other@h/d'\n{PLACE}").settings
    assert settings.database_address().get_secret_value() == f"postgresql://shop:{SECRET}@h/d"


def test_a_database_s_password_that_is_not_there_is_refused_naming_its_place(tmp_path: Path) -> None:
    outbox = "database_url = 'postgresql://shop@h/d'\ndatabase_password = { env = 'NOT_SET' }"
    told = "database_password is not to be had from environment variable NOT_SET: put it there"
    assert f"outbox.toml: {told}" in refusal(tmp_path, outbox=outbox)
    settings = load(tmp_path / "outbox.toml", need_secrets=False).settings
    with pytest.raises(ConfigError, match=told):
        settings.database_address()


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://shop:{SECRET}@h/d",
        f"postgresql+psycopg2://shop:{SECRET}@h/d",
        f"postgresql+asyncpg://shop:{SECRET}@h/d",
        f"postgresql:/shop:{SECRET}@h/d",
        "sqlite:outbox.db",
        "var/outbox.db",
    ],
)
def test_an_address_of_another_kind_is_answered_with_the_two_there_are(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, outbox=f"database_url = '{url}'")
    assert said.endswith("database_url is (hidden): give sqlite:///path or postgresql://user@host/database")


@pytest.mark.parametrize("login", [f"shop:{SECRET}@{SECRET}", f"shop:a/b@{SECRET}"])
def test_an_at_sign_in_a_password_is_refused_before_the_rest_is_taken_for_a_host(
    tmp_path: Path, login: str
) -> None:
    said = refusal(tmp_path, outbox=f"database_url = 'postgresql://{login}@h/d'")
    assert "as %40" in said
    assert SECRET not in said


# The broker

BROKER = "broker_url = 'redis://shop@redis:6379/0'\n"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis", "give redis://"),
        ("sqs://h", "give redis://"),
        ("redis://a/0;redis://b/0", "give one address"),
        ("redis://:6379/0", "name the host"),
        ("redis://h:port/0", "the port is no number"),
        (f"redis://:{SECRET}/x@h/0", "%2F"),
        (f"redis://:{SECRET}@x@h/0", "%40"),
        ("redis://h/name", "number of a database"),
        ("rediss://h/0?ssl_cert_reqs=none", "leave query"),
        ("amqps://h//?ssl_check_hostname=false", "leave query"),
        ("redis+socket://h/path", "the socket's path"),
        ("redis+socket://", "the socket's path"),
    ],
)
def test_a_broker_that_no_worker_could_reach_is_refused_without_its_address(
    tmp_path: Path, url: str, why: str
) -> None:
    said = refusal(tmp_path, outbox=f"broker_url = '{url}'")
    assert "broker_url is (hidden): " in said
    assert why in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://shop@h:6379/0", "redis://shop:{}@h:6379/0"),
        ("redis://h", "redis://:{}@h"),
        ("rediss://h:6379/1", "rediss://:{}@h:6379/1"),
        ("redis+socket:///run/r.sock", "redis+socket://:{}@/run/r.sock"),
        ("amqp://shop@h//", "amqp://shop:{}@h//"),
        ("amqps://shop@[::1]:5671/shop", "amqps://shop:{}@[::1]:5671/shop"),
    ],
)
def test_the_brokers_password_goes_quoted_into_its_address(tmp_path: Path, url: str, address: str) -> None:
    file = tmp_path / "secret"
    file.write_text("p@ss/w:rd%1\n")
    outbox = f"broker_url = '{url}'\nbroker_password = {{ file = '{file}' }}"
    settings = written(tmp_path, outbox=outbox).settings
    assert settings.broker_address().get_secret_value() == address.format("p%40ss%2Fw%3Ard%251")
    assert "p@ss" not in f"{settings} {settings.dump_for_people()}"


@pytest.mark.parametrize(
    ("outbox", "why"),
    [
        ("broker_password = { env = 'A' }", "broker_url is empty"),
        ("broker_url = ''\nbroker_password = { env = 'A' }", "broker_url is empty"),
        (f"broker_url = 'redis://:{SECRET}@h/0'\nbroker_password = {{ env = 'A' }}", "one of the two"),
        (BROKER + f"broker_password = '{SECRET}'", "never the secret itself"),
    ],
)
def test_a_brokers_password_that_fits_no_broker_is_refused(tmp_path: Path, outbox: str, why: str) -> None:
    said = refusal(tmp_path, outbox=outbox)
    assert "broker_password is (hidden): " in said
    assert why in said
    assert SECRET not in said


def test_a_brokers_password_comes_from_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("word")
    monkeypatch.setenv("OUTBOX_BROKER_PASSWORD", f'{{"file": "{file}"}}')
    settings = written(tmp_path, outbox=BROKER).settings
    assert settings.broker_address().get_secret_value() == "redis://shop:word@redis:6379/0"


def test_a_brokers_password_that_is_not_there_is_refused_naming_its_place(tmp_path: Path) -> None:
    said = refusal(tmp_path, outbox=BROKER + "broker_password = { env = 'NOT_SET' }")
    assert "broker_password is not to be had from environment variable NOT_SET: put it there" in said
    with pytest.raises(ConfigError, match="broker_password is not to be had"):
        load_settings(tmp_path / "outbox.toml").broker_address()


@pytest.mark.parametrize(
    ("url", "content", "why"),
    [
        ("redis://h", None, "only a rediss:// or amqps://"),
        ("", None, "only a rediss:// or amqps://"),
        ("rediss://h", None, "No such file"),
        ("amqps://h", "no certificate", "holds no certificate"),
    ],
)
def test_a_ca_file_that_verifies_nothing_is_refused(
    tmp_path: Path, url: str, content: str | None, why: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    said = refusal(tmp_path, outbox=f"broker_url = '{url}'\nbroker_ca_file = '{file}'")
    assert "broker_ca_file is '" in said
    assert why in said


# The environment


def test_the_environment_overrules_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_DATABASE_URL", "sqlite:///elsewhere.db")
    monkeypatch.setenv("OUTBOX_ENGINE__LEASE", "100s")
    settings = written(tmp_path, outbox="[engine]\nlease = '80s'\nsweep = '7s'").settings
    assert settings.database_url.get_secret_value() == "sqlite:///elsewhere.db"
    assert settings.engine.lease == timedelta(seconds=100)
    assert settings.engine.sweep == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTBOX_FLOWER__PASSWORD", '{"file": "/elsewhere"}'),
        ("OUTBOX_FLOWER__PASSWORD__FILE", "/elsewhere"),
        ("OUTBOX_FLOWER", '{"password": {"file": "/elsewhere"}}'),
    ],
)
def test_the_environment_s_place_of_a_secret_overrules_the_file_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    flower = written(tmp_path, outbox="[flower]\nport = 1234\npassword = { env = 'HERE' }").settings.flower
    assert str(flower.password) == "file /elsewhere"
    assert flower.port == 1234


def test_the_environment_names_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path)
    monkeypatch.setenv("OUTBOX_CONFIG", str(tmp_path / "outbox.toml"))
    assert load().file == tmp_path / "outbox.toml"


@pytest.mark.parametrize(
    ("name", "value"),
    [("OUTBOX_ENGINE__LEASE", "long"), ("OUTBOX_DATABASE_URL", "mysql://h"), ("OUTBOX_FLOWER__PORT", "x")],
)
def test_a_wrong_environment_variable_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert name in refusal(tmp_path)


def test_a_lease_from_the_environment_must_cover_the_deadlines_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOX_ENGINE__LEASE", "87s")
    assert "at most 29s" in refusal(tmp_path)
    monkeypatch.setenv("OUTBOX_ENGINE__LEASE", "90s")
    written(tmp_path)


# Patience of one operation


def test_an_operation_inherits_what_it_does_not_name(tmp_path: Path) -> None:
    main = written(
        tmp_path,
        with_retry('retry_after = ["1s"]\njitter = 0.3\nmax_age = "2d"')
        + "[destinations.main.operations.order-cancel.retry]\n"
        + 'exponential = { first = "1s", factor = 2.0, max = "1m", tries = 4 }',
    ).destinations["main"]
    own = main.retry_policy("order-cancel")
    assert (own.tries, own.jitter, own.max_age) == (4, 0.3, timedelta(days=2))
    assert main.retry_policy("order-import") == main.retry
    assert main.retry.tries == 2


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("7d", 604800)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["", "30", "30 s", "-1s", "1e3s", "s", "1w", "1h30m", "infs", 30, None])
def test_anything_else_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match="write a duration"):
        duration(value)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2.5, "2.5 s"),
        (30, "30 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (99365, "27 h 36 min"),
        (604800, "7 d"),
        (176400, "2 d 1 h"),
    ],
)
def test_a_duration_is_told_as_a_person_says_it(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("operations = []", "destinations.main.operations"),
        ('operations = "x"', "destinations.main.operations"),
        ('operations = { order-cancel = { retry = "5s" } }', "operations.order-cancel.retry"),
        ('operations = { order-cancel = { retry = ["5s"] } }', "operations.order-cancel.retry"),
        ('retry = "5s"\noperations = { order-cancel = {} }', "destinations.main.retry"),
        ("window = true", "destinations.main.window"),
        ('window = "8"', "destinations.main.window"),
    ],
)
def test_a_table_of_the_wrong_shape_is_refused_by_its_key(tmp_path: Path, lines: str, key: str) -> None:
    head = '[destinations.main]\nurl = "https://h/web"\nuser = "shop"\n'
    password = 'password = { env = "ORDERFLOW_MAIN_PASSWORD" }\n'
    assert key in refusal(tmp_path, head + password + lines)


@pytest.mark.parametrize("url", ["https://ex ample.com/", " https://h/", "https://h/\\t", "https://h/ü"])
def test_an_address_with_blanks_or_beyond_ascii_is_refused(tmp_path: Path, url: str) -> None:
    destinations = f'[destinations.main]\nurl = "{url}"\nuser = "shop"\n'
    password = 'password = { env = "ORDERFLOW_MAIN_PASSWORD" }\n'
    assert "destinations.main.url" in refusal(tmp_path, destinations + password)


def test_a_password_that_no_header_can_carry_is_as_good_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", "\udcff\udcfe")
    assert "destinations.main.password" in refusal(tmp_path)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    file = tmp_path / "destinations.toml"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load(tmp_path / "outbox.toml").destinations


# What is kept, and what is known of a person


@pytest.mark.parametrize(
    ("outbox", "told"),
    [
        ('[retention]\ndelivered = "23h"', "retention.delivered is '23h': keep it for 24 h at least"),
        ('[retention]\naudit = "always"', 'or "never"'),
        ('[personal_data]\nfields = ["a b"]', "'a b' is no name of a field"),
        ('[personal_data]\nfields = ["line.1.name"]', "without numbers"),
    ],
)
def test_what_is_kept_too_short_or_named_wrong_is_told(tmp_path: Path, outbox: str, told: str) -> None:
    assert told in refusal(tmp_path, outbox=outbox)


def test_what_is_never_purged_is_written_so(tmp_path: Path) -> None:
    kept = written(tmp_path, outbox='[retention]\ndead = "never"\ndelivered = "90d"').settings.retention
    assert (kept.of("dead"), kept.of("delivered"), kept.of("pending")) == (None, timedelta(days=90), None)
    assert kept.shortest == timedelta(days=30)
