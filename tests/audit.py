"""``python -m tests.audit``: look up known vulnerabilities of what is pinned; without a network, say so.

It fails where one is known, and only then: that a place cannot be reached says nothing of what is pinned.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).parents[1] / "requirements"
SECONDS = 300
WORDS = 200
"""So many characters are told of why the look-up failed."""
OPTIONS = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off")


def told(answer: str, error: str) -> tuple[list[str], bool]:
    """Return what is to be said of a look-up, and whether all is well.

    Args:
        answer: the document that pip-audit printed; nothing where it gave up.
        error: what it said besides.
    """
    try:
        found = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        why = (error.strip().splitlines() or ["no answer"])[-1][:WORDS]
        return [f"vulnerabilities were not looked up: {why}"], True
    known = [
        f"{each['name']} {each['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions'])}"
        for each in found
        for fault in each.get("vulns", ())
    ]
    looked_up = sum("vulns" in each for each in found)
    if known:
        return known, False
    if looked_up < len(found):
        return [
            f"vulnerabilities of {len(found) - looked_up} of {len(found)} packages cannot be looked up"
        ], True
    return [f"no vulnerability is known of {looked_up} packages"], True


def main() -> int:
    """Look up what the development environment pins, which holds all that the service does."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINNED / "dev.txt"), *OPTIONS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        lines, well = told("", f"no answer within {SECONDS} s")
    else:
        lines, well = told(done.stdout, done.stderr)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
