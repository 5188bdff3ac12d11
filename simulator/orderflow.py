"""The logic of the interface, without HTTP: reads a call, then answers it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode

from simulator import pages
from simulator.access import CHALLENGE, Access
from simulator.documents import DocumentRefused, Item, read_imports
from simulator.ledger import IMPORTS, Ledger
from simulator.operations import Endpoint, endpoints_of
from simulator.options import Options
from simulator.pages import Outcome, Reply
from simulator.queries import QUERIES, listed


@dataclass(slots=True)
class Call:
    """One request, as far as it can be understood without asking whether it is allowed."""

    method: str
    headers: Mapping[str, str]
    endpoint: Endpoint | None
    query: dict[str, str]
    operation: str | None = None
    references: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    problem: str | None = None

    def scope(self, name: str) -> str | None:
        """The channel or organisation named; the query parameter wins over the header."""
        return self.query[name] if name in self.query else self.headers.get(name)


class OrderFlow:
    """A warehouse system reduced to what a shop can see of it."""

    def __init__(self, options: Options, ledger: Ledger) -> None:
        self._endpoints = endpoints_of(options.instance)
        self._access = Access(options)
        self._ledger = ledger
        self._missing_at_start = frozenset(options.missing_products)
        self._missing = set(self._missing_at_start)

    def reset(self) -> None:
        """Miss the same products as at the start; the ledger is emptied by itself."""
        self._missing = set(self._missing_at_start)

    def read(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Call:
        """Understand a request; what is wrong with it is told by the answer, not here."""
        path, _, query = target.partition("?")
        endpoint = self._endpoints.get(unquote(path) if "%" in path else path)
        call = Call(method, headers, endpoint, _read_query(query))
        if endpoint is None:
            return call
        if endpoint.action == "import":
            self._read_items(call, endpoint, body)
        else:
            call.operation = endpoint.only_operation
            call.references = _references(call.query)
        return call

    def _read_items(self, call: Call, endpoint: Endpoint, body: bytes) -> None:
        try:
            call.items = read_imports(body)
        except DocumentRefused as error:
            call.problem = str(error)
            if len(endpoint.operations) == 1:
                call.operation = endpoint.only_operation
            return
        call.operation = endpoint.operation_for(call.items[0].type)
        call.references = tuple(item.reference for item in call.items if item.reference)

    def answer(self, call: Call, number: int, omits: bool = False) -> Reply:
        """Do what a call asks, as the request of this number, and tell what came of it.

        When it omits, every second item is left out of the report, though it is carried out.
        """
        endpoint = call.endpoint
        if endpoint is None:
            return pages.server_page(404)
        if call.method != endpoint.method:
            return pages.server_page(405, {"Allow": endpoint.method})
        if not self._access.authenticates(call.headers):
            return pages.server_page(401, CHALLENGE)
        problem = self._access.problem(endpoint.scopes, call.scope) or call.problem
        if problem:
            return pages.error_page(problem)
        return self._carry_out(call, endpoint, number, omits)

    def _carry_out(self, call: Call, endpoint: Endpoint, number: int, omits: bool) -> Reply:
        match endpoint.action:
            case "import":
                return self._import(call, endpoint, number, omits)
            case "cancel":
                return self._cancel(call, number)
            case "update":
                return self._update(call, endpoint, number)
            case "query":
                return QUERIES[endpoint.only_operation](call.query, self._ledger)

    def _import(self, call: Call, endpoint: Endpoint, number: int, omits: bool) -> Reply:
        started = time.perf_counter()
        outcomes = [
            self._import_item(item, position, endpoint, number)
            for position, item in enumerate(call.items, start=1)
        ]
        told = outcomes[::2] if omits else outcomes
        return pages.import_result(told, int((time.perf_counter() - started) * 1000))

    def _import_item(self, item: Item, position: int, endpoint: Endpoint, number: int) -> Outcome:
        failure = self._failure(item, endpoint)
        if failure:
            return Outcome(item, position, "Failure", failure, f"Item {position} was not imported")
        if not self._ledger.accept(item.type, item.operation, item.reference, number):
            message = f"Duplicate {item.type} {item.reference}"
            return Outcome(item, position, "Duplicate", message, "It was imported before")
        if item.type == "product":
            self._missing.discard(item.reference)
        return Outcome(item, position, "Success")

    def _failure(self, item: Item, endpoint: Endpoint) -> str | None:
        if endpoint.operation_for(item.type) is None:
            return f"Unknown type {item.type}"
        if item.operation not in IMPORTS:
            return f"Unknown operation {item.operation}"
        if not item.reference:
            return "No externalReference was given"
        if self._missing and item.type == "order":
            return next((f"Unknown product {sku}" for sku in item.products() if sku in self._missing), None)
        return None

    def _cancel(self, call: Call, number: int) -> Reply:
        reference = call.query.get("externalReference")
        if not reference:
            return pages.error_page("No externalReference was given")
        known = self._ledger.knows("order", reference)
        if known and self._ledger.accept("order", "cancel", reference, number):
            return pages.sentence(f"Cancel operation performed for order {reference}")
        return pages.sentence(f"No cancel operation performed for order {reference}")

    def _update(self, call: Call, endpoint: Endpoint, number: int) -> Reply:
        reference = call.query.get("thirdPartyReference")
        if not reference:
            return pages.error_page("No thirdPartyReference was given")
        # The same parameters in another order ask for the same thing.
        mark = "update?" + urlencode(sorted(call.query.items()), errors="surrogatepass")
        done = self._ledger.accept(endpoint.only_type, "update", reference, number, mark)
        return pages.sentence(f"Result '{'updated' if done else 'no_operation'}' for order {reference}")


def _read_query(query: str) -> dict[str, str]:
    if not query:
        return {}
    # Of a parameter given twice the first counts.
    return dict(reversed(parse_qsl(query, keep_blank_values=True)))


def _references(query: dict[str, str]) -> tuple[str, ...]:
    named = (query.get("externalReference"), query.get("thirdPartyReference"), *listed(query))
    return tuple(dict.fromkeys(name for name in named if name))
