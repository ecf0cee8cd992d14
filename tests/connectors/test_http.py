"""The HTTP client with a real server: bytes, limits, times, addresses, secrets, and no retries."""

import asyncio
import gzip
import re
import socket
import ssl
import threading
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import structlog

from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge, Unavailable
from headwater.connectors import resolving
from headwater.connectors.addresses import ANY_ADDRESS, AddressPolicy
from headwater.connectors.contract import (
    AuthorizationRevoked,
    FailureScope,
    HttpRequest,
    TransportError,
    TransportFailure,
)
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.http import AiohttpClient, HttpLimits, RecordingClient
from headwater.connectors.oauth import find_account_url
from headwater.connectors.origins import Origins
from headwater.connectors.redaction import Redactor
from headwater.connectors.responses import transport_failure
from headwater.connectors.settings import REDACTED, Settings, Text
from headwater.connectors.slots import SharedSlots
from tests.connectors.server import Server, hang, reset, response, self_signed, serving


@pytest.fixture
async def client() -> AsyncIterator[AiohttpClient]:
    client = AiohttpClient(ANY_ADDRESS, Redactor(["topsecret"]))
    yield client
    await client.close()


def post(url: str, **members: Any) -> HttpRequest:
    return HttpRequest(**{"method": "POST", "url": url, "body": b"{}", **members})


async def fails(client: AiohttpClient, request: HttpRequest) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await client.send(request)
    return caught.value


async def test_a_request_has_a_response(server: Server, client: AiohttpClient) -> None:
    server.reply = response(b"hello", 207, "X-One: 1", "X-One: 2", "Content-Type: text/plain")
    got = await client.send(post(server.url("/a%20b?c=d&e=%2F"), headers={"x-key": "v"}, body=b"\x00\xff"))
    assert (got.status, got.body) == (207, b"hello")
    assert (got.headers["x-one"], got.headers["content-type"]) == ("1, 2", "text/plain")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a%20b?c=d&e=%2F HTTP/1.1\r\n") and body == b"\x00\xff"
    sent = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert (sent[b"x-key"], sent[b"content-length"], sent[b"user-agent"]) == (b"v", b"2", b"headwater")


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
async def test_every_status_is_a_response_without_redirects_or_retries(
    server: Server, client: AiohttpClient, status: int
) -> None:
    server.reply = response(b"", status, f"Location: {server.url('/other')}", "Set-Cookie: a=b")
    for _ in range(2):
        assert (await client.send(post(server.url()))).status == status
    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1].lower()


async def test_connections_are_reused_and_bounded(server: Server) -> None:
    client = AiohttpClient(ANY_ADDRESS, Redactor(), HttpLimits(max_connections=3))
    for _ in range(3):
        await client.send(post(server.url()))
    assert server.connections == 1
    await asyncio.gather(*(client.send(post(server.url())) for _ in range(30)))
    assert server.connections <= 3
    await client.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_responses_in_many_pieces_are_decompressed(
    server: Server, client: AiohttpClient, encoding: str
) -> None:
    text = b"".join(b"%d," % number for number in range(400_000))
    body = gzip.compress(text) if encoding == "gzip" else zlib.compress(text)
    server.reply = response(body, 200, f"Content-Encoding: {encoding}")
    assert (await client.send(post(server.url(), max_response_bytes=4_000_000))).body == text


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_responses_are_decompressed(server: Server, client: AiohttpClient, encoding: str) -> None:
    body = gzip.compress(b"hello") if encoding == "gzip" else zlib.compress(b"hello")
    server.reply = response(body, 200, f"Content-Encoding: {encoding}")
    assert (await client.send(post(server.url()))).body == b"hello"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"not gzip", "gzip"), (gzip.compress(b"hello", mtime=0)[:-9], "gzip"), (b"x", "br"), (b"x", "gzip, gzip")],
)
async def test_responses_that_cannot_be_decompressed_are_invalid(
    server: Server, client: AiohttpClient, body: bytes, encoding: str
) -> None:
    server.reply = response(body, 200, f"Content-Encoding: {encoding}")
    error = await fails(client, post(server.url()))
    assert error.failure is TransportFailure.INVALID_RESPONSE and error.may_have_arrived


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_response_over_the_limit_is_an_error(server: Server, client: AiohttpClient, compressed: bool) -> None:
    body = b"x" * 50_000_000 if compressed else b"x" * 40_000
    server.reply = response(*((gzip.compress(body), 200, "Content-Encoding: gzip") if compressed else (body,)))
    error = await fails(client, post(server.url()))
    assert error.failure is TransportFailure.RESPONSE_TOO_LARGE
    server.reply = response(b"x" * 40_000)
    assert len((await client.send(post(server.url(), max_response_bytes=40_000))).body) == 40_000


async def test_a_request_may_not_ask_for_more_than_the_client_allows(server: Server) -> None:
    client = AiohttpClient(ANY_ADDRESS, Redactor(), HttpLimits(max_response_bytes=10, max_request_bytes=10))
    server.reply = response(b"x" * 11)
    assert (await fails(client, post(server.url(), max_response_bytes=1_000))).failure == "ResponseTooLarge"
    with pytest.raises(PayloadTooLarge):
        await client.send(post(server.url(), body=b"x" * 11))
    assert len(server.requests) == 1
    await client.close()


async def test_a_missing_response_times_out(server: Server, client: AiohttpClient) -> None:
    server.reply = hang
    error = await fails(client, post(server.url(), timeout_seconds=0.2))
    assert error.failure is TransportFailure.TIMED_OUT and error.may_have_arrived


async def test_a_slow_response_times_out(server: Server, client: AiohttpClient) -> None:
    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    server.reply = trickle
    error = await fails(client, post(server.url(), timeout_seconds=0.3))
    assert error.failure is TransportFailure.TIMED_OUT


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
async def test_a_connection_that_ends_early_is_disconnected(
    server: Server, client: AiohttpClient, begin: bytes
) -> None:
    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        await writer.drain()

    server.reply = leave
    error = await fails(client, post(server.url()))
    assert error.failure is TransportFailure.DISCONNECTED and error.may_have_arrived
    assert len(server.requests) == 1


async def test_a_connection_that_is_reset_is_disconnected(server: Server, client: AiohttpClient) -> None:
    server.reply = reset
    assert (await fails(client, post(server.url()))).failure is TransportFailure.DISCONNECTED


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"\x00" * 100])
async def test_a_response_that_is_not_http_is_invalid(server: Server, client: AiohttpClient, reply: bytes) -> None:
    server.reply = reply
    error = await fails(client, post(server.url(), timeout_seconds=2.0))
    assert error.failure in (TransportFailure.INVALID_RESPONSE, TransportFailure.DISCONNECTED)


async def test_a_closed_port_is_a_failed_connection(client: AiohttpClient) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = await fails(client, post(f"http://127.0.0.1:{port}/?key=topsecret"))
    assert error.failure is TransportFailure.CONNECT_FAILED and not error.may_have_arrived
    assert "topsecret" not in error.message and "?" not in error.message


async def test_a_name_that_does_not_resolve_is_a_failed_connection(client: AiohttpClient) -> None:
    error = await fails(client, post("http://no-such-host.invalid/"))
    assert error.failure is TransportFailure.CONNECT_FAILED and not error.may_have_arrived


async def test_tls_with_a_server_without_tls_fails(server: Server, client: AiohttpClient) -> None:
    server.reply = response()
    error = await fails(client, post(server.url(scheme="https"), timeout_seconds=5.0))
    # The server waits for the end of a line, which the random bytes of a handshake may lack.
    failures = (TransportFailure.TLS_FAILED, TransportFailure.CONNECT_FAILED, TransportFailure.TIMED_OUT)
    assert error.failure in failures and server.requests == []
    assert error.failure is TransportFailure.TIMED_OUT or not error.may_have_arrived


@pytest.mark.parametrize(
    "members",
    [
        {"method": "CONNECT"},
        {"method": "GET /\r\nX: y"},
        {"headers": {"host": "other.example"}},
        {"headers": {"content-length": "5"}},
        {"headers": {"transfer-encoding": "chunked"}},
        {"headers": {"X-Upper": "a"}},
        {"headers": {"x-a": "b\r\nx-c: d"}},
        {"headers": {"x-a\n": "b"}},
        {"headers": {"x-a": "b\0"}},
    ],
)
async def test_invalid_requests_are_rejected(server: Server, client: AiohttpClient, members: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        await client.send(post(server.url(), **members))
    assert server.connections == 0


LOCAL = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]


@pytest.mark.parametrize(
    "host", [*LOCAL, "2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "127.1", "0", "[64:ff9b::7f00:1]"]
)
async def test_private_addresses_are_forbidden_before_a_connection(server: Server, host: str) -> None:
    client = AiohttpClient(AddressPolicy(), Redactor())
    error = await fails(client, post(server.url(host=host)))
    assert error.failure is TransportFailure.ADDRESS_FORBIDDEN
    assert not error.may_have_arrived and server.connections == 0
    await client.close()


class Resolver:
    """Resolves every name to addresses that a test changes, in the place of the system's resolver."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses = addresses
        self.lookups = 0
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: str, port: int, **_: object) -> list[Any]:
        self.lookups += 1
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.addresses
        ]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"),
        *("::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "fe80::1", "fd00::1", "fec0::1", "ff02::1"),
        *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
        *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "3fff::1"),
    ],
)
async def test_a_name_with_a_private_address_is_forbidden(
    server: Server, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Mapped addresses, NAT64, 6to4 and Teredo lead to others."""
    Resolver(monkeypatch, address)
    client = AiohttpClient(AddressPolicy(), Redactor())
    error = await fails(client, post(server.url(host="name.example")))
    assert error.failure is TransportFailure.ADDRESS_FORBIDDEN and server.connections == 0
    await client.close()


async def test_of_several_addresses_only_the_allowed_ones_are_tried(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = Server()
    listening = await asyncio.start_server(others.serve, "127.0.0.2", server.port)
    Resolver(monkeypatch, "127.0.0.1", "10.0.0.1", "::1", "127.0.0.2")
    client = AiohttpClient(AddressPolicy.parse("127.0.0.2/32"), Redactor())
    assert (await client.send(post(server.url(host="name.example")))).status == 200
    assert (server.connections, others.connections) == (0, 1)
    await client.close()
    listening.close()
    others.close_connections()


async def test_a_pooled_connection_stays_on_its_checked_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to another address later is checked again with the next connection."""
    resolver = Resolver(monkeypatch, "127.0.0.1")
    client = AiohttpClient(AddressPolicy.parse("127.0.0.1/32"), Redactor())
    url = server.url(host="name.example")
    await client.send(post(url))
    resolver.addresses = ("127.0.0.2",)
    await client.send(post(url))
    assert (server.connections, resolver.lookups) == (1, 1)
    server.reply = response(b"", 200, "Connection: close")
    await client.send(post(url))
    error = await fails(client, post(url))
    assert error.failure is TransportFailure.ADDRESS_FORBIDDEN and len(server.requests) == 3
    assert resolver.lookups == 2
    await client.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_to_a_private_address_is_not_followed(server: Server, status: int, method: str) -> None:
    client = AiohttpClient(AddressPolicy.parse("127.0.0.1/32"), Redactor())
    async with serving() as private:
        server.reply = response(b"", status, f"Location: {private.url()}", f"Refresh: 0; url={private.url()}")
        assert (await client.send(post(server.url(), method=method, body=b""))).status == status
        assert (len(server.requests), private.connections) == (1, 0)
    await client.close()


async def test_the_installation_can_allow_private_addresses(server: Server) -> None:
    for setting in ("1", "127.0.0.0/8", "10.0.0.0/8,127.0.0.1/32"):
        client = AiohttpClient(AddressPolicy.parse(setting), Redactor())
        assert (await client.send(post(server.url()))).status == 200
        await client.close()
    client = AiohttpClient(AddressPolicy.parse("10.0.0.0/8,fd00::/8"), Redactor())
    assert (await fails(client, post(server.url()))).failure is TransportFailure.ADDRESS_FORBIDDEN
    await client.close()


async def test_a_name_that_is_rebound_is_checked_at_each_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves to a public address at the check, and to a private one at the connection: the latter
    decides."""
    responses = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        address = next(responses)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert socket.getaddrinfo("rebound.example", server.port)[0][4][0] == "93.184.216.34"
    client = AiohttpClient(AddressPolicy(), Redactor())
    error = await fails(client, post(server.url(host="rebound.example")))
    assert error.failure is TransportFailure.ADDRESS_FORBIDDEN and server.connections == 0
    await client.close()
    allowed = AiohttpClient(AddressPolicy.parse("127.0.0.0/8"), Redactor())
    assert (await allowed.send(post(server.url(host="rebound.example")))).status == 200
    await allowed.close()


async def test_slow_names_of_a_workspace_leave_others_to_send(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of one workspace do not resolve: it waits, and other workspaces and the default executor do not."""
    answered = threading.Event()

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        if host.startswith("slow"):
            answered.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(resolving, "_slots", SharedSlots(4))
    slow, other = (AiohttpClient(ANY_ADDRESS, Redactor(), workspace=workspace) for workspace in (1, 2))
    waiting = [asyncio.create_task(slow.send(post(server.url(host=f"slow-{number}.example")))) for number in range(8)]
    await asyncio.sleep(0)
    assert (await other.send(post(server.url(host="other.example")))).status == 200
    error = await fails(slow, post(server.url(host="slow.example"), timeout_seconds=0.05))
    assert error.failure is TransportFailure.TIMED_OUT and not answered.is_set()
    answered.set()
    assert [each.status for each in await asyncio.gather(*waiting)] == [200] * 8
    for client in (slow, other):
        await client.close()


async def test_proxies_of_the_environment_are_not_used(
    server: Server, client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await client.send(post(server.url()))).status == 200


async def test_a_cancelled_request_leaves_the_client_usable(server: Server, client: AiohttpClient) -> None:
    server.reply = hang
    task = asyncio.create_task(client.send(post(server.url())))
    while not server.requests:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.reply = response(b"ok")
    assert (await client.send(post(server.url()))).body == b"ok"


async def test_recorded_exchanges_are_bounded_and_without_secrets(server: Server, client: AiohttpClient) -> None:
    recording = RecordingClient(client, Redactor(["topsecret"]), max_exchanges=2, max_characters=200)
    server.reply = response(b"you sent topsecret" + b"x" * 1_000, 400)
    for _ in range(3):
        await recording.send(post(server.url("/?key=topsecret"), body=b"topsecret"))
    server.reply = lambda _reader, _writer: asyncio.sleep(0)
    with pytest.raises(TransportError):
        await recording.send(post(server.url("/?key=topsecret")))
    completed, failed = recording.exchanges
    assert (completed.status, failed.status) == (400, None)
    assert completed.response.startswith(f"you sent {REDACTED}") and len(completed.response) == 200
    assert failed.error and "topsecret" not in repr(recording.exchanges)


async def test_a_sink_can_have_more_or_fewer_connections(server: Server) -> None:
    environment = ConnectorEnvironment(addresses=ANY_ADDRESS)
    async with environment.context("http-webhook", 5, None, max_connections=3) as context:
        await asyncio.gather(*(context.http.send(post(server.url())) for _ in range(30)))
    assert server.connections <= 3


async def test_the_environment_makes_a_client_when_it_is_used(server: Server) -> None:
    environment = ConnectorEnvironment(addresses=ANY_ADDRESS)
    async with environment.context("dummy", 5, None) as context:
        responses = await asyncio.gather(*(context.http.send(post(server.url())) for _ in range(5)))
        assert {each.status for each in responses} == {200}
        assert environment.clock.now().tzinfo is not None
    async with ConnectorEnvironment().context("dummy", 5, None) as context:
        with pytest.raises(TransportError):
            await context.http.send(post(server.url()))


async def test_a_server_stands_for_that_of_a_vendor(server: Server) -> None:
    origins = Origins({"https://api.vendor.example": server.url("")})
    environment = ConnectorEnvironment(addresses=ANY_ADDRESS, origins=origins)
    async with environment.context("dummy", 5, None) as context:
        await context.http.send(post("https://api.vendor.example/v1/batch?page[size]=1"))
    assert server.requests[0].startswith(b"POST /v1/batch?page[size]=1 HTTP/1.1")
    async with ConnectorEnvironment(origins=origins).context("dummy", 5, None) as context:
        with pytest.raises(TransportError) as caught:
            await context.http.send(post("https://api.vendor.example/"))
    assert caught.value.failure is TransportFailure.ADDRESS_FORBIDDEN


@pytest.mark.parametrize(
    ("url", "replaced"),
    [
        ("https://a.example", "http://b:1"),
        ("https://A.example/Path", "http://b:1/Path"),
        ("https://a.example?x=1", "http://b:1?x=1"),
        ("https://a.example.evil/", "https://a.example.evil/"),
        ("http://a.example/", "http://a.example/"),
        ("https://a.example:443/", "https://a.example:443/"),
        ("https://other.example/https://a.example/", "https://other.example/https://a.example/"),
    ],
)
def test_only_the_whole_origin_is_replaced(url: str, replaced: str) -> None:
    assert Origins({"https://a.example": "http://b:1"}).replace(url) == replaced


async def test_the_certificate_is_checked(tmp_path: Path, client: AiohttpClient) -> None:
    async with serving(self_signed(tmp_path)) as server:
        url = server.url(host="localhost", scheme="https")
        error = await fails(client, post(url))
        assert error.failure is TransportFailure.TLS_FAILED and not error.may_have_arrived
        assert server.requests == []
        tls = ssl.create_default_context(cafile=tmp_path / "server.pem")
        trusting = AiohttpClient(ANY_ADDRESS, Redactor(), tls=tls)
        assert (await trusting.send(post(url))).status == 200
        await trusting.close()


class Tokens:
    """An `AccessToken` that returns one after the other, or raises."""

    def __init__(self, *results: str | HeadwaterError) -> None:
        self._results = iter(results)
        self.rejected: list[str] = []

    async def current(self) -> str:
        result = next(self._results)
        if isinstance(result, HeadwaterError):
            raise result
        return result

    async def url(self) -> str:
        return "https://app.example"

    def reject(self, token: str) -> None:
        self.rejected.append(token)


async def test_an_authorized_request_has_the_current_token(server: Server) -> None:
    tokens = Tokens("token-1", "token-2")
    async with ConnectorEnvironment(addresses=ANY_ADDRESS).context("x", 1, None, tokens) as context:
        for _ in range(2):
            await context.http.send(post(server.url(), authorize=True))
        await context.http.send(post(server.url()))
        assert await find_account_url(context) == "https://app.example"
    found = [re.findall(rb"(?i)authorization: (.*)\r", request) for request in server.requests]
    assert found == [[b"Bearer token-1"], [b"Bearer token-2"], []]
    async with ConnectorEnvironment(addresses=ANY_ADDRESS).context("x", 1, None) as context:
        with pytest.raises(TransportError) as caught:
            await context.http.send(post(server.url(), authorize=True))
        assert caught.value.failure is TransportFailure.AUTHORIZATION_REVOKED


@pytest.mark.parametrize(
    ("error", "failure", "scope"),
    [
        (AuthorizationRevoked("authorize again"), TransportFailure.AUTHORIZATION_REVOKED, FailureScope.CLOSED),
        (Unavailable("later"), TransportFailure.NO_ACCESS_TOKEN, FailureScope.DESTINATION),
    ],
)
async def test_a_missing_token_is_a_failure_without_a_request(
    server: Server, error: HeadwaterError, failure: TransportFailure, scope: FailureScope
) -> None:
    async with ConnectorEnvironment(addresses=ANY_ADDRESS).context("x", 1, None, Tokens(error)) as context:
        with pytest.raises(TransportError) as caught:
            await context.http.send(post(server.url(), authorize=True))
    assert (caught.value.failure, caught.value.message) == (failure, error.message)
    assert not caught.value.may_have_arrived and server.requests == []
    assert transport_failure(caught.value).scope is scope


@pytest.mark.parametrize(
    ("tokens", "sent"),
    [
        (("token-1", "token-2"), [b"token-1", b"token-2"]),
        (("token-1", "token-1"), [b"token-1"]),
    ],
)
async def test_a_rejected_request_is_sent_once_more_with_another_token(
    server: Server, tokens: tuple[str, ...], sent: list[bytes]
) -> None:
    """Servers repeat tokens in the texts of errors: the response does not."""
    server.reply = response(b"bad tokens: " + b" ".join(sent), 401, f"WWW-Authenticate: Bearer {sent[-1].decode()}")
    given = Tokens(*tokens)
    async with ConnectorEnvironment(addresses=ANY_ADDRESS).context("x", 1, None, given) as context:
        failed = await context.http.send(post(server.url(), authorize=True))
    found = [re.findall(rb"(?i)authorization: Bearer (.*)\r", request) for request in server.requests]
    assert found == [[token] for token in sent]
    assert (failed.status, failed.body) == (401, b"bad tokens: " + b" ".join([REDACTED.encode()] * len(sent)))
    assert failed.headers["www-authenticate"] == f"Bearer {REDACTED}"
    assert given.rejected == [token.decode() for token in sent]


async def test_another_status_than_401_rejects_no_token(server: Server) -> None:
    tokens = Tokens("token-1", "token-2")
    async with ConnectorEnvironment(addresses=ANY_ADDRESS).context("x", 1, None, tokens) as context:
        for status in (200, 403):
            server.reply = response(b"fine", status)
            assert (await context.http.send(post(server.url(), authorize=True))).body == b"fine"
        server.reply = response(b"", 401)
        await context.http.send(post(server.url()))
    assert tokens.rejected == [] and len(server.requests) == 3


async def test_a_rejected_request_without_another_token(server: Server) -> None:
    server.reply = response(b"", 401)
    tokens = Tokens("token-1", AuthorizationRevoked("authorize again"))
    async with ConnectorEnvironment(addresses=ANY_ADDRESS).context("x", 1, None, tokens) as context:
        with pytest.raises(TransportError) as caught:
            await context.http.send(post(server.url(), authorize=True))
    assert caught.value.failure is TransportFailure.AUTHORIZATION_REVOKED and len(server.requests) == 1


@pytest.mark.parametrize(("method", "requests"), [("POST", 2), ("PATCH", 2), ("GET", 3)])
async def test_a_request_on_a_closed_idle_connection(
    server: Server, client: AiohttpClient, method: str, requests: int
) -> None:
    """Only a request without effects is sent again on a new connection; others may have arrived."""
    server.reply = response(b"first")
    await client.send(post(server.url(), method=method))

    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.reply = response(b"second")

    server.reply = leave
    if method == "GET":
        assert (await client.send(post(server.url(), method=method))).body == b"second"
    else:
        error = await fails(client, post(server.url(), method=method))
        assert error.failure is TransportFailure.DISCONNECTED and error.may_have_arrived
    assert len(server.requests) == requests


async def test_the_logger_of_a_context_removes_secrets() -> None:
    class Secret(Settings, frozen=True, kw_only=True):
        token: Annotated[str, Text(1, 99, secret=True)]

    with structlog.testing.capture_logs() as entries:
        async with ConnectorEnvironment().context("ping", 5, Secret(token="topsecret")) as context:
            context.logger.warning("refused topsecret", url="http://h/?k=topsecret", count=1)
    [entry] = entries
    assert (entry["connector"], entry["connection"], entry["count"]) == ("ping", 5, 1)
    assert "topsecret" not in str(entry) and REDACTED in entry["url"]
