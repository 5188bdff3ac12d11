"""The report on each item: which one it speaks of, by which rule it is judged, what the message becomes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config import ConfigError, load_rules
from orderflow_outbox import PREDEFINED, Catalogue
from worker.deliveries import Reply
from worker.rules import Judge
from worker.verdicts import Delivered, Judgement, Refused, RetryLater

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
INTERFACE = Judge(load_rules(None, PREDEFINED, ["main"]))
GROUPS = {"ok": "importSuccesses", "duplicate": "importDuplicates", "failed": "importFailures"}
OK, FAILED, AGAIN = "ok", "failed", "again"


def message(*references: str, kind: str = "order") -> bytes:
    items = "".join(
        f'<import type="{kind}" operation="insert" externalReference="{each}"/>' for each in references
    )
    return f"<imports>{items}</imports>".encode()


def report(*items: str) -> bytes:
    """Return a report; an item is written `group attribute=value … : words`."""
    groups: dict[str, list[str]] = {name: [] for name in GROUPS}
    for item in items:
        named, _, words = item.partition(":")
        group, *attributes = named.split()
        given = "".join(f' {name}="{value}"' for name, value in (each.split("=") for each in attributes))
        groups[group].append(f"<import{given}><failureMessage>{words.strip()}</failureMessage></import>")
    content = "".join(f"<{GROUPS[name]}>{''.join(of)}</{GROUPS[name]}>" for name, of in groups.items())
    return f"<importResult>{content}</importResult>".encode()


def judged(sent: bytes | None, *items: str, judge: Judge = INTERFACE, in_doubt: bool = False) -> Judgement:
    reply = Reply(200, (), report(*items))
    return judge.judge(reply, "main", PREDEFINED["order-import"], in_doubt, NOW, sent)


def fates(judgement: Judgement) -> list[tuple[str, str]]:
    words = {Delivered: OK, Refused: FAILED, RetryLater: AGAIN}
    assert [each.place for each in judgement.items] == list(range(1, len(judgement.items) + 1))
    return [(each.reference, words[type(each.verdict)]) for each in judgement.items]


@pytest.mark.parametrize(
    ("sent", "items", "expected"),
    [
        (("A",), ["ok externalReference=A"], [OK]),
        (("A", "B", "C"), ["failed item=2", "ok item=3", "ok item=1"], [OK, FAILED, OK]),
        (("A", "B"), ["failed externalReference=B", "ok externalReference=A"], [OK, FAILED]),
        (("A", "B"), ["ok type=order operation=insert externalReference=A", "failed externalReference=B"],
         [OK, FAILED]),
        (("A", "A"), ["ok externalReference=A", "failed externalReference=A"], [OK, FAILED]),
        (("A", "B"), ["ok item=2 externalReference=A", "failed externalReference=B"], [OK, FAILED]),
        (("A", "B"), ["ok item=9 externalReference=A", "failed item=x externalReference=B"], [OK, FAILED]),
        (("A", "B"), ["ok item=1", "failed item=1"], [FAILED, AGAIN]),
        (("A", "B", "C"), ["ok item=1", "ok item=1", "ok item=3"], [OK, AGAIN, OK]),
        (("A", "B"), ["ok item=1", "ok item=99"], [OK, AGAIN]),
        (("A",), ["ok externalReference=A", "failed externalReference=A"], [FAILED]),
        (("A", "B"), ["ok externalReference=A", "failed externalReference=A"], [FAILED, AGAIN]),
        (("A",), ["ok externalReference=other"], [AGAIN]),
        (("A",), ["ok item=1 externalReference=other"], [OK]),
        (("A", "B"), ["failed item=2 externalReference=other", "ok externalReference=A"], [OK, FAILED]),
        (("A", "B"), ["ok operation=merge externalReference=A", "failed operation=merge externalReference=B"],
         [OK, FAILED]),
        (("A", "B"), ["ok", "failed"], [OK, FAILED]),
        (("A", "B", "C"), ["ok item=1"], [OK, AGAIN, AGAIN]),
        (("A", "B"), ["failed externalReference=B"], [AGAIN, FAILED]),
        (("A",), ["ok externalReference=other", "failed externalReference=A"], [FAILED]),
    ],
)  # fmt: skip
def test_a_report_is_paired_by_number_else_by_name_in_order(
    sent: tuple[str, ...], items: list[str], expected: list[str]
) -> None:
    assert fates(judged(message(*sent), *items)) == list(zip(sent, expected, strict=True))


def test_blanks_around_a_reference_make_no_difference() -> None:
    for sent in (message(" A "), message(" A ", "B")):
        first = judged(sent, "failed externalReference=A: bad").items[0]
        assert (first.reference, type(first.verdict)) == ("A", Refused)


def test_a_message_that_holds_no_imports_is_not_split(tmp_path: Path) -> None:
    file = tmp_path / "operations.toml"
    file.write_text(
        '[operations.stock-count]\npath = "count.xml"\nscope = "none"\nbody_root = "stockCount"\n'
    )
    catalogue = Catalogue.load(file)
    judge = Judge(load_rules(None, catalogue, ["main"]))
    for items, kind in ((["ok", "failed: bad"], Refused), (["ok", "duplicate"], Delivered)):
        reply = Reply(200, (), report(*items))
        found = judge.judge(reply, "main", catalogue["stock-count"], False, NOW, b"<stockCount/>")
        assert isinstance(found.verdict, kind)
        assert len(found.items) == 2


def test_very_many_items_of_one_reference_are_paired_in_a_moment() -> None:
    begun = time.process_time()
    judged(message(*["SO-1"] * 8000), *["ok type=other externalReference=SO-1"] * 8000)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "named",
    ["externalReference={}", "type=order externalReference={}", "operation=merge externalReference={}", ""],
)
def test_very_many_items_are_paired_in_a_moment(named: str) -> None:
    references = [f"SO-{n}" for n in range(3000)]
    begun = time.process_time()
    found = judged(message(*references), *(f"ok {named.format(each)}" for each in references))
    assert time.process_time() - begun < 2
    assert isinstance(found.verdict, Delivered)
    assert all(each.mentioned for each in found.items)


def test_an_item_of_another_type_is_another_item() -> None:
    both = message("A").replace(b"</imports>", b"") + message("A", kind="product").replace(b"<imports>", b"")
    for order, product in ((OK, FAILED), (FAILED, OK)):
        found = judged(
            both, f"{product} type=product externalReference=A", f"{order} type=order externalReference=A"
        )
        assert fates(found) == [("A", order), ("A", product)]


@pytest.mark.parametrize(
    ("items", "kind", "reason", "text"),
    [
        (["ok item=1", "ok item=2"], Delivered, "imported", "2 imported"),
        (["ok item=1", "duplicate item=2"], Delivered, "imported", "1 imported, 1 already there"),
        (["duplicate item=1", "duplicate item=2"], Delivered, "duplicate", "0 imported, 2 already there"),
        (["failed item=1: bad", "failed item=2"], Refused, "items_failed",
         "2 of 2 items failed: A: bad; B: no reason given"),
        (["ok item=1", "failed item=2: bad"], Delivered, "split", "1 done, 1 refused"),
        (["ok item=2"], Delivered, "split", "1 done, 1 to be sent again"),
        (["failed item=2"], Delivered, "split", "1 refused, 1 to be sent again"),
    ],
)  # fmt: skip
def test_a_message_goes_the_way_of_its_items_or_is_split(
    items: list[str], kind: type, reason: str, text: str
) -> None:
    verdict = judged(message("A", "B"), *items).verdict
    assert isinstance(verdict, kind)
    assert (verdict.why.reason, verdict.why.text) == (reason, text)


def test_items_that_no_report_mentions_are_sent_again_as_such() -> None:
    mentioned, unmentioned = judged(message("A", "B"), "ok item=1").items
    assert (mentioned.mentioned, unmentioned.mentioned) == (True, False)
    assert unmentioned.verdict.why.reason == "not_mentioned"


def by(tmp_path: Path, rules: str) -> Judge:
    file = tmp_path / "own.toml"
    file.write_text(rules)
    return Judge(load_rules(file, PREDEFINED, ["main"]))


def test_a_rule_on_items_decides_by_group_words_and_doubt(tmp_path: Path) -> None:
    judge = by(
        tmp_path,
        '[[items]]\nname = "locked"\ngroup = ["importFailures"]\ntext = "Locked"\nverdict = "retry"\n'
        'reason = "locked"\nsays = "{reference}: {words}"\n'
        '[[items]]\nname = "there"\ngroup = ["importFailures"]\nin_doubt = true\n'
        "xpath = \"failureMessage = 'there'\"\n"
        'verdict = "delivered"\nreason = "there"\n'
        '[[items]]\nname = "repeat"\ngroup = ["importDuplicates"]\nin_doubt = false\nverdict = "refused"\n'
        'reason = "repeat"\n',
    )
    sent = message("A", "B", "C", "D")
    items = [
        "failed item=1 externalReference=A: Locked",
        "failed item=2: there",
        "duplicate item=3",
        "ok item=4",
    ]
    sure, doubted = (judged(sent, *items, judge=judge, in_doubt=doubt) for doubt in (False, True))
    assert [fate for _, fate in fates(sure)] == [AGAIN, FAILED, FAILED, OK]
    assert [fate for _, fate in fates(doubted)] == [AGAIN, OK, OK, OK]
    why = sure.items[0].verdict.why
    assert (why.rule, why.reason, why.text) == ("locked", "locked", "A: Locked")


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ('group = ["importFailures"]\nverdict = "hold"', r"items\.0\.verdict is 'hold'"),
        ('xpath = "//["\nverdict = "retry"', r"items\.0 \(own\): xpath is '//\[': it is no XPath"),
        ('text = "("\nverdict = "retry"', r"items\.0\.text.*no regular expression"),
        ('verdict = "retry"\n[[items]]\nname = "two"\nreason = "two"\nverdict = "retry"',
         r"items\.1 \(two\): it would never be asked"),
        ('status = [200]\nverdict = "retry"', r"items\.0\.status is a key nobody knows"),
        ('says = "{status}"\nverdict = "retry"', r"\{status\} is no place"),
    ],
)  # fmt: skip
def test_a_rule_on_items_that_makes_no_sense_is_refused_with_its_place(
    tmp_path: Path, rules: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        by(tmp_path, f'[[items]]\nname = "own"\nreason = "own"\n{rules}')
