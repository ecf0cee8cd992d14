"""The HTTP server of a backend: its socket, and the connections that the gateway keeps open to it.

Only the gateway comes here. It has bounded and buffered each body and normalised the path, and asks one thing at a time
of a connection; what is not as it would send it closes the connection. What it takes for HTTP and httptools does not is
the client's mistake and is answered 400: a connection that just ends would be 503, which asks for the same again.
"""

import asyncio
from pathlib import Path
from typing import Any, Final, cast

import httptools
import structlog
from google.api.httpbody_pb2 import HttpBody
from grpc import aio

from headwater.api.http.call import HttpCall, context_of, metadata_text, response
from headwater.api.http.routes import RawCall, RawCalls

HEALTH_PATH: Final = "/healthz"
"""Where the gateway asks whether this process still answers."""
BACKLOG: Final = 2048
"""Connections that may wait to be taken: more than the gateway opens."""

_NOT_FOUND: Final = response(
    404, b'{"error":{"code":"NotFound","message":"there is no such path, or it does not take this method"}}'
)
_NOT_HTTP: Final = response(
    400, b'{"error":{"code":"BadRequest","message":"the request is not valid HTTP"}}', {"connection": "close"}
)
_FAILED: Final = response(
    500,
    b'{"error":{"code":"InternalServerError","message":"the server failed to handle the call"}}',
    {"connection": "close"},
)
_HEALTHY: Final = response(200, b"{}")

_log = structlog.get_logger(__name__)


class HttpServer:
    """Answers raw calls until `stop`."""

    def __init__(self, calls: RawCalls, *, max_body_bytes: int) -> None:
        self.calls = calls
        self.max_body_bytes = max_body_bytes
        self.connections: set[_Connection] = set()
        self.is_stopping = False
        self.answers: set[asyncio.Task[None]] = set()
        """Those that are being made."""

    async def start(self, socket: Path) -> None:
        """Listen on a unix socket."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(lambda: _Connection(self), str(socket), backlog=BACKLOG)

    async def stop(self, grace_s: float) -> None:
        """Take no more requests, answer those that have begun, for at most `grace_s`, and end."""
        self.is_stopping = True
        self._listening.close()
        for connection in tuple(self.connections):
            if connection.answer is None:
                connection.close()
        if self.answers:
            await asyncio.wait(self.answers, timeout=grace_s)
        unfinished = tuple(self.answers)
        for answer in unfinished:
            answer.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        for connection in tuple(self.connections):
            connection.close()


class _Connection(asyncio.Protocol):
    """What httptools calls while it reads, and the task that answers."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self.answer: asyncio.Task[None] | None = None
        """The task that answers the request that is open."""
        self._await_request()

    def _await_request(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._size = 0

    def close(self) -> None:
        """Close, once what was written is sent."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._await_request()  # the parser and this refer to each other: what had arrived would stay for a while
        if self.answer is not None:  # nobody waits for it any more
            self.answer.cancel()
            self.answer.add_done_callback(self._server.answers.discard)  # it may end before it begins

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            _log.exception("a request could not be taken")
            self._give_up(_FAILED)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give_up(_NOT_HTTP)

    def _give_up(self, last_words: bytes) -> None:
        if self.answer is None and not self._transport.is_closing():  # or they would be taken for that answer
            self._transport.write(last_words)
        self.close()

    def on_url(self, piece: bytes) -> None:
        self._url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((metadata_text(name).lower(), metadata_text(value)))

    def on_body(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._server.max_body_bytes:
            self.close()
        else:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        if self.answer is not None:  # a second request before the answer to the first
            self.close()
        if self._transport.is_closing() or self._parser.should_upgrade():  # which ends in HttpParserUpgrade
            return
        target = metadata_text(self._url)
        path, _, _ = target.partition("?")
        found = self._server.calls.find(path) if self._parser.get_method() == b"POST" else None
        if path == HEALTH_PATH:
            self._transport.write(_HEALTHY)
        elif found is None:
            self._transport.write(_NOT_FOUND)
        else:
            call, variables = found
            content_type = next((value for name, value in self._headers if name == "content-type"), "")
            message = call.message(HttpBody(content_type=content_type, data=b"".join(self._body)), variables)
            answering = self._answer(call, message, HttpCall(self._headers, target))
            self.answer = asyncio.get_running_loop().create_task(answering)
            self._server.answers.add(self.answer)
        self._await_request()

    async def _answer(self, raw: RawCall, message: Any, call: HttpCall) -> None:
        is_last = True
        try:
            try:
                body = await raw.answer(message, context_of(call))
            except aio.AbortError:
                body = None
            self._transport.write(call.answered(body))
            is_last = self._server.is_stopping
        except Exception:  # a defect of ours: what servicers raise is answered before it comes here
            _log.exception("a call has no answer")
            self._transport.write(_FAILED)
        finally:
            self._server.answers.discard(cast("asyncio.Task[None]", self.answer))
            self.answer = None
            if is_last:
                self.close()
