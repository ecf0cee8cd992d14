"""How an error looks to its caller: a gRPC status with ErrorInfo, or an HTTP status with the body of its dialect."""

import json
from collections.abc import Callable
from typing import Final

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from headwater.base.errors import HeadwaterError

DOMAIN: Final = "headwater"
"""The `domain` of our `google.rpc.ErrorInfo`; its `reason` is the error's code."""
MAX_MESSAGE_BYTES: Final = 1_500
"""In UTF-8. Messages travel in headers, where a byte may take three: the gateway answers 502 above 60 KB, and gRPC
clients refuse 8 KB, or report a failure of their own instead of ours."""

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
Trailers = tuple[tuple[str, str | bytes], ...]


def message_of(error: HeadwaterError) -> str:
    """The error's message, cut to what a header may hold: it may repeat what the caller sent."""
    return error.message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def envelope(error: HeadwaterError) -> dict[str, object]:
    """The error body of every route that has no dialect of its own."""
    return {"error": {"code": error.code, "message": message_of(error)}}


def status_of(error: HeadwaterError) -> grpc.StatusCode:
    """The gRPC status that stands for the error's HTTP status."""
    return _STATUS.get(error.status, grpc.StatusCode.INTERNAL)


def http_trailers(error: HeadwaterError, body_of: ErrorBody) -> Trailers:
    """What makes the gateway answer with this error."""
    trailers: Trailers = (("x-http-code", str(error.status)), ("x-http-body", json.dumps(body_of(error))))
    return (*trailers, *error.headers.items())


def grpc_trailers(error: HeadwaterError) -> Trailers:
    """What tells a native gRPC caller more than the status does."""
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=error.details)
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=status_of(error).value[0], message=message_of(error), details=[detail])
    return (("grpc-status-details-bin", status.SerializeToString()), *error.headers.items())
