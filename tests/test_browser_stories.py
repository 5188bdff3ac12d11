"""What somebody does at night, in a browser, beside a worker that delivers: each story from page to page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import select

from config import Role
from orderflow_outbox import enqueue
from orderflow_outbox.tables import audit, body, message, replay_run, term
from simulator import Options
from tests.browsers import Surfer
from tests.consoles import USERS, RunningConsole, console
from tests.documents import order
from tests.rig import Place, Rig, eventually, free_port, rig
from tests.steps import rows

REASON = "renamed <script>document.title='harmed'</script>"
PRODUCT = (
    '<imports><import type="product" operation="insert" externalReference="SKU-9">name=A</import></imports>'
)
MANY = 12
MARKED = b'\xef\xbb\xbf<?xml version="1.0"?>\r\n'
"""The beginning of a document as some write it: a byte order mark, and an end of its line like no other."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig with a worker at work, to whose receiver two articles are unknown."""
    folder = tmp_path_factory.mktemp("stories")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERFLOW_MAIN_PASSWORD", "demo")
        for name in ("OUTBOX_DATABASE_URL", "OUTBOX_STATE_DIR"):
            patch.delenv(name, raising=False)
        options = Options(missing_products=["SKU-1", "SKU-9"])
        place = Place(folder, f"sqlite:///{folder}/outbox.db")
        web = f"port = {free_port()}\nusers = [{USERS}]"
        with rig(place, options, web=web) as made, made.worker():
            yield made


@pytest.fixture(scope="module")
def running(made: Rig) -> Iterator[RunningConsole]:
    with console(made) as running:
        yield running


@pytest.fixture
def otto(browser: Browser, running: RunningConsole) -> Iterator[Surfer]:
    """An operator who is signed in, and whose browser has nothing to complain of in the end."""
    with Surfer(browser, running) as otto:
        otto.sign_in(Role.OPERATOR)
        yield otto
        assert otto.complaints == []


def put(made: Rig, *references: str, sku: str) -> list[int]:
    with made.engine.begin() as connection:
        return [
            enqueue(
                connection,
                "order-import",
                order(each, sku=sku),
                channel="web",
                key=f"order:{each}",
            ).id
            for each in references
        ]


def states_of(made: Rig, numbers: list[int]) -> set[str]:
    with made.engine.connect() as connection:
        return set(connection.scalars(select(message.c.state).where(message.c.id.in_(numbers))))


def taken(made: Rig) -> Counter[str]:
    """Return how often the receiver has carried out each order."""
    return Counter(each.reference for each in made.simulator.ledger.accepted if each.type == "order")


def test_an_order_is_found_by_its_number_mended_and_seen_delivered(made: Rig, otto: Surfer) -> None:
    before = MARKED + order("SO-1001").encode() + b"\n"
    with made.engine.begin() as connection:
        number = enqueue(connection, "order-import", before, channel="web", key="order:SO-1001").id
    eventually(lambda: states_of(made, [number]) == {"dead"})
    eventually(lambda: rows(made.engine, term, value="SO-1001"), what="it can be found")
    page = otto.page
    page.get_by_label("Find a message by its number, key or term").fill("SO-1001")
    page.get_by_role("button", name="Find").click()
    page.wait_for_url(f"**/messages/{number}")
    expect(page.locator("#standing")).to_contain_text("SKU-1")
    page.get_by_role("link", name="Edit and replay").click()
    document = page.get_by_label("Document", exact=True)
    document.fill(document.input_value().replace("SKU-1", "SKU-2"))
    page.get_by_role("button", name="See the difference").click()
    expect(page.locator("ins")).to_have_text("+orderLine.1.product.externalReference=SKU-2")
    page.get_by_label("Why send it so").fill(REASON)
    page.get_by_role("button", name="Send it so").click()
    expect(page.locator(".done")).to_contain_text("This is the replay with the edited document")
    expect(page.locator("#standing .lead")).to_contain_text("delivered")
    expect(page.locator("#edited")).to_contain_text("SKU-2")
    (sent,) = rows(made.engine, body, message_id=number + 1)
    assert sent["payload"] == before.replace(b"SKU-1", b"SKU-2"), "and no other byte is another"
    assert taken(made)["SO-1001"] == 1
    page.get_by_role("link", name=str(number), exact=True).first.click()
    expect(page.locator("#audit")).to_contain_text(f"edit by otto: {REASON}")
    assert page.title() != "harmed"


def test_a_group_is_replayed_with_a_canary_from_the_dry_run_to_its_end(made: Rig, otto: Surfer) -> None:
    references = [f"SO-2{n:03}" for n in range(MANY)]
    numbers = put(made, *references, sku="SKU-9")
    eventually(lambda: states_of(made, numbers) == {"dead"})
    with made.engine.begin() as connection:
        product = enqueue(connection, "product-import", PRODUCT, organisation="acme").id
    eventually(lambda: states_of(made, [product]) == {"delivered"})
    page = otto.page
    page.get_by_role("link", name="Dead letters", exact=True).click()
    page.get_by_role("link", name="Replay those of", exact=False).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Dry run: {MANY} of {MANY} would be replayed")
    page.get_by_label("So many first").fill("2")
    page.get_by_label("Why replay them").fill(REASON)
    page.get_by_role("button", name=f"Replay {MANY}").click()
    expect(page.locator(".done")).to_contain_text("The run has begun")
    expect(page.locator("#standing .lead")).to_contain_text("finished")
    expect(page.locator("#standing")).to_contain_text(f"{MANY} of {MANY} have ended")
    expect(page.locator("#standing")).to_contain_text(REASON)
    assert page.title() != "harmed"
    assert {taken(made)[each] for each in references} == {1}
    (run,) = rows(made.engine, replay_run)
    assert (run["canary"], run["delivered"], run["begun_by"]) == (2, MANY, "otto")


def test_what_waits_for_a_held_destination_is_delivered_once_it_is_resumed(made: Rig, otto: Surfer) -> None:
    page = otto.page
    page.get_by_role("link", name="Destinations", exact=True).click()
    page.get_by_label("Why hold it").fill("they move house")
    page.get_by_role("button", name="Hold").click()
    expect(page.locator("#way-1")).to_contain_text("main is held by otto")
    (number,) = put(made, "SO-3001", sku="SKU-2")
    expect(page.locator("#way-1")).to_contain_text("1, of which 1 due")
    page.get_by_label("Why resume it").fill("they are back")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".done")).to_have_text("The destination is open again.")
    page.goto(f"/messages/{number}")
    expect(page.locator("#standing .lead")).to_contain_text("delivered")
    assert [each["verb"] for each in rows(made.engine, audit)][-2:] == ["hold", "resume"]


def test_those_ticked_are_discarded_once_their_number_was_seen(made: Rig, otto: Surfer) -> None:
    numbers = put(made, "SO-4001", "SO-4002", "SO-4003", sku="SKU-1")
    eventually(lambda: states_of(made, numbers) == {"dead"})
    page = otto.page
    page.goto("/dead")
    for each in numbers[:2]:
        page.get_by_label(f"Tick message {each}").check()
    page.get_by_role("button", name="Discard those ticked").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Discard 2 dead letters?")
    page.get_by_label("Why discard them").fill("a test")
    page.get_by_role("button", name="Discard 2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 of 2 are discarded")
    page.get_by_role("link", name="Back to the dead letters").click()
    expect(page.locator("main")).to_contain_text("There is none")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("#letters")).to_contain_text("order:SO-4003")
