"""Receivers that misbehave, on real sockets, each on a port of its own: in a process of their own.

`python -m tests.hostile_receivers FOLDER` prints their addresses as JSON, and leaves in the folder the
certificate that a client has to trust, and a mark once somebody has followed a redirect.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import struct
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme

from simulator.documents import read_imports
from simulator.pages import Outcome, import_result
from tests.documents import order
from tests.nursery import Program

READY = "ready on "
TRUSTED, FOLLOWED = "trusted.pem", "followed"
BLOCK_BYTES = 64 * 1024
DRIP_SECONDS = 0.03

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a receiver does, and what is to be made of it.

    Attributes:
        act: what it does once it has read a request.
        verdict: the verdict and its reason, as an attempt's row has them.
        in_doubt: whether the message may have been carried out.
        until_deadline: whether nothing but the deadline ends it.
        certificate: which certificate it shows; None where it speaks no TLS.
        https: whether it is asked by https.
        reads: whether it reads the request.
        many_bytes: whether the request is to be longer than what buffers on the way take.
    """

    act: Act
    verdict: tuple[str, str]
    in_doubt: bool
    until_deadline: bool = False
    certificate: str | None = None
    https: bool = False
    reads: bool = True
    many_bytes: bool = False


async def _stays(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Say nothing more, until the client is gone."""
    while await reader.read(BLOCK_BYTES):
        pass


async def _reads_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Go on for longer than anyone waits; who reads nothing does not see that a client has gone."""
    await asyncio.sleep(60)


async def _closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection, as whoever is done does."""


async def _resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closing without lingering is what makes the kernel send RST in place of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _resets_within_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    await _resets(reader, writer)


def _says(text: bytes, then: Act = _closes) -> Act:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()
        await then(reader, writer)

    return act


def _floods(start: bytes, unit: bytes) -> Act:
    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        block = unit * (BLOCK_BYTES // len(unit))
        writer.write(start + block)  # at once: what is made of it depends on what is read together
        while True:
            await writer.drain()
            writer.write(block)

    return act


def _drips(start: bytes, unit: bytes) -> Act:
    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(unit)
            await writer.drain()
            await asyncio.sleep(DRIP_SECONDS)

    return act


def _bomb(encoding: str) -> Act:
    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = _bomb_body(encoding)
        writer.write(_head(len(body), f"Content-Encoding: {encoding}") + body)
        await writer.drain()

    return act


@cache
def _bomb_body(encoding: str) -> bytes:
    """Return 2 MB that expand to 2 GB: after a full flush the same piece may be repeated."""
    compressing = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    pieces = [compressing.compress(bytes(1 << 22)) + compressing.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    return pieces[0] + pieces[1] * 511


async def _redirects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    inner = await asyncio.start_server(_note_that_it_was_followed, "127.0.0.1", 0)
    port = inner.sockets[0].getsockname()[1]
    writer.write(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
        % port
    )
    await writer.drain()
    await _stays(reader, writer)


async def _note_that_it_was_followed(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    (Path(sys.argv[1]) / FOLLOWED).touch()
    writer.close()


def _head(length: int | str, *lines: str, status: str = "200 OK") -> bytes:
    fields = ["Content-Type: text/xml", f"Content-Length: {length}", *lines]
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode()


DOCUMENT = order("SO-1")
GOOD = import_result([Outcome(item, 1, "Success") for item in read_imports(DOCUMENT.encode())], 1).body
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = _head(len(GOOD)) + GOOD
HANDSHAKE = b"\x16\x03\x03\x20\x00\x02"
HALF = GOOD[: len(GOOD) // 2]

TIMEOUT, LOST, CUT = ("retry", "timeout"), ("retry", "connection_lost"), ("retry", "cut_reply")
REFUSED, BAD_CERTIFICATE = ("retry", "connect_failed"), ("hold", "bad_certificate")
DELIVERED, UNKNOWN = ("delivered", "imported"), ("retry", "unknown_reply")


def _tls(
    certificate: str, act: Act, verdict: tuple[str, str], in_doubt: bool, stalls: bool = False
) -> Behaviour:
    return Behaviour(act, verdict, in_doubt, stalls, certificate, https=True)


BEHAVIOURS = {
    # Slow ones.
    "silence": Behaviour(_stays, TIMEOUT, True, True),
    "head-drips": Behaviour(_drips(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"), TIMEOUT, True, True),
    "heads-drip": Behaviour(_drips(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), TIMEOUT, True, True),
    "body-drips": Behaviour(_drips(_head(1000), b"x"), TIMEOUT, True, True),
    "chunks-drip": Behaviour(_drips(CHUNKED, b"1\r\nx\r\n"), TIMEOUT, True, True),
    "1xx-drips": Behaviour(_drips(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), TIMEOUT, True, True),
    "reads-nothing": Behaviour(_reads_nothing, TIMEOUT, True, True, reads=False, many_bytes=True),
    # Endless ones.
    "endless-body": Behaviour(_floods(CLOSING, b"x"), CUT, True),
    "endless-body-unread": Behaviour(_floods(CLOSING, b"x"), CUT, True, reads=False, many_bytes=True),
    "endless-headers": Behaviour(_floods(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), LOST, True),
    "endless-header": Behaviour(_floods(b"HTTP/1.1 200 OK\r\nX-A: ", b"b"), LOST, True),
    "endless-status": Behaviour(_floods(b"HTTP/1.1 200 ", b"O"), LOST, True),
    "endless-blank-lines": Behaviour(_floods(b"", b"\r\n"), LOST, True),
    "endless-1xx": Behaviour(_floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), LOST, True),
    "endless-tiny-chunks": Behaviour(_floods(CHUNKED, b"1\r\nx\r\n"), CUT, True),
    "endless-chunk-extension": Behaviour(_floods(CHUNKED + b"1;", b"a"), CUT, True),
    "endless-trailers": Behaviour(_floods(CHUNKED + b"1\r\nx\r\n0\r\n", b"X-A: b\r\n"), LOST, True),
    "endless-replies": Behaviour(_floods(b"", WHOLE), DELIVERED, False),
    # Bombs.
    "gzip-bomb": Behaviour(_bomb("gzip"), UNKNOWN, True),
    "deflate-bomb": Behaviour(_bomb("deflate"), UNKNOWN, True),
    # Lies about the length.
    "length-too-short": Behaviour(_says(_head(len(HALF)) + GOOD), LOST, True),
    "length-too-long": Behaviour(_says(_head(len(GOOD) + 1) + GOOD), CUT, True),
    "length-too-long-and-waits": Behaviour(_says(_head(len(GOOD) + 1) + GOOD, _stays), TIMEOUT, True, True),
    "two-lengths": Behaviour(_says(_head(len(GOOD), "Content-Length: 1") + GOOD), LOST, True),
    "negative-length": Behaviour(_says(_head(-len(GOOD)) + GOOD), LOST, True),
    "length-past-all-numbers": Behaviour(_says(_head("9" * 40) + GOOD), LOST, True),
    "length-and-chunks": Behaviour(_says(_head(5, "Transfer-Encoding: chunked") + GOOD), LOST, True),
    "chunk-too-short": Behaviour(_says(CHUNKED + b"5\r\n" + GOOD + b"\r\n0\r\n\r\n"), LOST, True),
    "chunk-too-long": Behaviour(_says(CHUNKED + b"FFFFFF\r\n" + GOOD), CUT, True),
    "chunk-past-all-numbers": Behaviour(_says(CHUNKED + b"F" * 40 + b"\r\n" + GOOD), LOST, True),
    "chunk-without-a-number": Behaviour(_says(CHUNKED + b"-5\r\n" + GOOD), LOST, True),
    "chunks-without-an-end": Behaviour(_says(CHUNKED + b"%x\r\n%b\r\n" % (len(GOOD), GOOD)), CUT, True),
    # Resets, and other ends.
    "resets-within-the-request": Behaviour(_resets_within_the_request, LOST, True, reads=False),
    "resets-before-the-reply": Behaviour(_resets, LOST, True),
    "resets-within-the-head": Behaviour(_says(WHOLE[:20], _resets), LOST, True),
    "resets-within-the-body": Behaviour(_says(_head(len(GOOD)) + HALF, _resets), CUT, True),
    "closes-before-the-reply": Behaviour(_closes, LOST, True),
    "closes-within-the-head": Behaviour(_says(WHOLE[:20]), LOST, True),
    "closes-within-the-body": Behaviour(_says(_head(len(GOOD)) + HALF), CUT, True),
    # Other things than what was asked for.
    "speaks-no-http": Behaviour(_says(b"220 mail.example.com ESMTP\r\n\r\n", _stays), LOST, True),
    "switches-protocols": Behaviour(
        _says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", _stays),
        ("retry", "http_101"),
        True,
    ),
    "redirects-inwards": Behaviour(_redirects, ("hold", "http_307"), False),
    # TLS.
    "tls": _tls("good", _says(CLOSING + GOOD), DELIVERED, False),
    "tls-stalls": Behaviour(_stays, REFUSED, False, True, https=True, reads=False),
    "tls-drips": Behaviour(_drips(HANDSHAKE, b"a"), REFUSED, False, True, https=True, reads=False),
    "tls-resets": Behaviour(_resets_within_the_request, REFUSED, False, https=True, reads=False),
    "tls-is-none": Behaviour(_says(WHOLE), REFUSED, False, https=True, reads=False),
    "tls-stalls-after-the-handshake": _tls("good", _stays, TIMEOUT, True, True),
    "tls-endless-body": _tls("good", _floods(CLOSING, b"x"), CUT, True),
    "tls-cut": _tls("good", _says(_head(len(GOOD)) + HALF, _resets), CUT, True),
    "certificate-expired": _tls("expired", _says(WHOLE), BAD_CERTIFICATE, False),
    "certificate-of-another-host": _tls("other-host", _says(WHOLE), BAD_CERTIFICATE, False),
    "certificate-of-another-authority": _tls("other-authority", _says(WHOLE), BAD_CERTIFICATE, False),
    "certificate-self-signed": _tls("self-signed", _says(WHOLE), BAD_CERTIFICATE, False),
}  # fmt: skip


@contextmanager
def hostile_receivers(folder: Path) -> Iterator[dict[str, str]]:
    """Run one receiver of each behaviour; give their addresses."""
    process = Program[bytes]("tests.hostile_receivers", str(folder), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith(READY)
        yield json.loads(line.removeprefix(READY))
    finally:
        process.kill()
        process.wait()


_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


async def _listen(behaviour: Behaviour, contexts: dict[str, ssl.SSLContext]) -> str:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if behaviour.reads:
                length = _LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(int(length[1]) if length else 0)
            await behaviour.act(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    context = contexts[behaviour.certificate] if behaviour.certificate else None
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=BLOCK_BYTES)
    port = server.sockets[0].getsockname()[1]
    return f"{'https' if behaviour.https else 'http'}://127.0.0.1:{port}/web"


def _contexts(folder: Path) -> dict[str, ssl.SSLContext]:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / TRUSTED)
    begun, ended = (datetime.now(UTC) - timedelta(days=days) for days in (2, 1))
    issued = {
        "good": authority.issue_cert("127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_before=begun, not_after=ended),
        "other-host": authority.issue_cert("orderflow.example.com"),
        "other-authority": other.issue_cert("127.0.0.1"),
    }
    contexts = {}
    for name, certificate in issued.items():
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(contexts[name])
    contexts["self-signed"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own = folder / "self-signed.pem"
    own.write_bytes(other.private_key_pem.bytes() + other.cert_pem.bytes())
    contexts["self-signed"].load_cert_chain(own)
    return contexts


async def _run(folder: Path) -> None:
    contexts = _contexts(folder)
    urls = {name: await _listen(behaviour, contexts) for name, behaviour in BEHAVIOURS.items()}
    for encoding in ("gzip", "deflate"):
        _bomb_body(encoding)
    sys.stdout.write(f"{READY}{json.dumps(urls)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1])))
