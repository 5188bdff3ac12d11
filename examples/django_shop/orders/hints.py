"""Wake the workers after a commit: optional, without it a message leaves within a second all the same."""

import os

from orderflow_outbox import Hints

broker = os.environ.get("SHOP_BROKER_URL")
hints = Hints(broker) if broker else None


def hint() -> None:
    """Wake the workers where there is a broker to do it by."""
    if hints:
        hints.hint()
