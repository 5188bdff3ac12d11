"""What the death of a process means for the message that it had in its hands: pure."""

from __future__ import annotations

from worker.verdicts import Refused, RetryLater, Why

MOST_DEATHS = 2
"""So many processes may die over a message that they had alone."""
MOST_RESCUES = 10
"""So often a lease may run out: past it the message is what ends everything, whoever watches."""
CRASH_LOOP = "crash_loop"
PROCESS_DIED = "process_died"
_RULE = "quarantine"


def verdict_on(deaths: int, how: str) -> RetryLater | Refused:
    """Return what becomes of a message in whose quarantine a process has died.

    Args:
        deaths: how many have, this one included.
        how: how it ended, as `how_it_ended` says it.
    """
    text = f"the process that had it alone {how}"
    if deaths < MOST_DEATHS:
        return RetryLater(Why(PROCESS_DIED, text, _RULE), systemic=False, spends_try=False)
    return Refused(Why(CRASH_LOOP, f"{text}, as {deaths - 1} did before", _RULE))


def worn_out() -> Refused:
    """Return the verdict on a message whose lease has run out `MOST_RESCUES` times."""
    text = f"whoever had it has vanished without a result, {MOST_RESCUES} times"
    return Refused(Why(CRASH_LOOP, text, _RULE))
