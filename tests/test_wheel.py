"""The wheel installs into any shop: beside its own packages, on each supported Python and SQLAlchemy."""

from __future__ import annotations

import re
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from email.parser import HeaderParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.databases import on_postgresql, on_sqlite
from tests.wheels import PROJECT, RUNNING, build, environment, interpreter, run_in_shop

SCRIPT = PROJECT / "tests" / "installed" / "shop_script.py"
CLASSIFIERS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["classifiers"]
PYTHONS = [match[1] for each in CLASSIFIERS if (match := re.search(r":: Python :: (\d+\.\d+)$", each))]
SERIES = ["2.0.*", "2.1.*"]
LOWEST = "2.0.0"
RUN_BY_THE_LOWEST = ("3.11", "3.12")
BROUGHT = {"orderflow-outbox", "sqlalchemy", "typing-extensions"}
BROUGHT_BY_SOME_SQLALCHEMY = {"greenlet"}

OLDEST = LOWEST if RUNNING in RUN_BY_THE_LOWEST else "2.0.*"
WITH_POSTGRESQL = (f"sqlalchemy=={OLDEST}", "psycopg[binary]")
PAIRS = [(python, SERIES[n % len(SERIES)]) for n, python in enumerate(PYTHONS)]
"""Each Python and each series of SQLAlchemy once; the other pairs have their turn in the soak."""
ENVIRONMENTS = [
    *((python, (f"sqlalchemy=={series}",)) for python, series in PAIRS),
    (RUNNING, WITH_POSTGRESQL),
]

pytestmark = pytest.mark.timeout(300)  # the first time, packages are downloaded

Environments = Callable[[str, tuple[str, ...]], Path]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environments(wheel: Path) -> Iterator[Environments]:
    """Gives the environment of a Python and requirements; they are made two at a time, ahead of tests."""

    def make(python: str, requirements: tuple[str, ...], folder: Path) -> Path:
        found = interpreter(python)
        if found is None:
            pytest.skip(f"no Python {python} with SQLite on this machine")
        return environment(found, folder, wheel, *requirements)

    with TemporaryDirectory(prefix="outbox-shops-") as folder, ThreadPoolExecutor(2) as pool:
        begun: dict[Any, Future[Path]] = {}

        def begin(python: str, requirements: tuple[str, ...]) -> Future[Path]:
            wanted = (python, requirements)
            if wanted not in begun:
                begun[wanted] = pool.submit(make, *wanted, Path(folder) / f"{len(begun)}")
            return begun[wanted]

        for each in ENVIRONMENTS:
            begin(*each)
        yield lambda *wanted: begin(*wanted).result()
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop's folder, with modules of its own that are called as the service's are."""
    folder = tmp_path / "shop"
    for package in ("config", "tasks"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text('"""The shop\'s own."""\n')
    (folder / "worker.py").write_text('"""The shop\'s own."""\n')
    return folder


def sell(python: Path, shop: Path, engine: Engine) -> Any:
    """Run the shop on the database of `engine`, and check that its own modules stayed its own."""
    url = engine.url.render_as_string(hide_password=False)
    told = run_in_shop(python, shop, SCRIPT, url)
    assert [Path(file).is_relative_to(shop) for file in told["files"].values()] == [True] * 3
    assert Path(told["library"]).is_relative_to(python.parents[1])
    return told


def distributions(told: Any) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in told["distributions"]}


@on_sqlite
@pytest.mark.parametrize(
    ("python", "series"),
    [
        pytest.param(python, series, marks=[pytest.mark.soak] * ((python, series) not in PAIRS))
        for python in PYTHONS
        for series in SERIES
    ],
)
def test_a_shop_stores_its_orders(
    python: str, series: str, environments: Environments, shop: Path, engine: Engine
) -> None:
    told = sell(environments(python, (f"sqlalchemy=={series}",)), shop, engine)
    assert told["sqlalchemy"].startswith(series.removesuffix("*"))
    assert distributions(told) - BROUGHT_BY_SOME_SQLALCHEMY == BROUGHT


@on_sqlite
@pytest.mark.skipif(RUNNING not in RUN_BY_THE_LOWEST, reason=f"SQLAlchemy {LOWEST} is older than {RUNNING}")
def test_a_shop_with_the_lowest_sqlalchemy_stores_its_orders(
    environments: Environments, shop: Path, engine: Engine
) -> None:
    told = sell(environments(RUNNING, WITH_POSTGRESQL), shop, engine)
    assert told["sqlalchemy"] == LOWEST


@on_postgresql
def test_a_shop_on_postgresql_stores_its_orders(
    environments: Environments, shop: Path, engine: Engine
) -> None:
    told = sell(environments(RUNNING, WITH_POSTGRESQL), shop, engine)
    assert told["sqlalchemy"].startswith("2.0.")


def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    name, version = wheel.name.split("-")[:2]
    assert {each.partition("/")[0] for each in names} == {"orderflow_outbox", f"{name}-{version}.dist-info"}
    assert "orderflow_outbox/py.typed" in names


def test_the_wheel_requires_sqlalchemy_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(file.read(metadata).decode())
    required = headers.get_all("Requires-Dist", [])
    assert [each for each in required if "extra ==" not in each] == ["sqlalchemy>=2.0"]
