"""A client of the simulator, over real sockets."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from simulator import Options, Simulator

IMPORT_ORDERS = "/remoteorder/imports/importitems.xml"
IMPORT_GOODS = "/remotewarehouse/imports/importitems.xml"
CANCEL = "/remoteorder/order/cancel.xml"
UPDATE_ORDER = "/remoteorder/order/update.xml"
UPDATE_PRODUCT = "/remotewarehouse/product/update.xml"
BASIC = {"Authorization": "Basic " + base64.b64encode(b"shop:demo").decode()}
CUSTOM = {"user": "shop", "password": base64.b64encode(b"demo").decode()}
SCOPES = {"channel": "web", "organisation": "acme"}
ALLOWED = {**BASIC, **SCOPES}
XHTML = "{http://www.w3.org/1999/xhtml}"


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.text = self.body.decode()

    def references(self, section: str) -> list[tuple[str | None, str | None]]:
        found = ElementTree.fromstring(self.body).findall(f"import{section}/import")  # noqa: S314
        return [(one.get("item"), one.get("externalReference")) for one in found]

    def messages(self, name: str) -> list[str | None]:
        return [one.text for one in ElementTree.fromstring(self.body).iter(name)]  # noqa: S314

    @property
    def error(self) -> str | None:
        """The message of an ERROR page; None for any other answer."""
        if not self.text.startswith("<html xmlns"):
            return None
        page = ElementTree.fromstring(self.body)  # noqa: S314
        assert page.findtext(f"{XHTML}body/{XHTML}h2") == "ERROR"
        assert page.findtext(f"{XHTML}head/{XHTML}title")
        return page.findtext(f"{XHTML}body/{XHTML}p")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)


def send(
    sim: Simulator,
    path: str,
    body: str | bytes = b"",
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> Answer:
    connection = connect(sim.url)
    try:
        encoded = body.encode() if isinstance(body, str) else body
        headers = ALLOWED if headers is None else headers
        connection.request(method, urlsplit(sim.url).path + path, encoded, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def control(sim: Simulator, path: str, body: bytes | None = None, method: str = "GET") -> Answer:
    connection = connect(sim.url)
    try:
        connection.request(method, f"/_simulator/{path}", body)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def item(reference: str, text: str = "", type: str = "order", operation: str = "insert") -> str:
    start = f'<import type="{type}" operation="{operation}" externalReference="{reference}">'
    return f"{start}<![CDATA[{text}]]></import>"


def imports(*items: str) -> str:
    return f"<imports>{''.join(items)}</imports>"


def order(sim: Simulator, reference: str) -> Answer:
    return send(sim, IMPORT_ORDERS, imports(item(reference)))


@contextmanager
def running(**settings: Any) -> Iterator[Simulator]:
    with Simulator.running(Options(**settings)) as simulator:
        yield simulator
