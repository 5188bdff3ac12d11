"""Queries, which change nothing at OrderFlow, and the checks that are made with them.

The interface's own stand in `config/queries.toml`, which is also the manual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from orderflow_outbox import Answer, Catalogue, InvalidOperation, Method, Operation, Scope
from orderflow_outbox.operations import PLACE
from orderflow_outbox.reserved import SERVICE_QUERY

from .answer_rule import AnswerRule
from .rule import problems_of
from .values import Strict


class Presence(StrEnum):
    """What a rule of a check decides: whether the message was carried out."""

    PRESENT = "present"
    ABSENT = "absent"


class Query(Strict):
    """One table `queries.NAME`."""

    path: str
    method: Literal["GET", "POST"] = "GET"
    scopes: Annotated[list[Scope], Field(max_length=len(Scope))] = Field(default_factory=list)
    query: Mapping[str, str] = Field(default_factory=dict)
    required_query: list[str] = Field(default_factory=list)

    def as_operation(self, name: str) -> Operation:
        """Return how it is addressed and judged: as an operation without a body, which is answered by XML.

        Raises:
            InvalidOperation: the name, the path or a parameter cannot be sent.
        """
        return Operation(
            name,
            self.path,
            None,
            query=self.query,
            required_query=tuple(self.required_query),
            answer=Answer.DOCUMENT,
            method=Method(self.method),
        )


class CheckRule(AnswerRule):
    """One rule on what a check is answered."""

    verdict: Presence
    reason: str
    says: str = "HTTP {status} {title}"

    @model_validator(mode="before")
    @classmethod
    def _reason_is_its_verdict(cls, value: Any) -> Any:
        return {"reason": value.get("verdict"), **value} if isinstance(value, dict) else value

    @field_validator("operations")
    @classmethod
    def _is_of_its_check(cls, value: list[str] | None) -> list[str] | None:
        if value is not None:
            raise ValueError("the check is of one operation already: leave this out")
        return value


class Check(Strict):
    """One table `checks.OPERATION`: what is asked before a message in doubt is sent again."""

    query: str
    parameters: Mapping[str, str] = Field(default_factory=dict)
    rules: list[CheckRule] = Field(min_length=1)

    @field_validator("parameters")
    @classmethod
    def _places_are_named(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if {"{", "}"} & set(PLACE.sub("", text)):
                raise ValueError(f"{name}: a brace stands alone: write a place such as {{externalReference}}")
        return value

    @model_validator(mode="after")
    def _tells_either(self) -> Check:
        for presence in Presence:
            if all(rule.verdict is not presence for rule in self.rules):
                raise ValueError(
                    f"none of its rules says {presence}: without both it would settle nothing; add one"
                )
        return self


@dataclass(frozen=True, slots=True)
class Queries:
    """All queries there are, by name, and the checks that are made with them.

    Attributes:
        checks: by the operation whose messages they are made of.
        namespaces: the prefixes that the checks' XPaths use.
    """

    by_name: Mapping[str, Query]
    checks: Mapping[str, Check]
    namespaces: Mapping[str, str]


class QueriesFile(Strict):
    """A file of queries and checks; prefixes of namespaces are the file's own."""

    namespaces: Mapping[str, str] = Field(default_factory=dict)
    queries: Mapping[str, Query] = Field(default_factory=dict)
    checks: Mapping[str, Check] = Field(default_factory=dict)

    def problems(
        self, others: Mapping[str, Query], catalogue: Catalogue, destinations: Iterable[str]
    ) -> list[str]:
        """Return what is wrong with it, each with its place.

        Args:
            others: the queries of other files.
            catalogue: the operations that checks may be of.
            destinations: the names of the destinations that rules may name.
        """
        return [
            *self._problems_of_queries(others, catalogue),
            *self._problems_of_checks({**others, **self.queries}, catalogue, sorted(destinations)),
        ]

    def _problems_of_queries(self, others: Mapping[str, Query], catalogue: Catalogue) -> list[str]:
        found = []
        for name, query in self.queries.items():
            if name in others or name in catalogue:
                found.append(f"queries.{name} is a name that is taken already: choose another")
            try:
                query.as_operation(name)
            except InvalidOperation as error:
                found.append(str(error).replace("operations.", "queries.", 1))
        return found

    def _problems_of_checks(
        self, queries: Mapping[str, Query], catalogue: Catalogue, destinations: list[str]
    ) -> list[str]:
        found = []
        for operation, check in self.checks.items():
            where = f"checks.{operation}"
            if operation not in catalogue:
                known = ", ".join(sorted(catalogue))
                found.append(f"{where} is of an operation nobody knows: choose of {known}")
            found += [
                f"{where}.parameters names {name!r}, which the service sends itself: leave it out"
                for name in check.parameters
                if name.lower() in SERVICE_QUERY
            ]
            query = queries.get(check.query)
            scope = catalogue[operation].scope if operation in catalogue else None
            if query is not None and scope is not None and query.scopes and scope not in query.scopes:
                found.append(
                    f"{where}.query is {check.query!r}, which acts in a {' or '.join(query.scopes)}, and "
                    f"{operation} names its {scope} alone: choose a query of that scope"
                )
            if query is None:
                found.append(f"{where}.query is {check.query!r}: choose one of {', '.join(sorted(queries))}")
            else:
                found += [
                    f"{where}.parameters is without {name!r}, which {check.query} needs: give it"
                    for name in query.required_query
                    if name not in check.parameters and name not in query.query
                ]
            found += problems_of(
                f"{where}.rules", check.rules, {"destinations": destinations}, self.namespaces
            )
        return found
