"""The HTTP client of connectors, on aiohttp.

It has one pool of connections for one connection of a workspace, so that a slow destination does not use up the pool of
another. It checks the address of every socket before the first packet, follows no redirects, keeps no cookies, reads no
proxy settings, and limits times and bytes. `stream` exchanges bodies that are larger than the memory.

It retries nothing, with two exceptions. As HTTP allows, aiohttp sends a GET, HEAD, PUT or DELETE again if the server
has just closed the idle connection that it was sent on. A request whose access token is rejected with 401 has had no
effect, and is sent once more with another token.
"""

import asyncio
import re
import socket
import ssl
import zlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from headwater.base.errors import BadRequest, PayloadTooLarge, Unavailable
from headwater.connectors.addresses import AddressForbidden, AddressPolicy
from headwater.connectors.contract.oauth import AccessToken, AuthorizationRevoked
from headwater.connectors.contract.transport import (
    HttpClient,
    HttpRequest,
    HttpResponse,
    TransportError,
    TransportFailure,
)
from headwater.connectors.origins import NO_ORIGINS, Origins
from headwater.connectors.redaction import Redactor, format_request
from headwater.connectors.resolving import resolve_on_loop
from headwater.connectors.settings import REDACTED

CONNECT_SECONDS: Final = 5.0
KEEP_ALIVE_SECONDS: Final = 15.0

_CHUNK_BYTES: Final = 16 * 1024
_PIECE_BYTES: Final = 256 * 1024
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})
_BREAKS: Final = re.compile(r"[\r\n\0]")
_SET_BY_CLIENT: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_USER_AGENT: Final = "headwater"


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one client. A request may state lower limits, not higher ones."""

    max_connections: int = 16
    max_request_bytes: int = 32 * 1024 * 1024
    max_response_bytes: int = 16 * 1024 * 1024
    max_seconds: float = 60.0


class _ForbiddenAddress(OSError):
    """The address is not allowed. An OSError, because aiohttp passes on that when it makes a socket."""


class _Resolver(AbstractResolver):
    """Resolves in the slots that all workspaces share. The client checks the addresses when it makes a socket."""

    def __init__(self, workspace: int | None) -> None:
        self._workspace = workspace

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await resolve_on_loop(host, port, family=family, workspace=self._workspace)
        except Unavailable as error:
            raise OSError(None, error.message) from error  # aiohttp passes on this kind of error
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: a resolution ends by itself."""


class AiohttpClient:
    """Implements `HttpClient`. Create and close it on the event loop that uses it.

    `workspace` is the one that it connects for, which shares the resolver with others; None for none. `origins` are
    servers that stand for those of vendors.
    """

    def __init__(
        self,
        addresses: AddressPolicy,
        redactor: Redactor,
        limits: HttpLimits = HttpLimits(),  # noqa: B008 frozen
        access_token: AccessToken | None = None,
        tls: ssl.SSLContext | None = None,
        workspace: int | None = None,
        origins: Origins = NO_ORIGINS,
    ) -> None:
        self._addresses = addresses
        self._origins = origins
        self._redactor = redactor
        self._limits = limits
        self._access_token = access_token
        self._url = ""
        """The last URL that was checked: a destination has few."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=limits.max_connections,
                ttl_dns_cache=None,
                use_dns_cache=False,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=True if tls is None else tls,
                resolver=_Resolver(workspace),
                socket_factory=self._make_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"user-agent": _USER_AGENT},
            read_bufsize=64 * 1024,
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        self._check(request)
        if not request.authorize:
            return await self._exchange(request)
        token = await self._token()
        response = await self._exchange(request, token)
        if response.status == 401 and self._access_token is not None:
            self._access_token.reject(token)
            newer = await self._token()
            if newer != token:
                response = _without(newer, await self._exchange(request, newer))
                if response.status == 401:
                    self._access_token.reject(newer)
        return _without(token, response)

    @asynccontextmanager
    async def stream(
        self, request: HttpRequest, body: AsyncIterable[bytes] | None = None
    ) -> AsyncIterator["StreamedResponse"]:
        """Send a request whose body or response can be larger than the memory, and yield the response.

        `request.timeout_seconds` is the time limit of each read, not of the exchange. `body`, if it is not None, is
        sent as it is produced; a body that raises ends the connection before the request is complete. Raises
        TransportError, also from `StreamedResponse.read`.
        """
        self._check(request)
        try:
            response = await self._session.request(
                request.method,
                URL(self._origins.replace(request.url), encoded=True),
                data=body if body is not None else request.body or None,
                headers={"accept-encoding": "identity", **request.headers},
                skip_auto_headers=("content-type",),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=request.timeout_seconds
                ),
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._failure(error) from error
        try:
            yield StreamedResponse(response, self._failure)
        finally:
            response.close()

    async def _exchange(self, request: HttpRequest, token: str = "") -> HttpResponse:
        headers = {"accept-encoding": "gzip, deflate", **request.headers}
        if token:
            headers["authorization"] = f"Bearer {token}"
        seconds = min(request.timeout_seconds, self._limits.max_seconds)
        try:
            async with self._session.request(
                request.method,
                URL(self._origins.replace(request.url), encoded=True),
                data=request.body or None,
                headers=headers,
                skip_auto_headers=("content-type",),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as response:
                limit = min(request.max_response_bytes, self._limits.max_response_bytes)
                body = await _read_body(response, limit, may_cut=request.may_cut_response)
                return HttpResponse(
                    status=response.status,
                    headers=_joined(response.headers),
                    body=body[:limit],
                    is_cut=len(body) > limit,
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._failure(error) from error

    async def _token(self) -> str:
        if self._access_token is None:
            raise TransportError(TransportFailure.AUTHORIZATION_REVOKED, "the connection has no OAuth account")
        try:
            return await self._access_token.current()
        except AuthorizationRevoked as error:
            raise TransportError(TransportFailure.AUTHORIZATION_REVOKED, error.message) from error
        except Unavailable as error:
            raise TransportError(TransportFailure.NO_ACCESS_TOKEN, error.message) from error

    def _check(self, request: HttpRequest) -> None:
        if request.method not in _METHODS:
            raise BadRequest(f"{request.method} is not a method of connectors")
        for name, value in request.headers.items():
            if name != name.lower() or name in _SET_BY_CLIENT:
                raise BadRequest(f"header {name!r} cannot be set")
            if _BREAKS.search(name) or _BREAKS.search(value):
                raise BadRequest(f"header {name!r} contains a line break or NUL")
        if len(request.body) > self._limits.max_request_bytes:
            raise PayloadTooLarge(f"the request body is over {self._limits.max_request_bytes} bytes")
        if request.url != self._url:
            self._url = self._checked_url(request.url)

    def _checked_url(self, url: str) -> str:
        try:
            self._addresses.check_url(self._origins.replace(url))
        except AddressForbidden as error:
            raise TransportError(TransportFailure.ADDRESS_FORBIDDEN, str(error)) from error
        return url

    def _make_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """Make the socket for a resolved address, or raise before anything is sent if the address is not allowed."""
        family, kind, protocol, _, target = address
        try:
            self._addresses.check(target[0], target[1])
        except AddressForbidden as error:
            raise _ForbiddenAddress(str(error)) from error
        return socket.socket(family, kind, protocol)

    def _failure(self, error: Exception) -> TransportError:
        failure, text = _classify(error)
        return TransportError(failure, self._redactor.redact(text))


class StreamedResponse:
    """A response whose body is read as it arrives. The body is as the server sent it, and untrusted."""

    def __init__(self, response: aiohttp.ClientResponse, failure: Callable[[Exception], TransportError]) -> None:
        self._response = response
        self._failure = failure
        self.status = response.status
        self.headers: Mapping[str, str] = _joined(response.headers)

    async def read(self) -> bytes:
        """Return the next bytes of the body; empty at its end. Raises TransportError."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._failure(error) from error


def _classify(error: BaseException) -> tuple[TransportFailure, str]:
    if (forbidden := _find_forbidden(error)) is not None:
        return TransportFailure.ADDRESS_FORBIDDEN, str(forbidden)
    if isinstance(error, _TooLarge):
        return TransportFailure.RESPONSE_TOO_LARGE, str(error)
    if isinstance(error, _Invalid):
        return TransportFailure.INVALID_RESPONSE, str(error)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransportFailure.CONNECT_FAILED, "no connection was made in time"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return TransportFailure.TLS_FAILED, f"the TLS connection failed: {_reason(error)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransportFailure.CONNECT_FAILED, f"no connection was made: {_reason(error)}"
    if isinstance(error, TimeoutError):
        return TransportFailure.TIMED_OUT, "the response did not come in time"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return TransportFailure.DISCONNECTED, "the connection ended before the response was complete"
    if isinstance(error, aiohttp.InvalidURL):
        return TransportFailure.ADDRESS_FORBIDDEN, "the URL is not valid"
    if isinstance(error, aiohttp.ClientResponseError):
        return TransportFailure.INVALID_RESPONSE, "the response is not HTTP"
    return TransportFailure.DISCONNECTED, f"the exchange failed: {type(error).__name__}"


def _find_forbidden(error: BaseException | None) -> BaseException | None:
    """Return the `_ForbiddenAddress` inside an error: aiohttp wraps it, and may wrap several in a group."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, _ForbiddenAddress):
            return one
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__, getattr(one, "os_error", None)]
        waiting += getattr(one, "exceptions", ())
    return None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "os_error", None) or error
    return getattr(inner, "strerror", None) or type(inner).__name__


class _TooLarge(ValueError):
    pass


class _Invalid(ValueError):
    pass


async def _read_body(response: aiohttp.ClientResponse, limit: int, *, may_cut: bool) -> bytes:
    """Read and decompress the body, stopping after `limit` bytes: a small compressed body can be a large one.

    With `may_cut` a body that is longer is returned as far as it was read.
    """
    inflate = _inflater(response.headers.get("content-encoding", "identity").strip().lower())
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        while chunk:
            piece, chunk = (chunk, b"") if inflate is None else _decompress_piece(inflate, chunk)
            body += piece
            if len(body) > limit:
                response.close()
                if may_cut:
                    return bytes(body)
                raise _TooLarge(f"the response is over {limit} bytes")
            if chunk:
                await asyncio.sleep(0)  # a chunk of a bomb has many pieces
    if inflate is not None and body and not inflate.eof:
        raise _Invalid("the compressed response is incomplete")
    return bytes(body)


def _inflater(encoding: str) -> "zlib._Decompress | None":
    if encoding in ("identity", ""):
        return None
    if encoding not in ("gzip", "deflate"):
        raise _Invalid("the response has an unknown content encoding")
    return zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)


def _decompress_piece(inflate: "zlib._Decompress", chunk: bytes) -> tuple[bytes, bytes]:
    """Return a piece of the decompressed body, and the rest of the chunk."""
    try:
        return inflate.decompress(chunk, _PIECE_BYTES), inflate.unconsumed_tail
    except zlib.error:
        raise _Invalid("the response cannot be decompressed") from None


def _without(token: str, response: HttpResponse) -> HttpResponse:
    """Return the response without an access token, which some servers repeat in errors."""
    secret = token.encode()
    if secret not in response.body and not any(token in value for value in response.headers.values()):
        return response
    return msgspec.structs.replace(
        response,
        headers={name: value.replace(token, REDACTED) for name, value in response.headers.items()},
        body=response.body.replace(secret, REDACTED.encode()),
    )


def _joined(headers: "Mapping[str, str]") -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        joined[lower] = f"{joined[lower]}, {value}" if lower in joined else value
    return joined


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded exchange, without secrets: `request` as text, `status` None if there was no response."""

    request: str
    seconds: float
    status: int | None = None
    response: str = ""
    error: str = ""


class RecordingClient:
    """An `HttpClient` that records the last exchanges of another, for previews and traces."""

    def __init__(self, client: HttpClient, redactor: Redactor, max_exchanges: int = 10, max_characters: int = 4_096):
        self._client = client
        self._redactor = redactor
        self._max_characters = max_characters
        self.exchanges: deque[Exchange] = deque(maxlen=max_exchanges)

    async def send(self, request: HttpRequest) -> HttpResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        text = format_request(request, self._redactor)[: self._max_characters]
        try:
            response = await self._client.send(request)
        except TransportError as error:
            message = self._redactor.redact(error.message)
            self.exchanges.append(Exchange(request=text, seconds=loop.time() - began, error=message))
            raise
        body = self._redactor.redact(response.body.decode(errors="replace"))[: self._max_characters]
        self.exchanges.append(
            Exchange(request=text, seconds=loop.time() - began, status=response.status, response=body)
        )
        return response
