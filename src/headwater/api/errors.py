"""Turns exceptions into responses, measures calls, and gives the log lines of a call its request id.

A `HeadwaterError` becomes a gRPC status with details, or an HTTP status with the error body of the protocol. Any other
exception is a bug. It is logged with its traceback and returned as 500 without details. `headwater.api.ingest_http`
does the same for calls over plain HTTP.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from headwater.api.admission import Admission, begin
from headwater.api.codec import CODEC_HEADER, Codec
from headwater.api.request import Context, is_transcoded, read_metadata, send_headers
from headwater.base.errors import HeadwaterError
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.traceparent import begin_trace
from headwater.intake import RateLimiter

if TYPE_CHECKING:
    RpcHandler = grpc.RpcMethodHandler[Any, Any]  # generic in the stubs only
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[RpcHandler | None]]

DOMAIN: Final = "headwater"
"""The `domain` of `google.rpc.ErrorInfo`. Its `reason` is the error's code."""
MAX_MESSAGE_BYTES: Final = 1_500
"""In UTF-8. Messages travel in headers, where a byte may take three: the gateway fails with 502 above 60 KB, and gRPC
clients reject 8 KB, or report a failure of their own instead."""
MAX_FIELD_BYTES: Final = 500
"""In UTF-8. The path of a field can contain a name that the caller sent, and is in the details twice."""

_STATUS: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

ErrorBody = Callable[[HeadwaterError], dict[str, object]]
"""Returns the JSON body of an error."""
Trailers = tuple[tuple[str, str | bytes], ...]

_log = structlog.get_logger(__name__)


def short_message(error: HeadwaterError) -> str:
    """Return the error's message, cut to what a header may hold: it may repeat what the caller sent."""
    return _cut(error.message, MAX_MESSAGE_BYTES)


def _cut(text: str, size: int) -> str:
    """Return the characters that fit into this many bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def default_error_body(error: HeadwaterError) -> dict[str, object]:
    """Return the error body of all services without a protocol of their own."""
    return {"error": {"code": error.code, "message": short_message(error)} | field_member(error)}


def field_member(error: HeadwaterError) -> dict[str, str]:
    """Return the member `field` of an error body, with the path of the invalid value; nothing if the error has none."""
    return {} if error.field is None else {"field": _cut(error.field, MAX_FIELD_BYTES)}


def grpc_status(error: HeadwaterError) -> grpc.StatusCode:
    """Return the gRPC status that stands for the error's HTTP status."""
    return _STATUS.get(error.status, grpc.StatusCode.INTERNAL)


def http_trailers(error: HeadwaterError, body_of: ErrorBody) -> Trailers:
    """Return the trailers that make the gateway respond with this error."""
    trailers: Trailers = (("x-http-code", str(error.status)), ("x-http-body", json.dumps(body_of(error))))
    return (*trailers, *error.headers.items())


def grpc_trailers(error: HeadwaterError, *, is_connect: bool = False) -> Trailers:
    """Return the trailers with the details of the error for gRPC callers: ErrorInfo, and BadRequest for a field.

    The gateway copies the types of details into the errors of the Connect protocol, where they have no prefix.
    """
    metadata = {name: _cut(value, MAX_FIELD_BYTES) for name, value in error.details.items()}
    details = [error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=metadata)]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field, MAX_FIELD_BYTES), description=short_message(error), reason=error.code
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    status = status_pb2.Status(code=grpc_status(error).value[0], message=short_message(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        if is_connect:
            packed.type_url = detail.DESCRIPTOR.full_name
        status.details.append(packed)
    return (("grpc-status-details-bin", status.SerializeToString()), *error.headers.items())


def bug() -> HeadwaterError:
    """Return the error that stands for an exception that is a bug, without its details."""
    return HeadwaterError("the server failed to handle the call")


class ErrorInterceptor(aio.ServerInterceptor):
    """Turns the exceptions of every RPC into responses."""

    def __init__(
        self,
        bodies: Mapping[str, ErrorBody] | None = None,
        metrics: Metrics = NO_METRICS,
        lenient: Collection[str] = (),
        limiter: RateLimiter | None = None,
    ) -> None:
        """`bodies` are the error bodies of services with a protocol of their own, by the service's full name. `lenient`
        are the full names of services that ignore unknown query parameters. `limiter` limits the calls of each API
        key."""
        self._bodies = dict(bodies or {})
        self._lenient = frozenset(lenient)
        self._metrics = metrics
        self._limiter = limiter
        self._handlers: dict[str, RpcHandler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> RpcHandler | None:
        method = handler_call_details.method
        wrapped = self._handlers.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or (handler.response_streaming and _is_of_grpc(method)):
                return handler  # unknown methods, and the streams of health and reflection
            codec = Codec(method, handler)
            service = _split_service(method)
            wrapped = self._handlers[method] = _wrap(
                method,
                handler,
                self._bodies.get(service, default_error_body),
                self._metrics,
                self._limiter,
                codec,
                check_query=service not in self._lenient,
            )
        return wrapped


def _wrap(
    method: str,
    handler: RpcHandler,
    body_of: ErrorBody,
    metrics: Metrics,
    limiter: RateLimiter | None,
    codec: Codec,
    *,
    check_query: bool,
) -> RpcHandler:
    """Return a handler of bytes, which responds to errors. With `check_query` unknown query parameters are errors."""
    behavior = cast(Callable[[Any, Context], Any], handler.stream_stream or handler.unary_stream or handler.unary_unary)

    @asynccontextmanager
    async def guard(context: Context) -> AsyncIterator[tuple[dict[str, str], Admission]]:
        began, status = time.perf_counter(), "CANCELLED"
        admission = begin(method, limiter)
        metadata = read_metadata(context)
        structlog.contextvars.bind_contextvars(request_id=metadata.get("x-request-id", ""))
        begin_trace(metadata.get("traceparent", ""))
        try:
            if check_query:
                codec.check_query(metadata)
            yield metadata, admission
            status = "OK"
        except HeadwaterError as error:
            status = grpc_status(error).name
            error.headers = {**admission.headers, **error.headers}
            await _abort(context, metadata, error, body_of)
        except (asyncio.CancelledError, aio.AbortError):
            raise
        except Exception:
            _log.exception("a call failed")
            status = "INTERNAL"
            await _abort(context, metadata, bug(), body_of)
        finally:
            metrics.rpc_handled(method, status, time.perf_counter() - began)

    async def respond(request: bytes, context: Context) -> bytes:
        async with guard(context) as (metadata, admission):
            result = codec.encode(await behavior(codec.decode(request, metadata), context), metadata)
            await send_headers(context, admission.headers)
            return result

    async def respond_in_pieces(request: bytes, context: Context) -> AsyncIterator[bytes]:
        async with guard(context) as (metadata, admission):
            is_first = True
            async with aclosing(behavior(codec.decode(request, metadata), context)) as pieces:
                async for piece in pieces:
                    if is_first:
                        await send_headers(context, admission.headers)
                        is_first = False
                    yield codec.encode(piece, metadata)

    async def decode_each(requests: AsyncIterator[bytes], metadata: dict[str, str]) -> AsyncIterator[Any]:
        async for request in requests:
            yield codec.decode(request, metadata)

    async def respond_to_stream(requests: AsyncIterator[bytes], context: Context) -> Any:
        async with guard(context) as (metadata, _):
            codec.check_stream(metadata)
            await behavior(decode_each(requests, metadata), context)

    make: Callable[..., RpcHandler]
    wrapped: Any  # the stubs know blocking behaviors only; aio takes both
    if handler.request_streaming:
        # Its behavior writes messages to the context.
        make, wrapped, serialize = grpc.stream_stream_rpc_method_handler, respond_to_stream, handler.response_serializer
    elif handler.response_streaming:
        make, wrapped, serialize = grpc.unary_stream_rpc_method_handler, respond_in_pieces, None
    else:
        make, wrapped, serialize = grpc.unary_unary_rpc_method_handler, respond, None
    return make(wrapped, request_deserializer=None, response_serializer=serialize)


def _split_service(method: str) -> str:
    return method.strip("/").partition("/")[0]


def _is_of_grpc(method: str) -> bool:
    """Whether it is a call of health or reflection."""
    return method.startswith("/grpc.")


async def _abort(context: Context, metadata: dict[str, str], error: HeadwaterError, body_of: ErrorBody) -> NoReturn:
    is_connect = CODEC_HEADER in metadata
    trailers = http_trailers(error, body_of) if is_transcoded(metadata) else grpc_trailers(error, is_connect=is_connect)
    await context.abort(grpc_status(error), short_message(error), trailers)
