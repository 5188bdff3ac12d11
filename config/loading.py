"""Reading the configuration files, and saying exactly what is wrong with them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from orderflow_outbox import PREDEFINED, Catalogue, InvalidOperation
from orderflow_outbox.errors import shown

from .destinations import Destination, DestinationsFile
from .errors import ConfigError
from .queries import Queries, QueriesFile
from .reply_rules import RulesFile
from .settings import ENVIRONMENT_PREFIX, Settings
from .values import in_words

DEFAULT_FILE = Path(__file__).parent / "outbox.toml"
INTERFACE_RULES = Path(__file__).parent / "rules.toml"
"""What replies mean unless a deployer's rules say otherwise."""
INTERFACE_QUERIES = Path(__file__).parent / "queries.toml"
"""The queries there are beside a deployer's own."""
FILE_VARIABLE = "OUTBOX_CONFIG"
DEADLINES_IN_A_LEASE = 3
"""A lease covers a wait in line, one attempt, and a margin for recording: a deadline each."""

Model = TypeVar("Model", bound=BaseModel)

_HIDDEN = "(hidden)"
_NEVER_SHOWN = ("password", "hooks", "database_url", "broker_url")
_SHOWN_ALL_THE_SAME = ("severities", "destinations")
"""Keys of a hook that hold no secret."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything the service knows."""

    settings: Settings
    destinations: Mapping[str, Destination]
    catalogue: Catalogue
    rules: tuple[RulesFile, ...]
    queries: Queries
    schemas: Mapping[str, Path]
    file: Path
    destinations_file: Path


def load(file: Path | None = None, need_secrets: bool = True) -> Configuration:
    """Read the settings file, and the files of destinations, operations and rules it names.

    Args:
        file: the settings file; by default the one OUTBOX_CONFIG names, else `config/outbox.toml`.
        need_secrets: False leaves unset passwords to be found missing later, when one is used.

    Raises:
        ConfigError: naming file, key or line, what was found and what is allowed.
    """
    file = file or Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
    settings = _settings(file)
    destinations_file = file.parent / settings.destinations_file
    parsed = _validated(DestinationsFile, destinations_file, _read_toml(destinations_file))
    _check_leases(settings, parsed.destinations, destinations_file)
    if problems := settings.alerts.problems(parsed.destinations):
        raise ConfigError([f"{_place(file, ['alerts', 'hooks'])}: {problem}" for problem in problems])
    catalogue = _catalogue(settings, file)
    _check_operations(catalogue, parsed.destinations, destinations_file)
    rules = load_rules(_beside(file, settings.rules_file), catalogue, parsed.destinations)
    queries = _queries(_beside(file, settings.queries_file), catalogue, parsed.destinations)
    if need_secrets:
        _check_secrets(settings, file, parsed.destinations, destinations_file)
    schemas = _schemas(settings, catalogue, file)
    return Configuration(
        settings, parsed.destinations, catalogue, rules, queries, schemas, file, destinations_file
    )


def load_rules(own: Path | None, catalogue: Catalogue, destinations: Iterable[str]) -> tuple[RulesFile, ...]:
    """Read the rules on replies: a deployer's own, which are asked first, and the interface's.

    Args:
        own: the deployer's file, if there is one.
        catalogue: the operations that rules may name.
        destinations: the names of the destinations that rules may name.

    Raises:
        ConfigError: naming file, rule, what was found and what is allowed.
    """
    read = []
    for file in (INTERFACE_RULES,) if own is None else (own, INTERFACE_RULES):
        rules = _validated(RulesFile, file, _read_toml(file))
        problems = rules.problems(catalogue, destinations)
        if problems:
            raise ConfigError([f"{file}: {problem}" for problem in problems])
        read.append(rules)
    return tuple(read)


def _queries(own: Path | None, catalogue: Catalogue, destinations: Iterable[str]) -> Queries:
    """Read the interface's queries, and those of a deployer's file, with the checks made by them."""
    found = Queries({}, {}, {})
    for file in (INTERFACE_QUERIES,) if own is None else (INTERFACE_QUERIES, own):
        read = _validated(QueriesFile, file, _read_toml(file))
        problems = read.problems(found.by_name, catalogue, destinations)
        if problems:
            raise ConfigError([f"{file}: {problem}" for problem in problems])
        found = Queries(
            {**found.by_name, **read.queries},
            {**found.checks, **read.checks},
            {**found.namespaces, **read.namespaces},
        )
    return found


def _beside(file: Path, other: Path | None) -> Path | None:
    """Return a file that the settings file names: a relative path starts at its folder."""
    return None if other is None else file.parent / other


def load_settings(file: Path | None = None) -> Settings:
    """Read the settings file alone, for what needs no destination."""
    return _settings(file or Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE)))


def _settings(file: Path) -> Settings:
    content = _read_toml(file)
    try:
        return Settings(**content)
    except ValidationError as error:
        raise ConfigError([_problem(Settings, file, each) for each in error.errors()]) from None
    except SettingsError as error:
        field = str(error).partition('"')[2].partition('"')[0]
        begin = f"{ENVIRONMENT_PREFIX}{field}".upper()
        names = " or ".join(sorted(name for name in os.environ if name.upper().startswith(begin)))
        raise ConfigError([f"environment variable {names}: not JSON: write JSON there"]) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError.of(
            file, "the file", f"not readable ({error.strerror})", "name one that is"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError.of(file, "the file", "not UTF-8", "save it as UTF-8") from None
    except (ValueError, RecursionError) as error:  # also a number too long, or nesting too deep
        raise ConfigError.of(file, "the file", f"not TOML ({error})", "mend that line") from None


def _validated(model: type[Model], file: Path, content: dict[str, Any]) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError([_problem(model, file, each) for each in error.errors()]) from None


def _problem(model: type[BaseModel], file: Path, error: ErrorDetails) -> str:
    steps = [str(step) for step in error["loc"]]
    key = ".".join(steps) or "the file"
    secret = any(name in step for step in steps for name in _NEVER_SHOWN)
    secret = secret and not ("hooks" in steps and any(name in steps for name in _SHOWN_ALL_THE_SAME))
    place = _place(file, steps) if model is Settings else str(file)
    if error["type"] == "extra_forbidden":
        return f"{place}: {key} is a key nobody knows: {_neighbours(model, steps)}"
    if error["type"] == "missing":
        return f"{place}: {key} is missing: {_neighbours(model, steps)}"
    found = _HIDDEN if secret else _found(error["input"])
    return f"{place}: {key} is {found}: {error['msg'].removeprefix('Value error, ')}"


def _place(file: Path, steps: list[str]) -> str:
    """Return where a setting stands: in the environment, or in the file."""
    # A list in the environment is written whole.
    named = takewhile(lambda step: not step.isdigit(), steps)
    variable = ENVIRONMENT_PREFIX + "__".join(named).upper()
    return f"environment variable {variable}" if variable in os.environ else str(file)


def _found(value: Any) -> str:
    """Return what stands there; never a whole table or an address with a login, which may hold secrets."""
    if isinstance(value, dict):
        return f"a table of {', '.join(value) or 'nothing'}"
    if isinstance(value, timedelta):
        return in_words(value)
    return _HIDDEN if "@" in str(value) else shown(value)


def _neighbours(model: type[BaseModel], steps: list[str]) -> str:
    """Name the keys allowed where `steps` leads, by walking the model's JSON schema."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    node: dict[str, Any] = schema
    for step in steps[:-1]:
        node = (
            node.get("properties", {}).get(step)
            or node.get("additionalProperties")
            or node.get("items")
            or {}
        )
        for option in (node, *node.get("anyOf", ())):
            if "$ref" in option:
                node = definitions[option["$ref"].rsplit("/", 1)[-1]]
    allowed = ", ".join(node.get("properties", {}))
    return f"the keys here are {allowed}" if allowed else "leave it out"


def _catalogue(settings: Settings, file: Path) -> Catalogue:
    if settings.operations_file is None:
        return PREDEFINED
    try:
        return Catalogue.load(file.parent / settings.operations_file)
    except InvalidOperation as error:
        raise ConfigError([str(error)]) from None


def _schemas(settings: Settings, catalogue: Catalogue, file: Path) -> Mapping[str, Path]:
    with_body = sorted(name for name, each in catalogue.items() if each.body_root is not None)
    problems = [
        f"{file}: schemas.{shown(operation)} is of no operation with a document: "
        f"choose of {', '.join(with_body)}"
        for operation in settings.schemas
        if operation not in with_body
    ]
    if problems:
        raise ConfigError(problems)
    return {operation: file.parent / schema for operation, schema in settings.schemas.items()}


def _check_operations(catalogue: Catalogue, destinations: Mapping[str, Destination], file: Path) -> None:
    known = ", ".join(sorted(catalogue))
    named = [
        (f"destinations.{name}.operations.{operation}", operation)
        for name, destination in destinations.items()
        for operation in destination.operations
    ]
    named += [
        (f"destinations.{name}.pauses.{n}.operations", operation)
        for name, destination in destinations.items()
        for n, pause in enumerate(destination.pauses)
        for operation in pause.operations
    ]
    problems = [
        f"{file}: {place}: {operation!r} is an operation nobody knows: choose of {known}"
        for place, operation in named
        if operation not in catalogue
    ]
    if problems:
        raise ConfigError(problems)


def _check_leases(settings: Settings, destinations: Mapping[str, Destination], file: Path) -> None:
    longest = settings.engine.lease / DEADLINES_IN_A_LEASE
    for name, destination in destinations.items():
        if destination.attempt_deadline > longest:
            raise ConfigError.of(
                file,
                f"destinations.{name}.attempt_deadline",
                f"{destination.attempt_deadline.total_seconds():g}s",
                f"with engine.lease = {settings.engine.lease.total_seconds():g}s it is at most "
                f"{longest.total_seconds():.3g}s, a third of it",
            )


def _check_secrets(
    settings: Settings, file: Path, destinations: Mapping[str, Destination], destinations_file: Path
) -> None:
    hooks = _place(file, ["alerts", "hooks"])
    places = {
        f"{file}: database_password": settings.database_password,
        f"{file}: broker_password": settings.broker_password,
        **{f"{_place(file, ['web', 'users'])}: {key}": place for key, place in settings.web.secrets()},
        **{f"{hooks}: alerts.hooks.{n}": hook.secret_place for n, hook in enumerate(settings.alerts.hooks)},
        **{
            f"{destinations_file}: destinations.{name}.password": d.password
            for name, d in destinations.items()
        },
    }
    problems = [
        f"{key} is not to be had from {place}: put it there"
        for key, place in places.items()
        if place is not None and place.read() is None
    ]
    if problems:
        raise ConfigError(problems)
