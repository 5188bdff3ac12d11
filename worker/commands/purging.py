"""`purge`: deleting what has been kept for long enough, without waiting for an engine to do it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from config import RetentionSettings, load_settings
from worker.purge import Purger, in_words, pause_after, what_would_go
from worker.store.transactions import Store

from . import output
from .arguments import opened_store

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell how much would go.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("purge")(purge_command)


def purge_command(dry_run: DryRun = False, json: output.Json = False) -> None:
    """Delete what has been kept for as long as the settings say; engines do so by themselves."""
    keep = load_settings().retention
    gone: Counter[str] = Counter()
    with opened_store() as store, output.progress.status("purging") as status:
        for batch in what_would_go(store, keep) if dry_run else _purged(store, keep):
            gone.update(batch)
            status.update(f"{'counted' if dry_run else 'purged'} so far: {gone.total()}")
    if json:
        output.print_json({"would_go" if dry_run else "purged": {k: n for k, n in sorted(gone.items()) if n}})
    else:
        output.console.print(f"{'would go' if dry_run else 'purged'}: {in_words(gone)}")


def _purged(store: Store, keep: RetentionSettings) -> Iterator[Counter[str]]:
    """Purge batch by batch, with a rest after each for others; yield what went."""
    purger, more = Purger(store, keep), True
    while more:
        begun = time.monotonic()
        more = purger.purge_some()
        yield purger.gone
        purger.gone = Counter()
        if more:
            time.sleep(pause_after(time.monotonic() - begun, more=True, busy=False))
