"""Calls with a raw body over plain HTTP/1.1: the gateway passes them on as they came, because nothing is transcoded.

Such a call has a JSON body without a message in the protos, and one of a handful of responses. Wrapped in HTTP/2 and
gRPC it costs ten times as much as here (docs/decisions/0025-raw-calls-over-http.md). The handlers are those of the
RPCs, and the routes those of the protos' `google.api.http` rules.

Only the gateway connects. It has bounded and buffered each body, has normalised the path, and sends one request at a
time over a connection; anything else closes the connection. A request that the gateway accepts and httptools does not
is the client's mistake and returns 400: a connection that just ends would be 503, which asks for a repetition.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final, cast
from urllib.parse import unquote

import httptools
import structlog
from google.api.annotations_pb2 import http
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default

from headwater.api.errors import ErrorBody, bug, default_error_body, grpc_status
from headwater.api.ingest import NO_VARIABLES, IngestHandler, IngestRequest, IngestResponse
from headwater.base.errors import HeadwaterError
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.traceparent import begin_trace

HEALTH_PATH: Final = "/healthz"
"""The path of the gateway's health checks."""
BACKLOG: Final = 2048
"""Connections that may wait to be accepted: more than the gateway opens."""

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}

_log = structlog.get_logger(__name__)


def serialise(response: IngestResponse) -> bytes:
    """Return a complete HTTP/1.1 response."""
    body = response.body
    head = _STATUS_LINES[response.status]
    if response.status != HTTPStatus.NO_CONTENT:
        head += f"content-type: {response.content_type}\r\ncontent-length: {len(body)}\r\n"
    for name, value in response.headers.items():
        head += f"{name}: {value}\r\n"
    return f"{head}\r\n".encode() + body


def header_text(value: bytes) -> str:
    """Return a header's value as gRPC shows it: as UTF-8, or else as Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _error(status: int, code: str, message: str, *, closes: bool = False) -> bytes:
    body = f'{{"error":{{"code":"{code}","message":"{message}"}}}}'.encode()
    return serialise(IngestResponse(body, status=status, headers={"connection": "close"} if closes else {}))


_NOT_FOUND: Final = _error(404, "NotFound", "there is no such path, or it does not take this method")
_NOT_HTTP: Final = _error(400, "BadRequest", "the request is not valid HTTP", closes=True)
_FAILED: Final = _error(500, "InternalServerError", "the server failed to handle the call", closes=True)
_HEALTHY: Final = serialise(IngestResponse(b"{}"))


class HttpServer:
    """Serves the paths of a router until `stop`."""

    def __init__(self, router: "Router", *, max_body_bytes: int) -> None:
        self.router = router
        self.max_body_bytes = max_body_bytes
        self.connections: set[_Connection] = set()
        self.is_stopping = False
        self.responding: set[asyncio.Task[None]] = set()
        """The tasks that handle a request."""

    async def start(self, socket: Path) -> None:
        """Listen on a unix socket."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(lambda: _Connection(self), str(socket), backlog=BACKLOG)

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more requests, finish those that have begun, for at most `grace_seconds`, and close."""
        self.is_stopping = True
        self._listening.close()
        for connection in tuple(self.connections):
            if connection.task is None:
                connection.close()
        if self.responding:
            await asyncio.wait(self.responding, timeout=grace_seconds)
        unfinished = tuple(self.responding)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        for connection in tuple(self.connections):
            connection.close()


class _Connection(asyncio.Protocol):
    """Collects a request while httptools parses it, and starts the task that handles it."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self.task: asyncio.Task[None] | None = None
        """The task that handles the present request."""
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
        if self.task is not None:  # nobody waits for it any more
            self.task.cancel()
            self.task.add_done_callback(self._server.responding.discard)  # it may end before it begins

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            _log.exception("a request could not be taken")
            self._give_up(_FAILED)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._give_up(_NOT_HTTP)

    def _give_up(self, response: bytes) -> None:
        if (
            self.task is None and not self._transport.is_closing()
        ):  # or it would be taken for the response to that request
            self._transport.write(response)
        self.close()

    def on_url(self, piece: bytes) -> None:
        self._url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((header_text(name).lower(), header_text(value)))

    def on_body(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._server.max_body_bytes:
            self.close()
        else:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        if self.task is not None:  # a second request before the response to the first
            self.close()
        if self._transport.is_closing() or self._parser.should_upgrade():  # an upgrade ends in HttpParserUpgrade
            return
        target = header_text(self._url)
        path, _, query = target.partition("?")
        found = self._server.router.find(path) if self._parser.get_method() == b"POST" else None
        if path == HEALTH_PATH:
            self._transport.write(_HEALTHY)
        elif found is None:
            self._transport.write(_NOT_FOUND)
        else:
            handler, variables = found
            metadata = dict(self._headers)
            request = IngestRequest(
                body=b"".join(self._body),
                content_type=metadata.get("content-type", ""),
                headers=self._headers,
                metadata=metadata,
                query=query,
                variables=variables,
            )
            self.task = asyncio.get_running_loop().create_task(self._respond(handler, request))
            self._server.responding.add(self.task)
        self._await_request()

    async def _respond(self, handler: IngestHandler, request: IngestRequest) -> None:
        is_last = True
        try:
            self._transport.write(serialise(await handler(request)))
            is_last = self._server.is_stopping
        except Exception:  # a bug of the server: a handler of the router raises nothing
            _log.exception("a call has no response")
            self._transport.write(_FAILED)
        finally:
            self._server.responding.discard(cast("asyncio.Task[None]", self.task))
            self.task = None
            if is_last:
                self.close()


class Router:
    """The handlers of all paths to which a raw body is posted."""

    def __init__(self, metrics: Metrics = NO_METRICS) -> None:
        self._metrics = metrics
        self._handlers: dict[str, IngestHandler] = {}
        self._patterns: list[tuple[re.Pattern[str], IngestHandler]] = []

    def add(
        self, service: str, handlers: Mapping[str, IngestHandler], error_body: ErrorBody = default_error_body
    ) -> None:
        """Route the paths of the RPCs of a service, by its full name, to their handlers."""
        methods = Default().FindServiceByName(service).methods_by_name
        for name, handler in handlers.items():
            wrapped = _respond_to_errors(f"/{service}/{name}", handler, error_body, self._metrics)
            for path in _paths(methods[name]):
                self._add(path, wrapped)

    def find(self, path: str) -> tuple[IngestHandler, Mapping[str, str]] | None:
        """Return the handler of a POST to a path, with the values of the path's variables; None for unknown paths."""
        handler = self._handlers.get(path)
        if handler is not None:
            return handler, NO_VARIABLES
        for pattern, candidate in self._patterns:
            if found := pattern.fullmatch(path):
                return candidate, {name: unquote(value) for name, value in found.groupdict().items()}
        return None

    def _add(self, path: str, handler: IngestHandler) -> None:
        if "{" in path:
            self._patterns.append((re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))), handler))
        else:
            self._handlers[path] = handler


def _paths(method: MethodDescriptor) -> Iterator[str]:
    """Yield the paths to which the raw body of an RPC is posted: its whole message, or one field of it."""
    rule = method.GetOptions().Extensions[http]
    for binding in (rule, *rule.additional_bindings):
        body: Descriptor | None = method.input_type
        if binding.body != "*":
            body = method.input_type.fields_by_name[binding.body].message_type
        assert binding.post and body is HttpBody.DESCRIPTOR, f"{method.full_name} has no raw body"
        yield binding.post


def _respond_to_errors(method: str, handler: IngestHandler, body_of: ErrorBody, metrics: Metrics) -> IngestHandler:
    """Return a handler that raises nothing but CancelledError. `method` is "/package.Service/Method"."""

    async def respond(request: IngestRequest) -> IngestResponse:
        began, status = time.perf_counter(), "CANCELLED"
        structlog.contextvars.bind_contextvars(request_id=request.metadata.get("x-request-id", ""))
        begin_trace(request.metadata.get("traceparent", ""))
        try:
            response = await handler(request)
            status = "OK"
            return response
        except HeadwaterError as error:
            status = grpc_status(error).name
            return _error_response(error, body_of)
        except Exception:
            _log.exception("a call failed")
            status = "INTERNAL"
            return _error_response(bug(), body_of)
        finally:
            metrics.rpc_handled(method, status, time.perf_counter() - began)

    return respond


def _error_response(error: HeadwaterError, body_of: ErrorBody) -> IngestResponse:
    return IngestResponse(json.dumps(body_of(error)).encode(), status=error.status, headers=error.headers)
