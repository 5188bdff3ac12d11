"""A deployer's own queries and checks: what can be said in them, and what is refused with its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from config import ConfigError, Configuration, Presence, load
from config.loading import INTERFACE_QUERIES
from orderflow_outbox import Method, Scope
from worker.deliveries import Reply
from worker.rules.checking import CheckJudge

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
THERE = '[[checks.order-import.rules]]\nname = "there"\nroot = ["order"]\nverdict = "present"\n'
NOT_THERE = '[[checks.order-import.rules]]\nname = "not-there"\ntext = "Unknown"\nverdict = "absent"\n'
BY_DETAIL = (
    '[checks.order-import]\nquery = "order-detail"\n'
    'parameters = { externalReference = "{externalReference}" }\n'
)
CHECK = BY_DETAIL + THERE + NOT_THERE


def loaded(tmp_path: Path, queries: str) -> Configuration:
    (tmp_path / "own.toml").write_text(queries)
    (tmp_path / "destinations.toml").write_text(
        '[destinations.main]\nurl = "https://of.example.com/web"\nuser = "shop"\n'
        'password = { env = "ORDERFLOW_MAIN_PASSWORD" }\n'
    )
    file = tmp_path / "outbox.toml"
    file.write_text('queries_file = "own.toml"\n')
    return load(file)


def test_the_interfaces_queries_are_there_without_a_file() -> None:
    queries = load(need_secrets=False).queries
    detail = queries.by_name["order-detail"]
    assert (detail.path, detail.method, detail.scopes) == (
        "remoteorder/order/detail.xml",
        Method.POST,
        [Scope.CHANNEL],
    )
    assert sorted(queries.by_name) == ["despatches", "inventory", "order-detail"]
    assert queries.checks == {}, "what an order's detail looks like is not for us to guess"


def test_what_the_manual_shows_works(tmp_path: Path) -> None:
    manual = INTERFACE_QUERIES.read_text(encoding="utf-8").splitlines()
    shown = [line[4:] for line in manual if line.startswith("#   ") and not line.startswith("#   python")]
    values = [line.partition("  ")[0] if "=" in line else line for line in shown]
    queries = loaded(tmp_path, "\n".join(values)).queries
    assert queries.by_name["stock-history"].required_query == ["sku"]
    assert [rule.verdict for rule in queries.checks["order-import"].rules] == ["present", "absent"]


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ('[queries.own]\npath = "/a"\n', "queries.own.path is '/a'", "without a leading slash"),
        ("[queries.own]\n", "queries.own.path is missing", "the keys here are path, method"),
        ('[queries.Own]\npath = "a"\n', "name is 'Own'", "lower-case words"),
        ('[queries.own]\npath = "a"\nmethod = "PUT"\n', "queries.own.method is 'PUT'", "GET"),
        ('[queries.own]\npath = "a"\nscopes = ["shop"]\n', "queries.own.scopes.0 is 'shop'", "channel"),
        ('[queries.own]\npath = "a"\nquery = { user = "x" }\n', "queries.own.query is 'user'", "itself"),
        ('[queries.own]\npath = "a"\nbody = "x"\n', "queries.own.body is a key nobody knows", "path"),
        ('[queries.inventory]\npath = "a"\n', "queries.inventory is a name that is taken", "another"),
        ('[queries.order-import]\npath = "a"\n', "queries.order-import is a name that is taken", "another"),
        (CHECK.replace("order-import", "order-imports"), "checks.order-imports is of an operation", "nobody"),
        (CHECK.replace("order-detail", "details"), "checks.order-import.query is 'details'", "order-detail"),
        (CHECK.replace("externalReference =", "reference ="), "is without 'externalReference'", "give it"),
        (CHECK.replace('"{external', '"{{external'), "a brace stands alone", "{externalReference}"),
        (CHECK.replace("externalReference =", 'user = "x", externalReference ='), "names 'user'", "itself"),
        (
            CHECK.replace("order-import", "product-import"),
            "checks.product-import.query is 'order-detail', which acts in a channel",
            "choose a query of that scope",
        ),
        (BY_DETAIL, "checks.order-import.rules is missing", "rules"),
        (BY_DETAIL + THERE, "none of its rules says absent", "add one"),
        (BY_DETAIL + NOT_THERE, "none of its rules says present", "add one"),
        (CHECK.replace("absent", "missing"), "checks.order-import.rules.1.verdict is 'missing'", "absent"),
        (CHECK.replace('["order"]', "[]"), "checks.order-import.rules.0.root", "at least 1"),
        (CHECK.replace('root = ["order"]', 'xpath = "//["'), "(there): xpath is '//['", "no XPath"),
        (CHECK.replace('root = ["order"]\n', ""), "(not-there): it would never be asked", "move it up"),
        (CHECK.replace('root = ["order"]', "in_doubt = true"), "in_doubt is a key nobody knows", "status"),
        (CHECK.replace('root = ["order"]', 'operations = ["order-import"]'), "one operation already", "out"),
        (CHECK.replace('root = ["order"]', 'destinations = ["x"]'), "destinations names 'x'", "main"),
        (CHECK + 'reason = "check_unclear"\n', "the service itself gives this reason", "another"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, where: str, found: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{tmp_path / 'own.toml'}: ")
    assert where in problem
    assert found in problem


RULES = """
[namespaces]
o = "urn:orders"

[checks.order-import]
query = "order-detail"
parameters = { externalReference = "{externalReference}" }

[[checks.order-import.rules]]
name = "elsewhere"
destinations = ["north"]
verdict = "absent"

[[checks.order-import.rules]]
name = "gone"
status = [404, 410]
verdict = "absent"
reason = "gone"

[[checks.order-import.rules]]
name = "there"
xpath = "/o:order[@ref]"
text_from = ["/o:order/@ref"]
verdict = "present"
"""


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(200, (), b'<order xmlns="urn:orders" ref="7"/>'), (Presence.PRESENT, "there", "present", "7")),
        (Reply(404, (), b"none"), (Presence.ABSENT, "gone", "gone", "HTTP 404")),
        (Reply(200, (), b"<order/>"), None),
        (Reply(500, (), b'<order xmlns="urn:orders" ref="7"/>'), None),
        (Reply(200, (), b'<order xmlns="urn:orders" ref="7"/>', complete=False), None),
        (Reply(404, (), b"none", complete=False), None),
    ],
    ids=str,
)
def test_the_first_rule_of_a_check_that_fits_says_whether_it_was_carried_out(
    tmp_path: Path, reply: Reply, told: tuple[Presence, str, str, str] | None
) -> None:
    text = RULES.replace('destinations = ["north"]', 'destinations = ["main"]')
    queries = loaded(tmp_path, text).queries
    judge = CheckJudge(queries.checks["order-import"], queries.namespaces, "south")
    found = judge.judge(reply)
    if told is None:
        assert found is None
    else:
        assert found is not None
        presence, why = found
        assert (presence, why.rule, why.reason, why.text.strip()) == told
    here = CheckJudge(queries.checks["order-import"], queries.namespaces, "main").judge(
        Reply(200, (), b"any")
    )
    assert here is not None
    assert here[1].rule == "elsewhere", "a rule of this destination alone"
