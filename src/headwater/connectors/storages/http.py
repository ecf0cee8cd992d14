"""Files of an HTTP server: `HttpGet` reads them, `HttpPost` sends them.

Both use the guarded client of connectors, on an event loop of their own. A name is the path of the URL, and can have a
query after "?". Characters that a URL cannot have are encoded; "%41" stays as it is. Redirects are not followed.
"""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar
from urllib.parse import quote, unquote

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.background import BackgroundLoop
from headwater.connectors.contract import (
    ConnectorContext,
    FileMissing,
    HttpRequest,
    StoredFile,
    TransportError,
    TransportFailure,
)
from headwater.connectors.http import AiohttpClient, StreamedResponse
from headwater.connectors.redaction import Redactor
from headwater.connectors.resolving import DestinationForbidden
from headwater.connectors.storages.paths import check_characters, shown, split_name

if TYPE_CHECKING:
    from concurrent.futures import Future

    from headwater.connectors.catalogue.file_storages import HttpSettings

READ_SECONDS: Final = 60.0
"""Time limit of one read, and of the response to a sent file."""
MAX_FILE_BYTES: Final = 64 * 1024**3

_GRACE_SECONDS: Final = 30.0
_BUFFER_BYTES: Final = 256 * 1024
_QUEUED_CHUNKS: Final = 4
_HTTPS_PORT: Final = 443
_DEFAULT_PORTS: Final = {"http": 80, "https": _HTTPS_PORT}
_SET_BY_CLIENT: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
_NO_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_CHARACTERS: Final = "/%!$&'()*+,;=:@~"
_Result = TypeVar("_Result")


class _Server:
    """The server of the settings: URLs of files, requests, and errors for users."""

    def __init__(self, settings: "HttpSettings", context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    def absolute_path(self, name: str) -> str:
        path, mark, query = self._parts(name)
        return f"{self._origin}/{path}{mark}{query}"

    def url(self, name: str) -> str:
        path, mark, query = self._parts(name)
        return f"{self._origin}/{_encoded(path)}{mark}{_encoded(query, '?')}"

    def headers(self) -> dict[str, str]:
        headers = dict[str, str]()
        for header in self._settings.headers:
            name = header.key.lower()
            if name not in _SET_BY_CLIENT:
                headers[name] = f"{headers[name]}, {header.value}" if name in headers else header.value
        return headers

    def client(self) -> AiohttpClient:
        """Return a client. Call it on the loop that uses it."""
        return AiohttpClient(
            self._context.addresses, Redactor(self._settings.secrets()), workspace=self._context.workspace
        )

    def translated(self, error: TransportError) -> Unavailable:
        """Return the error of an exchange without a response."""
        if error.failure is TransportFailure.ADDRESS_FORBIDDEN:
            return DestinationForbidden(self._settings.host, error.message)
        return Unavailable(f"{self._settings.host}: {error.message}")

    def refused(self, status: int) -> Unavailable:
        """Return the error of a response with another status than the expected ones."""
        suffix = ", and redirects are not followed" if 300 <= status < 400 else ""
        return Unavailable(f"{self._settings.host} responded with status {status}{suffix}")

    @property
    def _origin(self) -> str:
        settings = self._settings
        is_https = settings.port == _HTTPS_PORT if settings.use_https is None else settings.use_https
        scheme = "https" if is_https else "http"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        port = "" if settings.port == _DEFAULT_PORTS[scheme] else f":{settings.port}"
        return f"{scheme}://{host}{port}"

    def _parts(self, name: str) -> tuple[str, str, str]:
        check_characters(name)
        path, mark, query = name.partition("?")
        split_name(path)
        split_name(unquote(path, errors="ignore"))
        return path.removeprefix("/"), mark, query


class HttpGet:
    """Implements `FileStorage` for reading."""

    def __init__(self, settings: "HttpSettings", context: ConnectorContext) -> None:
        self._server = _Server(settings, context)

    def absolute_path(self, name: str) -> str:
        return self._server.absolute_path(name)

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        url = self._server.url(name)
        with BackgroundLoop("HTTP GET") as loop, ExitStack() as stack:
            exchange = _Download(self._server, url)
            stack.callback(lambda: _run(loop, exchange.close()))
            response = _run(loop, exchange.open())
            if response.status in (404, 410):
                raise FileMissing(f"{shown(name)} does not exist", field="path")
            if response.status != 200:
                raise self._server.refused(response.status)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Unavailable("the response has a content encoding, which was not asked for")
            size = _size(response)
            if size is not None and size > MAX_FILE_BYTES:
                raise _too_large()
            updated_at = _time(response.headers.get("last-modified"))
            yield StoredFile(
                stream=stack.enter_context(io.BufferedReader(_Body(loop, exchange), _BUFFER_BYTES)),
                size=size,
                updated_at=updated_at,
                version=response.headers.get("etag") or ("" if updated_at is None else f"{updated_at}-{size}"),
            )

    def create(self, name: str, content_type: str) -> AbstractContextManager[BinaryIO]:
        self._server.absolute_path(name)
        raise BadRequest("the storage http-get cannot be written to")


class HttpPost:
    """Implements `FileStorage` for writing: a file is the body of one request."""

    def __init__(self, settings: "HttpSettings", context: ConnectorContext) -> None:
        self._server = _Server(settings, context)

    def absolute_path(self, name: str) -> str:
        return self._server.absolute_path(name)

    def open(self, name: str) -> AbstractContextManager[StoredFile]:
        self._server.absolute_path(name)
        raise BadRequest("the storage http-post cannot be read from")

    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        url = self._server.url(name)
        with BackgroundLoop("HTTP POST") as loop:
            upload = _Upload(loop, self._server, url, content_type)
            stream = io.BufferedWriter(upload, _BUFFER_BYTES)
            try:
                yield stream
                stream.flush()
                upload.finish()
            finally:
                upload.discard()
                stream.close()


class _Download:
    """One request and its response, on the background loop."""

    def __init__(self, server: _Server, url: str) -> None:
        self._server = server
        self._url = url
        self._stack = AsyncExitStack()
        self._response: StreamedResponse | None = None
        self._read = 0

    async def open(self) -> StreamedResponse:
        client = self._server.client()
        self._stack.push_async_callback(client.close)
        request = HttpRequest(method="GET", url=self._url, headers=self._server.headers(), timeout_seconds=READ_SECONDS)
        try:
            self._response = await self._stack.enter_async_context(client.stream(request))
        except TransportError as error:
            raise self._server.translated(error) from error
        return self._response

    async def read(self) -> bytes:
        assert self._response is not None, "it is open"
        try:
            chunk = await self._response.read()
        except TransportError as error:
            raise self._server.translated(error) from error
        self._read += len(chunk)
        if self._read > MAX_FILE_BYTES:
            raise _too_large()
        return chunk

    async def close(self) -> None:
        await self._stack.aclose()


class _Body(io.RawIOBase):
    """Reads the body of a response."""

    def __init__(self, loop: BackgroundLoop, download: _Download) -> None:
        self._loop = loop
        self._download = download
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._chunk:
            self._chunk = memoryview(_run(self._loop, self._download.read()))
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._chunk))
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count


class _Upload(io.RawIOBase):
    """Sends what is written as the body of a request, as it is written."""

    def __init__(self, loop: BackgroundLoop, server: _Server, url: str, content_type: str) -> None:
        self._loop = loop
        self._server = server
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED_CHUNKS)
        self._is_complete = False
        self._is_ended = False
        self._is_discarding = False
        headers = {**server.headers(), "content-type": content_type}
        request = HttpRequest(method="POST", url=url, headers=headers, timeout_seconds=READ_SECONDS)
        self._sending: Future[None] = loop.start(self._send(request))

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        chunk = bytes(memoryview(content).cast("B")[:_BUFFER_BYTES])
        if chunk and not self._is_discarding:
            self._give(chunk)
        return len(chunk)

    def finish(self) -> None:
        """End the body and wait for the response. Raises Unavailable."""
        self._give(b"")
        self._wait(READ_SECONDS + _GRACE_SECONDS)

    def discard(self) -> None:
        """Ignore further content, and end the request if it is not complete."""
        self._is_discarding = True
        self._sending.cancel()

    def _give(self, chunk: bytes) -> None:
        if self._sending.done():
            self._wait(0)
        try:
            self._loop.run(self._put(chunk), READ_SECONDS + _GRACE_SECONDS)
        except TimeoutError:
            raise Unavailable("the server did not take the file in time") from None

    def _wait(self, seconds: float) -> None:
        try:
            self._sending.result(seconds)
        except TimeoutError:
            raise Unavailable("the server did not respond to the file in time") from None
        if not self._is_complete:
            raise Unavailable("the server responded before it had received the file")

    async def _put(self, chunk: bytes) -> None:
        if not self._is_ended:
            await self._chunks.put(chunk)

    async def _send(self, request: HttpRequest) -> None:
        client = self._server.client()
        try:
            async with client.stream(request, self._body()) as response:
                status = response.status
        except TransportError as error:
            raise self._server.translated(error) from error
        finally:
            self._is_ended = True
            while not self._chunks.empty():  # a writer that waits for space continues
                self._chunks.get_nowait()
            await client.close()
        if not 200 <= status < 300:
            raise self._server.refused(status)

    async def _body(self) -> AsyncIterator[bytes]:
        while chunk := await self._chunks.get():
            yield chunk
        self._is_complete = True


def _run(loop: BackgroundLoop, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    try:
        return loop.run(coroutine, READ_SECONDS + _GRACE_SECONDS)
    except TimeoutError:
        raise Unavailable("the server did not respond in time") from None


def _encoded(text: str, safe: str = "") -> str:
    return quote(_NO_ESCAPE.sub("%25", text), safe=_PATH_CHARACTERS + safe)


def _size(response: StreamedResponse) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _too_large() -> Unavailable:
    return Unavailable(f"the file is larger than {MAX_FILE_BYTES} bytes, the maximum for HTTP")
