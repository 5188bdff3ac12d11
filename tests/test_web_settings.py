"""The table `web` of the settings: what is refused, and how that is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from config import ConfigError, Role, WebSettings
from config.loading import DEFAULT_FILE
from tests.consoles import HASH
from tests.test_config import refusal, written
from worker.web.listening import check_certificate
from worker.web.users import users_of

ANNA = f'name = "anna", role = "administrator", password_hash = "{HASH}"'


@pytest.mark.parametrize(
    ("table", "key", "told"),
    [
        ('address = "0.0.0.0"', "web", "beyond this machine: give certificate and key, or set behind_proxy"),
        ('address = "outbox.example.com"', "web", "beyond this machine"),
        ('certificate = "a.pem"', "web", "give certificate and key, or neither"),
        ('key = "a.pem"', "web", "give certificate and key, or neither"),
        ("port = 0", "web.port", "greater than or equal to 1"),
        ('behind_proxy = "maybe"', "web.behind_proxy", "valid boolean"),
        ('hosts = ["https://outbox.example.com"]', "web.hosts", "leave scheme, port and path out"),
        ('hosts = ["*"]', "web.hosts", "no name of a host"),
        ('users = [{ name = "a b", role = "reader" }]', "web.users.0.name", "match pattern"),
        ('users = [{ name = "anna", role = "boss" }]', "web.users.0.role", "'administrator'"),
        (f"users = [{{ {ANNA} }}, {{ {ANNA} }}]", "web.users", "anna stands there twice"),
        ('users = [{ name = "a", role = "reader", password_hash = "hunter2" }]', "hidden", "hash-password"),
        (
            'users = [{ name = "a", role = "reader", password_hash = { env = "NOT_SET" } }]',
            "0",
            "put it there",
        ),
        ('trusted_header = "X-User"', "web", "name their addresses"),
        ('trusted_header = "X: y"', "web.trusted_header", "match pattern"),
        ('trusted_proxies = ["proxy"]', "web.trusted_proxies.0", "IPv4 or IPv6 network"),
        ('trusted_proxies = ["10.0.0.1/8"]', "web.trusted_proxies.0", "IPv4 or IPv6 network"),
        (
            'trusted_proxies = ["10.0.0.0/8"]\ndefault_role = "reader"',
            "web",
            "of those whom trusted_header names",
        ),
        ('idle_limit = "1s"', "web.idle_limit", "greater than or equal to 1 minute"),
    ],
)
def test_what_is_wrong_is_told_with_its_fix(tmp_path: Path, table: str, key: str, told: str) -> None:
    said = refusal(tmp_path, outbox=f"[web]\n{table}\n")
    assert key in said
    assert told in said
    assert "hunter2" not in said
    assert HASH not in said


@pytest.mark.parametrize("more", ["behind_proxy = true", 'certificate = "a.pem"\nkey = "b.pem"'])
def test_beyond_this_machine_it_listens_with_a_certificate_or_behind_a_proxy(
    tmp_path: Path, more: str
) -> None:
    assert written(tmp_path, outbox=f'[web]\naddress = "0.0.0.0"\n{more}\n').settings.web.address == "0.0.0.0"


def test_what_stands_commented_out_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hash").write_text(HASH)
    for name in ("OUTBOX_JONAS_HASH", "OUTBOX_WALLBOARD_HASH"):
        monkeypatch.setenv(name, HASH)
    shipped = DEFAULT_FILE.read_text(encoding="utf-8")
    table = shipped[shipped.index("[web]") : shipped.index("[schemas]")]
    table = re.sub(r"(?m)^(hosts|trusted_proxies|users) = .*\n", "", table)
    table = re.sub(
        r"(?m)^# (?=( {4}|\]|(hosts|certificate|key|users|trusted\w+|default_role) = ))", "", table
    )
    table = table.replace("/run/secrets/anna_hash", str(tmp_path / "hash"))
    settings = written(tmp_path, outbox=table).settings
    assert [each.role for each in settings.web.users] == [Role.ADMINISTRATOR, Role.OPERATOR, Role.READER]
    assert [each.hash for each in users_of(settings).accounts] == [HASH] * 3
    assert settings.web.is_trusted("10.1.200.3")
    assert settings.web.is_trusted("::ffff:127.0.0.1")
    assert not settings.web.is_trusted("10.2.0.1")
    assert not settings.web.is_trusted("")
    with pytest.raises(ConfigError, match="not to be used"):
        check_certificate(settings.web)


def test_a_key_that_is_another_certificates_is_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    one, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    one.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    for pair in (one, other):
        pair.private_key_pem.write_to_path(tmp_path / "key.pem")
        settings = WebSettings(certificate=tmp_path / "certificate.pem", key=tmp_path / "key.pem")
        if pair is one:
            check_certificate(settings)
        else:
            with pytest.raises(ConfigError, match="give a pair in PEM form"):
                check_certificate(settings)


def test_a_place_of_a_hash_that_holds_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hash").write_text("hunter2")
    users = f'users = [{{ name = "anna", role = "reader", password_hash = {{ file = "{tmp_path}/hash" }} }}]'
    settings = written(tmp_path, outbox=f"[web]\n{users}\n").settings
    with pytest.raises(ConfigError, match="hash-password") as caught:
        users_of(settings)
    assert "hunter2" not in str(caught.value)


def test_each_role_may_do_what_those_below_it_may() -> None:
    covered = {role: {other for other in Role if role.covers(other)} for role in Role}
    assert [len(covered[role]) for role in (Role.READER, Role.OPERATOR, Role.ADMINISTRATOR)] == [1, 2, 3]
    assert covered[Role.OPERATOR] == {Role.READER, Role.OPERATOR}
