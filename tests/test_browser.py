"""The console in a browser: usable by everyone, in light and dark, wide and narrow, harmed by nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, expect

from config import Role, load
from orderflow_outbox.tables import audit, incident
from tests.browsers import NARROW, WIDE, Surfer
from tests.consoles import USERS, RunningConsole, console
from tests.documents import order
from tests.looks import routes_not_seen
from tests.rig import Place, Rig, free_port, rig
from tests.steps import DELIVERED, LATER, Clock, bury, finish, put, rows, why
from worker.acknowledging import acknowledge
from worker.by_hand import discard, hold, resume
from worker.deliveries import Reply
from worker.replays import runs
from worker.replays.editing import Editor
from worker.replays.run import Care
from worker.schemas import Schemas
from worker.store.finding import Filter
from worker.store.transactions import Store
from worker.verdicts import Refused

HOSTILE = "<script>document.title='harmed'</script><img src=x onerror=\"document.title='harmed'\">\u202e"
KEY = "order:<script>document.title='harmed'</script>"
REASON = "'\"><script>document.title='harmed'</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig in which all has happened that a page can tell of."""
    folder = tmp_path_factory.mktemp("browsed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERFLOW_MAIN_PASSWORD", "demo")
        for name in ("OUTBOX_DATABASE_URL", "OUTBOX_STATE_DIR"):
            patch.delenv(name, raising=False)
        web = f"port = {free_port()}\nusers = [{USERS}]"
        with rig(Place(folder, f"sqlite:///{folder}/outbox.db"), web=web) as made:
            happen(made)
            yield made


@pytest.fixture(scope="module")
def running(made: Rig) -> Iterator[RunningConsole]:
    with console(made) as running:
        yield running


def happen(made: Rig) -> None:
    """Let messages be delivered, fail, die and wait, one of them hostile in all it can be."""
    clock = Clock()
    clock.forward(timedelta(minutes=-1))
    store = Store(made.engine, clock)
    clock.forward(timedelta(seconds=5))
    put(made.engine, key=KEY, payload=order("SO-1", sku=HOSTILE.replace("\u202e", "")))
    finish(
        store, Refused(why("items_failed", HOSTILE)), reply=Reply(200, (("x", HOSTILE),), HOSTILE.encode())
    )
    for verdict in (DELIVERED, DELIVERED, LATER):
        put(made.engine)
        finish(store, verdict, reply=Reply(200, (("content-type", "text/xml"),), b"<ok><a>1</a></ok>"))
    over = bury(store, made.engine, "no_such_article")
    discard(store, over, "anna", REASON)
    failed = bury(store, made.engine, "http_500")
    mended = bury(store, made.engine, payload=order("SO-3", sku="old"))
    for _ in range(2):
        put(made.engine, key="order:SO-9")
    configuration = load(made.file, need_secrets=False)
    editor = Editor(configuration.catalogue, Schemas({}))
    editor.replay(store, mended, order("SO-3", sku=HOSTILE).encode(), "anna", REASON)
    wanted = Filter(ids=(failed, over, 99))
    runs.begin(store, wanted, Care(canary=1, stop_share=0.2), "anna", REASON, configuration)


PAGES = (
    "/",
    "/messages/1",
    "/messages/9",
    "/messages/10",
    "/messages/1/edit",
    "/dead",
    "/dead/replay?every=yes",
    "/dead/discard?every=yes",
    "/replays",
    "/replays/1",
    "/destinations",
    "/incidents",
    "/audit",
    "/search?q=items",
)
MORE_PAGES = ("/?span=day", "/messages/2", "/search?q=stat:dead", "/search?q=id:99", "/nowhere")


def test_every_page_of_the_console_is_looked_at() -> None:
    assert routes_not_seen(PAGES) == [], "name an address of each here"


def faults_of(surfer: Surfer, path: str) -> dict[str, list[str]]:
    """Return what is wrong with a page: all of it dark and narrow, its colours light and wide too."""
    surfer.page.goto(path)
    surfer.page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    surfer.look("dark", NARROW)
    found = {f"{path}, dark and narrow": surfer.faults()}
    surfer.look("light", WIDE)
    found[f"{path}, light and wide"] = surfer.faults("color-contrast")
    return {where: faults for where, faults in found.items() if faults}


@pytest.mark.parametrize("pages", [PAGES, pytest.param(MORE_PAGES, marks=pytest.mark.soak)])
def test_everyone_can_use_every_page_in_light_and_dark_wide_and_narrow(
    browser: Browser, running: RunningConsole, pages: tuple[str, ...]
) -> None:
    # Colours that are still on their way from one scheme to the other are none to judge.
    with Surfer(browser, running, often=False, reduced_motion="reduce") as anna:
        found = faults_of(anna, "/sign-in")
        anna.sign_in(Role.ADMINISTRATOR)
        for path in pages:
            found |= faults_of(anna, path)
        assert found == {}
        assert [each for each in anna.complaints if "404" not in each and "400" not in each] == []


def test_what_is_hostile_is_shown_as_text_and_does_nothing(browser: Browser, running: RunningConsole) -> None:
    with Surfer(browser, running, often=False) as anna:
        anna.sign_in(Role.ADMINISTRATOR)
        for path in (*PAGES, *MORE_PAGES):
            anna.page.goto(path)
            assert anna.page.title() != "harmed", path
            assert anna.page.evaluate("document.scripts.length") == 1, path
            assert anna.page.evaluate("document.images.length") == 0, path
        assert not [each for each in anna.complaints if "404" not in each and "400" not in each]
        anna.page.goto("/messages/1")
        page = anna.page.locator("main").inner_text()
        assert KEY in page
        assert HOSTILE.replace("\u202e", "⟨U+202E⟩") in page, "the reason of its death, and the reply"
        anna.page.goto("/audit")
        assert REASON in anna.page.locator("main").inner_text()


def test_a_destination_is_held_and_resumed_by_keyboard_alone(
    browser: Browser, running: RunningConsole, made: Rig
) -> None:
    with Surfer(browser, running) as otto:
        otto.sign_in(Role.OPERATOR)
        otto.page.keyboard.press("Tab")
        expect(otto.page.get_by_role("link", name="Skip to the page")).to_be_focused()
        otto.page.get_by_role("link", name="Destinations", exact=True).focus()
        otto.page.keyboard.press("Enter")
        otto.page.wait_for_url("**/destinations")
        otto.page.get_by_label("Why hold it").focus()
        otto.page.keyboard.type("they move house")
        otto.page.keyboard.press("Enter")
        expect(otto.page.locator(".done")).to_have_text("The destination is held: nothing is sent to it.")
        expect(otto.page.locator("#way-1")).to_contain_text("main is held by otto")
        otto.page.get_by_label("Why resume it").focus()
        otto.page.keyboard.type("they are back")
        otto.page.keyboard.press("Enter")
        expect(otto.page.locator(".done")).to_have_text("The destination is open again.")
    assert [each["verb"] for each in rows(made.engine, audit)][-2:] == ["hold", "resume"]


def test_shortcuts_help_and_can_be_switched_off(browser: Browser, running: RunningConsole) -> None:
    with Surfer(browser, running) as rita:
        rita.sign_in(Role.READER)
        box = rita.page.locator("#lookup")
        rita.page.keyboard.press("/")
        expect(box).to_be_focused()
        rita.page.keyboard.type("a/b?")
        expect(box).to_have_value("a/b?")
        box.blur()
        rita.page.keyboard.press("?")
        dialog = rita.page.get_by_role("dialog", name="Keyboard shortcuts")
        expect(dialog).to_be_visible()
        assert rita.faults() == []
        dialog.get_by_label("Use shortcuts of a single key").uncheck()
        rita.page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        rita.page.reload()
        rita.page.keyboard.press("?")
        rita.page.keyboard.press("/")
        expect(dialog).to_be_hidden()
        expect(rita.page.locator("#lookup")).not_to_be_focused()


def test_a_page_that_is_watched_renews_itself_and_leaves_people_where_they_are(
    browser: Browser, running: RunningConsole, made: Rig
) -> None:
    store = Store(made.engine)
    with Surfer(browser, running, reduced_motion="reduce") as otto:
        otto.sign_in(Role.OPERATOR)
        expect(otto.page.locator("#live")).to_contain_text("Live")
        otto.page.get_by_text("The numbers of both charts").click()
        destination = otto.page.locator("#destinations").get_by_role("link", name="main")
        destination.focus()
        hold(store, "main", "anna", "they move house")
        expect(otto.page.locator("#destinations")).to_contain_text("main is held by anna")
        expect(destination).to_be_focused()
        expect(otto.page.locator("#flow-numbers")).to_have_attribute("open", "")
        resume(store, "main", "anna", "they are back")
        expect(otto.page.locator("#destinations")).not_to_contain_text("held")


def test_what_somebody_has_typed_outlives_the_renewal(
    browser: Browser, running: RunningConsole, made: Rig
) -> None:
    *_, oldest = rows(made.engine, incident, resolved_at=None)
    with Surfer(browser, running) as otto:
        otto.sign_in(Role.OPERATOR)
        otto.page.goto("/incidents")
        reason = otto.page.get_by_label("Why acknowledge it").first
        reason.fill("half a sent")
        reason.blur()
        acknowledge(Store(made.engine), oldest["id"], "anna", "I look at it")
        for _ in range(3):
            otto.page.wait_for_event("response")
        expect(reason).to_have_value("half a sent")
        reason.fill("")
        reason.blur()
        expect(otto.page.locator("#open")).to_contain_text("Acknowledged by anna")


def test_a_page_says_when_it_is_paused_and_goes_on_by_itself(
    browser: Browser, running: RunningConsole
) -> None:
    with Surfer(browser, running) as rita:
        rita.sign_in(Role.READER)
        told = rita.page.locator("#live")
        rita.page.route("**/*", lambda route: route.abort())
        expect(told).to_contain_text("Paused: the console does not answer.")
        rita.page.unroute("**/*")
        expect(told).to_contain_text("Live")
        rita.page.context.clear_cookies()
        expect(told).to_contain_text("Paused: you are signed out.")


def test_without_javascript_everything_works_still(browser: Browser, running: RunningConsole) -> None:
    with Surfer(browser, running, java_script_enabled=False) as otto:
        otto.sign_in(Role.OPERATOR)
        otto.page.get_by_label("Find a message by its number, key or term").fill("#1")
        otto.page.get_by_role("button", name="Find").click()
        otto.page.wait_for_url("**/messages/1")
        otto.page.get_by_text("Document, ").click()
        expect(otto.page.get_by_label("Document, laid out")).to_be_visible()
        otto.page.get_by_role("button", name="Sign out").click()
        otto.page.wait_for_url("**/sign-in")
