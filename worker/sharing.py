"""How engines share the slots of a destination: pure, a function of what each of them wants."""

from __future__ import annotations

from collections.abc import Mapping


def fair_shares(window: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return how many slots each engine may hold: as many as the others, and what those leave.

    Args:
        window: the slots there are.
        wanted: how many each engine has a use for, by its name.
    """
    shares = dict.fromkeys(wanted, 0)
    left = window
    hungry = sorted(name for name, number in wanted.items() if number > 0)
    while left >= len(hungry) > 0:
        portion = left // len(hungry)
        for name in hungry:
            given = min(portion, wanted[name] - shares[name])
            shares[name] += given
            left -= given
        hungry = [name for name in hungry if shares[name] < wanted[name]]
    for name in hungry[:left]:  # what cannot be divided
        shares[name] += 1
    return shares


def may_take(window: int, held: Mapping[str, int], engine: str) -> int:
    """Return how many slots an engine may hold: those it holds, and half of what nobody does.

    So mostly there is one for an engine that wakes up for a single message, although another has just had a
    use for all of them; who wants more asks again.

    Args:
        held: by the name of each engine.
    """
    own = held.get(engine, 0)
    left = window - sum(held.values())
    return own + max(0, -(-left // 2))
