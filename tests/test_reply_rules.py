"""A deployer's own rules on replies: what can be said in them, and what is refused with its place."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config import ConfigError, ReplyRule, RetryPolicy, load, load_rules, shadowing
from config.loading import INTERFACE_RULES
from orderflow_outbox import PREDEFINED
from worker.deliveries import Failure, Reply
from worker.retry import next_retry_at
from worker.rules import Judge
from worker.verdicts import Delivered, Hold, Refused, RetryLater, Verdict

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
PAGE = b"<page xmlns='urn:shop'><code>17</code><say>Sold out: SKU-1</say></page>"
ITS_OWN = '[[rules]]\nname = "own"\nreason = "own"\n'


def judge_by(tmp_path: Path, rules: str) -> Judge:
    file = tmp_path / "own-rules.toml"
    file.write_text(rules)
    return Judge(load_rules(file, PREDEFINED, ["main", "north"]))


def judged(
    judge: Judge,
    reply: Reply | Failure,
    operation: str = "order-import",
    destination: str = "main",
    in_doubt: bool = False,
) -> Verdict:
    return judge.judge(reply, destination, PREDEFINED[operation], in_doubt, NOW).verdict


def answer(body: bytes = PAGE, status: int = 200, complete: bool = True, **headers: str) -> Reply:
    return Reply(
        status, tuple((name.replace("_", "-"), value) for name, value in headers.items()), body, complete
    )


@pytest.mark.parametrize(
    ("condition", "fitting", "other"),
    [
        ("status = [409]", answer(status=409), answer(status=410)),
        ('status = ["4xx"]', answer(status=499), answer(status=500)),
        ('status = ["400-409", 500]', answer(status=500), answer(status=410)),
        (
            'content_type = ["text/*"]',
            answer(content_type="Text/HTML; charset=x"),
            answer(content_type="a/b"),
        ),
        ('content_type = ["text/html"]', answer(content_type="text/html"), answer()),
        ('header = { X-Reason = "^stock" }', answer(x_reason="stock out"), answer(x_reason="no stock")),
        ("xml = true", answer(), answer(b"Sold out")),
        ("xml = false", answer(b"Sold out"), answer()),
        ('root = ["page", "other"]', answer(), answer(b"<pages/>")),
        ("xpath = \"//*[local-name() = 'code'] = 17\"", answer(), answer(b"<page><code>18</code></page>")),
        ('xpath = "number(//x)"', answer(b"<y><x>1</x></y>"), answer(b"<y><x>none</x></y>")),
        ('xpath = "string(//x)"', answer(b"<y><x>a</x></y>"), answer(b"<y><x/></y>")),
        ('text = "Sold out: (SKU-.)"', answer(), answer(b"sold out")),
        ("min_bytes = 3", answer(b"abc"), answer(b"ab")),
        ("max_bytes = 3", answer(b"abc"), answer(b"abcd")),
        ("complete = false", answer(complete=False), answer()),
        ('answer = ["import-result"]', answer(), None),
        ('failure = ["timeout"]', Failure("timeout", "", True), Failure("connect_failed", "", True)),
        ('failure = ["any"]', Failure("connect_failed", "", True), answer()),
        ('status = [409]\ntext = "out"', answer(status=409), answer(b"", status=409)),
    ],
)
def test_a_rule_fits_where_all_of_its_conditions_hold(
    tmp_path: Path, condition: str, fitting: Reply | Failure, other: Reply | Failure | None
) -> None:
    judge = judge_by(tmp_path, f'{ITS_OWN}verdict = "refused"\n{condition}')
    assert judged(judge, fitting).why.rule == "own"
    if other is not None:
        assert judged(judge, other).why.rule != "own"


def test_a_rule_may_ask_for_the_doubt_of_the_message(tmp_path: Path) -> None:
    judge = judge_by(tmp_path, f'{ITS_OWN}verdict = "delivered"\nin_doubt = true')
    for reply in (answer(), answer(b"", 404)):
        assert isinstance(judged(judge, reply, in_doubt=True), Delivered)
        assert not isinstance(judged(judge, reply), Delivered)


def test_what_an_operation_names_as_a_good_answer_may_be_a_condition(tmp_path: Path) -> None:
    judge = judge_by(tmp_path, f'{ITS_OWN}verdict = "delivered"\nanswer = ["text"]')
    assert judged(judge, answer(), "order-cancel").why.rule == "own"
    assert judged(judge, answer(), "order-import").why.rule != "own"


def test_a_rule_speaks_for_its_operations_and_destinations_alone(tmp_path: Path) -> None:
    judge = judge_by(
        tmp_path,
        f'{ITS_OWN}verdict = "delivered"\noperations = ["order-cancel"]\ndestinations = ["north"]',
    )
    spoken_for = [
        (operation, destination)
        for operation in ("order-import", "order-cancel")
        for destination in ("main", "north")
        if judged(judge, answer(), operation, destination).why.rule == "own"
    ]
    assert spoken_for == [("order-cancel", "north")]


def test_the_first_rule_that_fits_decides_and_own_ones_come_first(tmp_path: Path) -> None:
    judge = judge_by(
        tmp_path,
        '[[rules]]\nname = "one"\nstatus = [503]\nverdict = "delivered"\n'
        '[[rules]]\nname = "two"\nstatus = ["5xx"]\nverdict = "hold"\n',
    )
    assert isinstance(judged(judge, answer(status=503)), Delivered), (
        "a status that is no 2xx may be a success"
    )
    assert isinstance(judged(judge, answer(status=500)), Hold)
    assert judged(judge, answer(status=404)).why.rule == "turned-away"


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [("delivered", Delivered), ("refused", Refused), ("hold", Hold), ("retry", RetryLater)],
)
def test_each_verdict_may_be_given(tmp_path: Path, verdict: str, kind: type[Verdict]) -> None:
    assert isinstance(judged(judge_by(tmp_path, f'{ITS_OWN}verdict = "{verdict}"'), answer()), kind)


def test_a_retry_says_whose_fault_it_is_and_may_have_a_wait_of_its_own(tmp_path: Path) -> None:
    judge = judge_by(tmp_path, f'{ITS_OWN}verdict = "retry"\nsystemic = true\nafter = "10m"')
    verdict = judged(judge, answer(Retry_After="7"))
    assert isinstance(verdict, RetryLater)
    assert (verdict.systemic, verdict.after) == (True, timedelta(minutes=10))
    assert verdict.not_before == timedelta(seconds=7)


def test_a_wait_of_a_rules_own_replaces_the_schedules_and_spends_a_try() -> None:
    policy = RetryPolicy(retry_after=[timedelta(seconds=5)], jitter=0.1)
    own = timedelta(minutes=10)
    assert next_retry_at(NOW, 1, policy, after=own) == NOW + own
    assert next_retry_at(NOW, 1, policy, after=own, chance=1) == NOW + own * 1.1
    assert next_retry_at(NOW, 1, policy, timedelta(minutes=20), after=own) == NOW + timedelta(minutes=20)
    assert next_retry_at(NOW, 2, policy, after=own) is None


@pytest.mark.parametrize(
    ("told", "reason", "text"),
    [
        ('reason = "http_{status}"', "http_409", "HTTP 409"),
        ('reason = "stock_{status}"\ntext_from = ["//s:say"]', "stock_409", "Sold out: SKU-1"),
        ('text_from = ["//s:none", "/out: (\\\\S+)/"]', "own", "SKU-1"),
        ('text_from = ["/Sold.out/"]', "own", "Sold out"),
        ('text_from = ["string(//s:code)"]', "own", "17"),
        ('text_from = ["//s:none"]\nsays = "{status}: {words} in {bytes} ({content_type})"',
         "own", f"409: 17 Sold out: SKU-1 in {len(PAGE)} (text/xml)"),
    ],
)  # fmt: skip
def test_reason_and_text_are_lifted_from_the_reply(tmp_path: Path, told: str, reason: str, text: str) -> None:
    own = ITS_OWN if "reason" not in told else '[[rules]]\nname = "own"\n'
    rules = f'[namespaces]\ns = "urn:shop"\n{own}verdict = "refused"\n{told}'
    verdict = judged(judge_by(tmp_path, rules), answer(status=409, Content_Type="text/xml"))
    assert (verdict.why.reason, verdict.why.text) == (reason, text)


def test_a_failure_tells_its_own_reason_and_words(tmp_path: Path) -> None:
    judge = judge_by(
        tmp_path,
        '[[rules]]\nname = "own"\nfailure = ["timeout"]\nverdict = "retry"\nreason = "no_{failure}"\n'
        'says = "{failure}: {words}"',
    )
    why = judged(judge, Failure("timeout", "no answer within 30 s", True)).why
    assert (why.reason, why.text) == ("no_timeout", "timeout: no answer within 30 s")


def test_a_rule_that_takes_a_whole_answer_for_a_duplicate_delivers_no_edited_message(tmp_path: Path) -> None:
    rule = '[[rules]]\nname = "there"\ntext = "SKU-1"\nverdict = "delivered"\nreason = "duplicate"\n'
    judge, operation = judge_by(tmp_path, rule), PREDEFINED["order-import"]
    plain, after_edit = (
        judge.judge(answer(), "main", operation, False, NOW, edited=is_edited).verdict
        for is_edited in (False, True)
    )
    assert isinstance(plain, Delivered)
    assert isinstance(after_edit, Refused)
    assert (plain.why.reason, after_edit.why.reason) == ("duplicate", "duplicate")


def test_an_unconditional_rule_replaces_the_interfaces_table(tmp_path: Path) -> None:
    judge = judge_by(tmp_path, f'{ITS_OWN}verdict = "refused"')
    assert {judged(judge, answer(status=status)).why.rule for status in (200, 302, 404, 503)} == {"own"}
    assert judged(judge, Failure("timeout", "", True)).why.rule == "no-answer"


def test_the_manual_names_every_key() -> None:
    manual = "".join(line for line in INTERFACE_RULES.read_text().splitlines(True) if line.startswith("#"))
    named = set(re.findall(r"\b([a-z_]+) = ", manual)) | {"verdict"}
    assert set(ReplyRule.model_fields) - {"name"} <= named


REFUSED = {
    "an XPath that is none": ('xpath = "//["', "rules.0 (own): xpath is '//['", "it is no XPath"),
    "a prefix in a predicate": ('xpath = "//a[s:say]"', "xpath is '//a[s:say]'", "its prefix s is not"),
    "a variable": ('xpath = "//a[$b]"', "xpath is '//a[$b]'", "it has a variable"),
    "a function that is none": ('xpath = "//a[matches(., \'x\')]"', "xpath is", "it calls matches()"),
    "a prefix that nobody declared": ('xpath = "//s:say"', "xpath is '//s:say'", "[namespaces]"),
    "a function without its arguments": ("xpath = '//a[contains(.)]'", "xpath is", "no XPath"),
    "a function of a set": ("xpath = \"//a[sum('a')]\"", "xpath is", "no XPath"),
    "a number of a number": ("xpath = '//a/b[count(1) > 0]'", "xpath is", "no XPath"),
    "a prefix in a root": ('root = ["soap:Envelope"]', "rules.0.root", "leave prefix and namespace out"),
    "a namespace in a root": ('root = ["{urn:a}a"]', "rules.0.root", "leave prefix and namespace out"),
    "a document of no bytes": ('max_bytes = 0\nroot = ["a"]', "rules.0", "max_bytes = 0 and root exclude"),
    "words of no bytes": ('max_bytes = 0\ntext = "a"', "rules.0", "max_bytes = 0 and text exclude"),
    "an answer of others": (
        'operations = ["order-import"]\nanswer = ["text"]', "rules.0 (own)", "is answered by text"
    ),
    "an XPath in text_from": ('text_from = ["//["]', "text_from is '//['", "it is no XPath"),
    "an expression in text_from": ('text_from = ["/(/"]', "text_from is '/(/'", "no regular expression"),
    "an expression too large": ('text = "a{99999999999}"', "rules.0.text", "no regular expression"),
    "text for a truth": ('xml = "false"', "rules.0.xml", "valid boolean"),
    "a truth for a number": ("min_bytes = true", "rules.0.min_bytes", "valid integer"),
    "the service's own reason": ('reason = "split"', "rules.0.reason", "the service itself gives this"),
    "a regular expression": ('text = "("', "rules.0.text", "no regular expression"),
    "an expression on a header": ('header = { S = "(" }', "rules.0.header.S", "no regular expression"),
    "a status": ("status = [99]", "rules.0.status", "99 is no status"),
    "a status in words": ('status = ["6xx"]', "rules.0.status", "'6xx' is no status"),
    "statuses the wrong way round": ('status = ["409-400"]', "rules.0.status", "ends before it begins"),
    "no status": ("status = []", "rules.0.status", "give a list"),
    "a media type": ('content_type = ["html"]', "rules.0.content_type", "no media type"),
    "an operation": ('operations = ["order-imports"]', "operations names 'order-imports'", "order-import"),
    "a destination": ('destinations = ["south"]', "destinations names 'south'", "main, north"),
    "a kind of answer": ('answer = ["json"]', "rules.0.answer.0", "import-result"),
    "a failure": ('failure = ["oom"]', "rules.0.failure.0", "timeout"),
    "a key": ("retries = 3", "rules.0.retries", "a key nobody knows"),
    "a reason": ('reason = "No stock"', "rules.0.reason", "lower-case"),
    "a place in a reason": ('reason = "x_{title}"', "rules.0.reason", "{title} is no place"),
    "a place in a text": ('says = "{body}"', "rules.0.says", "{body} is no place"),
    "a brace alone": ('says = "{"', "rules.0.says", "a brace stands alone"),
    "XML that is none": ('xml = false\nxpath = "//x"', "rules.0", "xml = false and xpath exclude each other"),
    "a root of no XML": ('xml = false\nroot = ["x"]', "rules.0", "xml = false and root exclude each other"),
    "XML that broke off": ("complete = false\nxml = true", "rules.0", "exclude each other"),
    "an answer that is none": ('failure = ["any"]\nstatus = [200]', "rules.0", "failure and status exclude"),
    "a size that is none": ("min_bytes = 2\nmax_bytes = 1", "rules.0", "min_bytes and max_bytes exclude"),
    "a wait without a retry": ('after = "5s"', "rules.0", "systemic and after belong to retry"),
    "a wait": ('after = "5 s"', "rules.0.after", "write a duration"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    condition, place, what = REFUSED[name]
    own = '[[rules]]\nname = "own"\n' if "reason" in condition else ITS_OWN
    with pytest.raises(ConfigError) as refused:
        judge_by(tmp_path, f'{own}verdict = "refused"\n{condition}')
    (problem,) = refused.value.problems
    assert problem.startswith(str(tmp_path / "own-rules.toml"))
    assert place in problem
    assert what in problem


@pytest.mark.parametrize("unread", ["complete = false", "max_bytes = 0", "xml = false"])
def test_a_reply_that_is_not_read_is_not_left_to_the_items(tmp_path: Path, unread: str) -> None:
    with pytest.raises(ConfigError, match="per-item needs a report, and here is none"):
        judge_by(tmp_path, f'[[rules]]\nname = "own"\nverdict = "per-item"\n{unread}')


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ('verdict = "retry"', ["own"]),
        ('verdict = "retry"\nstatus = ["2xx"]', []),
        ('verdict = "retry"\noperations = ["order-import"]', []),
        ('verdict = "retry"\nfailure = ["any"]', []),
    ],
)
def test_a_rule_that_hides_the_interfaces_is_found(tmp_path: Path, rule: str, names: list[str]) -> None:
    file = tmp_path / "own-rules.toml"
    file.write_text(f"{ITS_OWN}{rule}\n")
    assert shadowing(load_rules(file, PREDEFINED, ["main"])) == names


@pytest.mark.parametrize("told", ['reason = "x"', 'says = "x"', 'text_from = ["//x"]'])
def test_a_rule_that_leaves_it_to_the_items_tells_nothing_itself(tmp_path: Path, told: str) -> None:
    with pytest.raises(ConfigError, match=r"rules\.0.* is told by the rules of \[\[items\]\]"):
        judge_by(tmp_path, f'[[rules]]\nname = "own"\nverdict = "per-item"\n{told}')


@pytest.mark.parametrize(
    "xpath",
    [
        "//a/self::node()[@b]",
        "//a[position() = 1 and (b or not(c))]",
        "count(//processing-instruction('x')) mod 2 = 0",
        "//a[. = '$b' or contains(., 's:say(')]",
        "//s:a/ancestor-or-self::s:b | //s:*",
        "//*[local-name() = 'a'][last()]",
    ],
)
def test_every_xpath_is_taken(tmp_path: Path, xpath: str) -> None:
    namespaces = '[namespaces]\ns = "urn:shop"\n'
    judge_by(tmp_path, f'{namespaces}{ITS_OWN}verdict = "hold"\nxpath = "{xpath}"')


@pytest.mark.parametrize("verdict", ["dead", "", "Delivered"])
def test_a_verdict_that_nobody_knows_is_refused(tmp_path: Path, verdict: str) -> None:
    with pytest.raises(ConfigError, match=r"rules\.0\.verdict.*'per-item'"):
        judge_by(tmp_path, f'{ITS_OWN}verdict = "{verdict}"')


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("", "status = [409]", True),
        ('operations = ["order-import", "order-cancel"]', 'operations = ["order-import"]', True),
        ('operations = ["order-import"]', "", False),
        ('operations = ["order-import"]', 'operations = ["order-cancel"]', False),
        ('destinations = ["main"]', 'operations = ["order-import"]', False),
        ("", 'failure = ["timeout"]', False),
        ('failure = ["any"]', 'failure = ["timeout"]', True),
        ('failure = ["any"]', "status = [409]", False),
        ('failure = ["any"]\nin_doubt = true', 'failure = ["timeout"]', False),
        ("status = [409]", "status = [409]", True),
        ('status = ["1xx", "200-599"]', "text = 'x'", True),
        ('content_type = ["text/*"]', 'content_type = ["text/html"]', True),
        ('content_type = ["text/*"]', 'content_type = ["text/html", "image/png"]', False),
        ("min_bytes = 5", "min_bytes = 7", True),
        ("min_bytes = 5", "min_bytes = 4", False),
        ("max_bytes = 5", "max_bytes = 4", True),
        ("max_bytes = 5", "max_bytes = 7", False),
        (
            'failure = ["timeout", "connect_failed", "connection_lost", "bad_certificate", '
            '"address_refused"]',
            'failure = ["any"]',
            True,
        ),
        ('status = ["1xx", "200-598"]', "text = 'x'", False),
        ('status = ["100-599"]', 'failure = ["timeout"]', False),
        ('status = ["4xx"]', 'status = [409]\ntext = "x"', True),
        ("status = [409]", 'status = ["4xx"]', False),
        ('text = "x"', 'text = "y"', False),
        ('failure = ["timeout", "connect_failed"]', 'failure = ["timeout"]\nin_doubt = true', True),
    ],
)
def test_a_rule_that_would_never_be_asked_is_refused(
    tmp_path: Path, first: str, second: str, refused: bool
) -> None:
    rules = "".join(
        f'[[rules]]\nname = "{name}"\nverdict = "hold"\n{condition}\n'
        for name, condition in (("one", first), ("two", second))
    )
    if not refused:
        judge_by(tmp_path, rules)
        return
    with pytest.raises(
        ConfigError, match=r"rules\.1 \(two\): it would never be asked, since rules\.0 \(one\)"
    ):
        judge_by(tmp_path, rules)


def test_an_xpath_that_cannot_be_evaluated_finds_nothing_and_leaves_the_reply_to_the_rules_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    xpath = "/a/b/c/d/e[contains(.)]"
    judge = judge_by(tmp_path, f"{ITS_OWN}verdict = \"hold\"\nxpath = '{xpath}'")
    assert judged(judge, answer(b"<a><b><c><d><e/></d></c></b></a>")).why.rule == "unknown-body"
    assert xpath in caplog.text


def test_a_text_may_be_lifted_from_a_comment(tmp_path: Path) -> None:
    judge = judge_by(tmp_path, f'{ITS_OWN}verdict = "refused"\ntext_from = ["//comment()"]')
    assert judged(judge, answer(b"<x><!-- locked --></x>")).why.text == "locked"


@pytest.mark.parametrize("content", ["a = " + "[" * 3000, "a = " + "9" * 5000])
def test_a_file_that_no_one_can_read_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match="the file is not TOML"):
        judge_by(tmp_path, content)


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    rule = f'{ITS_OWN}verdict = "hold"\nstatus = [409]\n'
    with pytest.raises(ConfigError, match=r"rules\.1 \(own\): rules\.0 has that name already"):
        judge_by(tmp_path, rule + rule)


def test_the_settings_name_the_file_of_own_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text(f'{ITS_OWN}verdict = "hold"\nxpath = "//["')
    monkeypatch.setenv("OUTBOX_RULES_FILE", str(tmp_path / "own.toml"))
    with pytest.raises(ConfigError, match="it is no XPath"):
        load(need_secrets=False)
    (tmp_path / "own.toml").write_text(f'{ITS_OWN}verdict = "hold"\n')
    own, interface = load(need_secrets=False).rules
    assert [rule.name for rule in own.rules] == ["own"]
    assert interface.rules[-1].conditions() == set()
