"""XML schemas: a document that does not fit its operation's is dead without a request."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from config import ConfigError
from orderflow_outbox import enqueue
from orderflow_outbox.tables import dead_letter
from simulator import Options
from tests.rig import Place, engine_of, eventually, rig
from tests.shell import Shell
from worker.commands import FAILED, USAGE_ERROR
from worker.schemas import Schemas

SCHEMA = """<?xml version="1.0" encoding="UTF-8"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:element name="imports"><xs:complexType><xs:sequence>
    <xs:element name="import" maxOccurs="unbounded"><xs:complexType mixed="true">
      <xs:attribute name="type" fixed="order" use="required"/>
      <xs:attribute name="operation"/>
      <xs:attribute name="externalReference" use="required"/>
    </xs:complexType></xs:element>
  </xs:sequence></xs:complexType></xs:element>
</xs:schema>
"""
FITTING = '<imports>\n<import type="order" operation="insert" externalReference="SO-1">a=b</import></imports>'
UNFIT = '<imports>\n<import type="order">state=created</import></imports>'
PROBLEM = "line 2: Element 'import': The attribute 'externalReference' is required but missing."


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "order.xsd"
    file.write_text(SCHEMA)
    monkeypatch.setenv("OUTBOX_SCHEMAS", f'{{"order-import": "{file}"}}')
    return file


def test_a_document_that_does_not_fit_is_dead_with_line_and_reason_and_never_sent(
    place: Place, schema: Path
) -> None:
    with rig(place, Options()) as made, engine_of(made):
        with made.engine.begin() as connection:
            unfit = enqueue(connection, "order-import", UNFIT, channel="web").id
            enqueue(connection, "order-import", FITTING, channel="web")
            enqueue(connection, "return-import", UNFIT.replace("order", "return"), organisation="acme")
        eventually(lambda: [row.state for row in made.rows()][:2] == ["dead", "delivered"])
        eventually(lambda: len(made.simulator.ledger.requests) == 2)
        assert made.attempts(unfit) == []
        with made.engine.connect() as connection:
            letter = connection.execute(select(dead_letter).where(dead_letter.c.message_id == unfit)).one()
        assert (letter.reason, letter.text) == ("schema_invalid", PROBLEM)


def test_a_value_that_does_not_fit_is_not_told(schema: Path, tmp_path: Path) -> None:
    schema.write_text(
        SCHEMA.replace(
            '<xs:attribute name="externalReference" use="required"/>',
            '<xs:attribute name="externalReference" type="xs:integer"/>',
        )
    )
    problem = Schemas({"order-import": schema}).problem("order-import", FITTING.encode())
    assert problem is not None
    assert "SO-1" not in problem
    assert problem.endswith(
        "attribute 'externalReference': The value is not a valid value of the atomic type 'xs:integer'."
    )


def test_what_was_sent_before_is_not_held_against_a_schema_that_came_later(
    place: Place, schema: Path
) -> None:
    with rig(place, Options()) as made:
        with made.engine.begin() as connection:
            stored = enqueue(connection, "order-import", UNFIT, channel="web").id
        with made.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE outbox_message SET tries = 1 WHERE id = {stored}")
        with engine_of(made):
            eventually(lambda: made.attempts(stored))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "which is not readable (No such file or directory): name a file that is"),
        ("<schema/>", "which is no XML schema"),
        ("<xs:schema", "which is no XML schema"),
    ],
)
def test_a_schema_that_is_none_is_refused(tmp_path: Path, content: str | None, problem: str) -> None:
    file = tmp_path / "order.xsd"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as refused:
        Schemas({"order-import": file})
    (told,) = refused.value.problems
    assert told.startswith(f"schemas.order-import is {file}, ")
    assert problem in told
    assert "\n" not in told


def test_a_schema_may_include_what_stands_beside_it(tmp_path: Path) -> None:
    (tmp_path / "types.xsd").write_text(SCHEMA)
    head = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">'
    (tmp_path / "order.xsd").write_text(f'{head}<xs:include schemaLocation="types.xsd"/></xs:schema>')
    schemas = Schemas({"order-import": tmp_path / "order.xsd"})
    assert schemas.problem("order-import", UNFIT.encode()) == PROBLEM
    assert schemas.problem("order-import", FITTING.encode()) is None
    assert schemas.problem("order-cancel", None) is None


def test_check_tells_what_would_be_refused_and_by_whom(
    capsys: pytest.CaptureFixture[str], engine: Engine, schema: Path, tmp_path: Path
) -> None:
    shell, file = Shell(capsys), tmp_path / "order.xml"
    file.write_text(FITTING)
    assert "fits order-import, by the interface's rules and its XML schema" in shell.good("check", file).out
    for document, problem in ((UNFIT, PROBLEM), ("<import/>", "the root is <imports>")):
        file.write_text(document)
        ran = shell.any("check", file)
        assert (ran.status, ran.out, ran.err.count("\n")) == (FAILED, "", 1)
        assert problem in ran.err
    assert shell.any("check", file, "--json").json["ok"] is False
    assert shell.any("check", tmp_path / "none.xml").status == USAGE_ERROR
    assert "choose one of" in shell.any("check", file, "--operation", "orders").err


def test_schemas_of_what_has_no_document_are_refused(
    capsys: pytest.CaptureFixture[str], engine: Engine, schema: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(capsys)
    monkeypatch.setenv("OUTBOX_SCHEMAS", f'{{"order-cancel": "{schema}"}}')
    ran = shell.any("config", "check")
    assert ran.status == FAILED
    assert "schemas.'order-cancel' is of no operation with a document: choose of order-import" in ran.err
    schema.write_text("<none/>")
    monkeypatch.setenv("OUTBOX_SCHEMAS", f'{{"order-import": "{schema}"}}')
    assert "which is no XML schema" in shell.any("config", "check").err
