"""What a request looks like on the wire: address, scope, credentials, identity; and what is shown of it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from config import Destination, load
from config.errors import SecretMissing
from orderflow_outbox import PREDEFINED
from orderflow_outbox.reserved import SERVICE_HEADERS
from worker.deliveries import Claim, Request
from worker.masking import MASKED, masked
from worker.requests import RequestBuilder

SECRET = "pa:ss wörd"
BASIC = "Basic " + base64.b64encode(f"shop:{SECRET}".encode()).decode()
ENCODED = base64.b64encode(SECRET.encode()).decode()
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERFLOW_MAIN_PASSWORD", SECRET)


def destination(**given: Any) -> Destination:
    usual = {
        "url": "https://orderflow.example.com/web",
        "user": "shop",
        "password": {"env": "ORDERFLOW_MAIN_PASSWORD"},
    }
    return Destination.model_validate({**usual, **given})


def claim(**given: Any) -> Claim:
    usual = Claim(
        id=1,
        destination="main",
        operation="order-import",
        channel="web",
        organisation=None,
        key=None,
        version=None,
        idempotency_key="SO-1001/1",
        token=1,
        attempt=1,
        tries=0,
        in_doubt=False,
        edited=False,
        created_at=NOW,
        expires_at=None,
        replay_of=None,
        claimed_at=NOW,
        payload=b"<imports><import/></imports>",
        query={},
        headers={},
    )
    return replace(usual, **given)


def cancel(**given: Any) -> Claim:
    return claim(operation="order-cancel", payload=None, **{"query": {"externalReference": "SO-1"}, **given})


def built(of: Claim, **given: Any) -> Request:
    return RequestBuilder(destination(**given)).build(of, PREDEFINED[of.operation])


# Address


@pytest.mark.parametrize("allowed", [False, True])
def test_a_request_says_whether_it_may_go_to_an_inner_address(allowed: bool) -> None:
    builder = RequestBuilder(destination(private_addresses=allowed))
    inventory = load().queries.by_name["inventory"].as_operation("inventory")
    assert builder.build(claim(), PREDEFINED["order-import"]).private_addresses is allowed
    assert builder.ask(inventory, {}, None, "acme").private_addresses is allowed


def test_an_import_is_posted_below_the_instance_byte_for_byte() -> None:
    request = built(claim())
    assert request.line == "POST https://orderflow.example.com/web/remoteorder/imports/importitems.xml"
    assert request.body == b"<imports><import/></imports>"
    assert request.headers["Content-Type"] == "application/xml; charset=utf-8"


def test_a_closing_slash_of_the_address_makes_no_double_one() -> None:
    assert built(claim(), url="https://orderflow.example.com/web/").url == built(claim()).url


def test_a_request_without_a_body_has_no_content_type() -> None:
    request = built(cancel())
    assert request.body is None
    assert "Content-Type" not in request.headers


@pytest.mark.parametrize("value", ["SO 1&action=x", "100%", "a=b#c", "日本", "a/b?c", "a+b"])
def test_a_query_value_arrives_as_it_was_given(value: str) -> None:
    address = urlsplit(built(cancel(query={"externalReference": value})).url)
    assert address.path == "/web/remoteorder/order/cancel.xml"
    assert parse_qsl(address.query) == [("externalReference", value)]
    assert not address.fragment


# Credentials


@pytest.mark.parametrize(
    ("authentication", "expected"),
    [
        ("basic", {"Authorization": BASIC}),
        ("custom", {"user": "shop", "password": ENCODED}),
        ("both", {"Authorization": BASIC, "user": "shop", "password": ENCODED}),
    ],
)
def test_credentials_travel_as_configured(authentication: str, expected: dict[str, str]) -> None:
    headers = built(claim(), authentication=authentication).headers
    assert {n: v for n, v in headers.items() if n in {"Authorization", "user", "password"}} == expected


@pytest.mark.parametrize("authentication", ["basic", "custom", "both"])
@pytest.mark.parametrize("make", [claim, cancel])
def test_what_is_shown_of_a_request_contains_no_secret(make: Any, authentication: str) -> None:
    request = built(make(), authentication=authentication, scope_in_query=True)
    for secret in (SECRET, ENCODED, BASIC.split()[1]):
        assert secret not in str(request.shown_headers)
        assert secret not in request.line
    assert request.shown_headers.keys() == request.headers.keys()


def test_only_credentials_are_masked() -> None:
    shown = masked({"authorization": "a", "PASSWORD": "b", "user": "shop", "channel": "web"})
    assert shown == {"authorization": MASKED, "PASSWORD": MASKED, "user": "shop", "channel": "web"}


def test_a_password_that_is_not_there_is_found_missing_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ORDERFLOW_MAIN_PASSWORD")
    with pytest.raises(SecretMissing, match="ORDERFLOW_MAIN_PASSWORD"):
        RequestBuilder(destination())


# Scope


@pytest.mark.parametrize("make", [claim, cancel])
def test_scopes_travel_as_headers(make: Any) -> None:
    request = built(make(organisation="acme"))
    assert (request.headers["channel"], request.headers["organisation"]) == ("web", "acme")
    assert "web" not in urlsplit(request.url).query


def test_a_scope_that_was_not_given_is_not_sent() -> None:
    assert "organisation" not in built(claim()).headers


def test_scopes_travel_in_the_query_too_where_configured() -> None:
    request = built(cancel(organisation="acme"), scope_in_query=True)
    query = dict(parse_qsl(urlsplit(request.url).query))
    assert query == {"externalReference": "SO-1", "channel": "web", "organisation": "acme"}
    assert (request.headers["channel"], request.headers["organisation"]) == ("web", "acme")


def test_scopes_never_travel_in_the_query_of_a_request_with_a_body() -> None:
    assert "?" not in built(claim(), scope_in_query=True).url


# Identity


@pytest.mark.parametrize("make", [claim, cancel])
def test_every_attempt_sends_the_same_bytes_and_identity(make: Any) -> None:
    first = built(make(), scope_in_query=True)
    later = built(make(attempt=7, tries=6, token=9, in_doubt=True), scope_in_query=True)
    assert first == later
    assert first.headers["Idempotency-Key"] == "SO-1001/1"


def test_the_shops_own_headers_are_sent() -> None:
    assert built(claim(headers={"X-Trace": "t-1"})).headers["X-Trace"] == "t-1"


def test_no_header_of_a_message_overrules_the_services_own() -> None:
    stored = {"channel": "other", "Idempotency-Key": "other", "Authorization": "other"}
    headers = built(claim(headers=stored)).headers
    assert (headers["channel"], headers["Idempotency-Key"]) == ("web", "SO-1001/1")
    assert headers["Authorization"] == BASIC


def test_every_header_the_service_sends_is_refused_from_a_shop() -> None:
    request = built(claim(organisation="acme"), authentication="both")
    assert {name.lower() for name in request.headers} <= SERVICE_HEADERS


def test_no_compressed_reply_is_asked_for() -> None:
    assert built(claim()).headers["Accept-Encoding"] == "identity"
