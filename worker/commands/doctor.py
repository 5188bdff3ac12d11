"""`doctor`: what is well, what is not, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import typer

from worker.doctor import Finding, State, examine

from . import output

IN_TROUBLE = 1


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor_command)


def doctor_command(json: output.Json = False) -> int:
    """Look at all the service needs, and say what to do; fails where something is in trouble."""
    findings = examine()
    ok = all(each.state is not State.TROUBLE for each in findings)
    if json:
        output.print_json({"ok": ok, "checks": [asdict(each) for each in findings]})
    else:
        _print(findings)
    return 0 if ok else IN_TROUBLE


def _print(findings: Sequence[Finding]) -> None:
    shown = output.table("check", "state", "text")
    for each in findings:
        text = f"{each.told}\n→ {each.fix}" if each.fix else each.told
        shown.add_row(output.plain(each.name), output.state(each.state), output.plain(text))
    output.console.print(shown)
