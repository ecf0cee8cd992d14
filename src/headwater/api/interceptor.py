"""The one place where errors become answers, and where a call gets its request id in the logs.

What escapes a handler and is not ours is a defect: it is logged with its traceback, and the caller learns nothing but
the request id to ask about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
import structlog
from grpc import aio

from headwater.api.admission import Admission, begin
from headwater.api.answers import ErrorBody, envelope, grpc_trailers, http_trailers, message_of, status_of
from headwater.api.call import Context, is_built, is_transcoded, metadata_of, send_headers
from headwater.api.codec import Codec
from headwater.base.errors import HeadwaterError, Unimplemented
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.intake import RateLimiter

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the stubs only
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

_log = structlog.get_logger(__name__)


class AnswerInterceptor(aio.ServerInterceptor):
    """Turns exceptions into answers, for every RPC."""

    def __init__(
        self,
        bodies: Mapping[str, ErrorBody] | None = None,
        metrics: Metrics = NO_METRICS,
        lenient: Collection[str] = (),
        limiter: RateLimiter | None = None,
    ) -> None:
        """`bodies` are the error bodies of services that have a dialect of their own, by the service's full name;
        `lenient` are the full names of services that ignore query parameters they do not know. `limiter` limits how
        many calls each API key may make."""
        self._bodies = dict(bodies or {})
        self._lenient = frozenset(lenient)
        self._metrics = metrics
        self._limiter = limiter
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        method = handler_call_details.method
        wrapped = self._handlers.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or (handler.response_streaming and _is_of_grpc(method)):
                return handler  # unknown methods, and the streams of health and reflection
            wrapped = self._handlers[method] = self._answering(method, handler, Codec(method, handler))
        return wrapped

    def answering(self, method: str, handler: Handler) -> Handler:
        """The handler of "/package.Service/Method", which answers whatever happens in it. Takes messages, not bytes."""
        return self._answering(method, handler, None)

    def _answering(self, method: str, handler: Handler, codec: Codec | None) -> Handler:
        service = method.strip("/").partition("/")[0]
        checked = codec if service not in self._lenient else None
        body_of = self._bodies.get(service, envelope)
        return _answering(method, handler, body_of, self._metrics, self._limiter, codec, checked)


def _answering(
    method: str,
    handler: Handler,
    body_of: ErrorBody,
    metrics: Metrics,
    limiter: RateLimiter | None,
    codec: Codec | None,
    query: Codec | None,
) -> Handler:
    """With a `codec` the handler takes and gives bytes; the query parameters of REST calls must be known to `query`."""
    behavior = cast(Callable[[Any, Context], Any], handler.stream_stream or handler.unary_stream or handler.unary_unary)
    built = is_built(behavior)

    @asynccontextmanager
    async def answering(context: Context) -> AsyncIterator[tuple[dict[str, str], Admission]]:
        began, status = time.perf_counter(), "CANCELLED"
        admission = begin(method, limiter)
        metadata = metadata_of(context)
        structlog.contextvars.bind_contextvars(request_id=metadata.get("x-request-id", ""))
        try:
            if not built:
                raise Unimplemented("this call is not built yet")
            if query is not None:
                query.check_query(metadata)
            yield metadata, admission
            status = "OK"
        except HeadwaterError as error:
            status = status_of(error).name
            error.headers = {**admission.headers, **error.headers}
            await _abort(context, metadata, error, body_of)
        except (asyncio.CancelledError, aio.AbortError):
            raise
        except Exception:
            _log.exception("a call failed")
            status = "INTERNAL"
            await _abort(context, metadata, HeadwaterError("the server failed to handle the call"), body_of)
        finally:
            metrics.call_answered(method, status, time.perf_counter() - began)

    def decode(request: Any, metadata: dict[str, str]) -> Any:
        return request if codec is None else codec.decode(request, metadata)

    def encode(response: Any, metadata: dict[str, str]) -> Any:
        return response if codec is None else codec.encode(response, metadata)

    async def answer(request: Any, context: Context) -> Any:
        async with answering(context) as (metadata, admission):
            result = encode(await behavior(decode(request, metadata), context), metadata)
            await send_headers(context, admission.headers)
            return result

    async def answer_in_pieces(request: Any, context: Context) -> AsyncIterator[Any]:
        async with answering(context) as (metadata, admission):
            is_first = True
            async for piece in behavior(decode(request, metadata), context):
                if is_first:
                    await send_headers(context, admission.headers)
                    is_first = False
                yield encode(piece, metadata)

    async def decode_each(requests: AsyncIterator[Any], metadata: dict[str, str]) -> AsyncIterator[Any]:
        async for request in requests:
            yield decode(request, metadata)

    async def answer_stream(requests: AsyncIterator[Any], context: Context) -> Any:
        async with answering(context) as (metadata, _):
            if codec is not None:
                codec.check_stream(metadata)
            await behavior(decode_each(requests, metadata), context)

    make: Callable[..., Handler]
    wrapped: Any  # the stubs know blocking behaviours only; aio takes both
    serialize = handler.response_serializer if codec is None else None
    if handler.request_streaming:
        make, wrapped = grpc.stream_stream_rpc_method_handler, answer_stream
        serialize = handler.response_serializer  # its behaviour writes messages to the context
    elif handler.response_streaming:
        make, wrapped = grpc.unary_stream_rpc_method_handler, answer_in_pieces
    else:
        make, wrapped = grpc.unary_unary_rpc_method_handler, answer
    deserialize = handler.request_deserializer if codec is None else None
    return make(wrapped, request_deserializer=deserialize, response_serializer=serialize)


def _is_of_grpc(method: str) -> bool:
    """Whether it is a call of health or reflection."""
    return method.startswith("/grpc.")


async def _abort(context: Context, metadata: dict[str, str], error: HeadwaterError, body_of: ErrorBody) -> NoReturn:
    trailers = http_trailers(error, body_of) if is_transcoded(metadata) else grpc_trailers(error)
    await context.abort(status_of(error), message_of(error), trailers)
