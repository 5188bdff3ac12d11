"""Wake the workers after a commit: optional, without it a message leaves within a second all the same."""

import os

from celery import Celery

from orderflow_outbox import Hints

broker = os.environ.get("SHOP_BROKER_URL")
app = Celery(broker=broker)
bounded = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "max_retries": 0}


def wake() -> None:
    """Send the workers a task that says nothing but: look."""
    with app.connection_for_write(transport_options=bounded) as connection:
        app.send_task("tasks.deliver", queue="orderflow", connection=connection, retry=False, expires=60)


hints = Hints(wake)


def hint() -> None:
    """Wake the workers where there is a broker to do it by."""
    if broker:
        hints.hint()
