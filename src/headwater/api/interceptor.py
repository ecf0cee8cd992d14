"""The one place where errors become answers, and where a call gets its request id in the logs.

What escapes a handler and is not ours is a defect: it is logged with its traceback, and the caller learns nothing but
the request id to ask about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
import structlog
from grpc import aio

from headwater.api.admission import Admission, begin
from headwater.api.answers import ErrorBody, envelope, grpc_trailers, http_trailers, message_of, status_of
from headwater.api.call import Context, is_built, is_transcoded, metadata_of, send_headers
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
        limiter: RateLimiter | None = None,
    ) -> None:
        """`bodies` are the error bodies of services that have a dialect of their own, by the service's full name.
        `limiter` limits how many calls each API key may make."""
        self._bodies = dict(bodies or {})
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
            wrapped = self._handlers[method] = self.answering(method, handler)
        return wrapped

    def answering(self, method: str, handler: Handler) -> Handler:
        """The handler of "/package.Service/Method", made to answer whatever happens in it."""
        body_of = self._bodies.get(method.strip("/").partition("/")[0], envelope)
        return _answering(method, handler, body_of, self._metrics, self._limiter)


def _answering(
    method: str, handler: Handler, body_of: ErrorBody, metrics: Metrics, limiter: RateLimiter | None
) -> Handler:
    behavior = cast(Callable[[Any, Context], Any], handler.stream_stream or handler.unary_stream or handler.unary_unary)
    built = is_built(behavior)

    @asynccontextmanager
    async def answering(context: Context) -> AsyncIterator[Admission]:
        began, status = time.perf_counter(), "CANCELLED"
        admission = begin(method, limiter)
        metadata = metadata_of(context)
        structlog.contextvars.bind_contextvars(request_id=metadata.get("x-request-id", ""))
        try:
            if not built:
                raise Unimplemented("this call is not built yet")
            yield admission
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

    async def answer(request: Any, context: Context) -> Any:
        async with answering(context) as admission:
            result = await behavior(request, context)
            await send_headers(context, admission.headers)
            return result

    async def answer_in_pieces(request: Any, context: Context) -> AsyncIterator[Any]:
        async with answering(context) as admission:
            is_first = True
            async for piece in behavior(request, context):
                if is_first:
                    await send_headers(context, admission.headers)
                    is_first = False
                yield piece

    make: Callable[..., Handler]
    wrapped: Any  # the stubs know blocking behaviours only; aio takes both
    if handler.request_streaming:
        make, wrapped = grpc.stream_stream_rpc_method_handler, answer
    elif handler.response_streaming:
        make, wrapped = grpc.unary_stream_rpc_method_handler, answer_in_pieces
    else:
        make, wrapped = grpc.unary_unary_rpc_method_handler, answer
    return make(
        wrapped,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _is_of_grpc(method: str) -> bool:
    """Whether it is a call of health or reflection."""
    return method.startswith("/grpc.")


async def _abort(context: Context, metadata: dict[str, str], error: HeadwaterError, body_of: ErrorBody) -> NoReturn:
    trailers = http_trailers(error, body_of) if is_transcoded(metadata) else grpc_trailers(error)
    await context.abort(status_of(error), message_of(error), trailers)
