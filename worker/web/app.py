"""The console put together: its routes, and what stands before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from config import Configuration, Role
from worker.database import connect
from worker.personal_data import PersonalData
from worker.store.transactions import Store, impatient_clock

from . import sign_in
from .access_log import AccessLog
from .console import Console, Missing, Visit
from .pages import PAGES
from .passwords import Checks
from .roles import Guarded, Open
from .security import Guard
from .sessions import Sessions
from .templating import STATIC, assets, environment
from .tries import Tries
from .users import Users

THREADS = 8
"""Pages made at the same time, each with a connection of its own."""
STATEMENT_SECONDS = 5
"""How long the database may take for a statement of a page; SQLite for all of a transaction."""
PATIENT_SECONDS = 30
"""How long it may take instead to look many messages over before they are replayed."""
_FOR_A_YEAR = "public, max-age=31536000, immutable"


def routes() -> Sequence[BaseRoute]:
    """Return every route: each says who may ask for it."""
    return [
        Open("/health", health, waits=False),
        Open("/sign-in", sign_in.sign_in_page),
        Open("/sign-in", sign_in.sign_in, "POST"),
        Open("/static/{name}", asset, waits=False),
        Guarded("/sign-out", Role.READER, sign_in.sign_out, "POST"),
        *PAGES,
        Guarded("/{path:path}", Role.READER, nowhere),
    ]


def health(_console: Console, _request: Request, _form: Mapping[str, str]) -> Response:
    """Say that requests are answered, and nothing else."""
    return PlainTextResponse("OK\n")


def asset(console: Console, request: Request, _form: Mapping[str, str]) -> Response:
    """Return a file that pages load; its address changes with it."""
    name = request.path_params["name"]
    if name not in console.assets:
        return PlainTextResponse("There is no such file.\n", 404)
    headers = {"Cache-Control": _FOR_A_YEAR}
    return Response(console.assets[name], media_type=STATIC[name], headers=headers)


def nowhere(visit: Visit) -> Response:
    """Say that there is no such page, to those who may know which there are."""
    raise Missing(f"there is no page {visit.request.url.path}")


def application(configuration: Configuration, users: Users) -> Starlette:
    """Return the console, with connections of its own to the database."""
    engine = connect(configuration.settings.database_address(), True, THREADS, "orderflow-outbox-console")
    store = Store(engine, impatient_clock(STATEMENT_SECONDS))
    settings = configuration.settings.web
    files = assets()

    @asynccontextmanager
    async def living(_app: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        yield
        store.close()

    before = [Middleware(AccessLog, settings=settings), Middleware(Guard, settings=settings)]
    app = Starlette(routes=routes(), middleware=before, lifespan=living)
    app.state.console = Console(
        configuration=configuration,
        store=store,
        patient=Store(engine, impatient_clock(PATIENT_SECONDS)),
        users=users,
        sessions=Sessions(store, users, settings),
        checks=Checks(),
        tries=Tries(),
        templates=environment(files),
        assets=files,
        personal=PersonalData(configuration.settings.personal_data.fields),
    )
    return app
