"""A request as a servicer sees it, in the place of gRPC's context, and the answer that comes of it."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, NoReturn

from google.api.httpbody_pb2 import HttpBody
from grpc import aio

Headers = Iterable[tuple[str, str]]

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


class HttpCall:
    """What the servicers of raw calls use of `grpc.aio.ServicerContext`."""

    def __init__(self, headers: Headers, target: str) -> None:
        # The name under which the gateway tells transcoded calls what was asked for. Only it may: the last one counts.
        self._metadata = (*headers, ("x-envoy-original-path", target))
        self._answer: Headers = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def send_initial_metadata(self, metadata: Headers) -> None:
        self._answer = metadata

    async def abort(self, code: object, details: str = "", trailing_metadata: Headers = ()) -> NoReturn:
        self._answer = trailing_metadata
        raise aio.AbortError(details)

    def answered(self, body: HttpBody | None) -> bytes:
        """The answer as it goes over the wire; `body` is None after `abort`."""
        headers = dict(self._answer)
        status = int(headers.pop("x-http-code", "200"))
        if body is None:
            return response(status, headers.pop("x-http-body").encode(), headers)
        return response(status, body.data, headers, body.content_type)


def response(
    status: int, body: bytes, headers: dict[str, str] | None = None, content_type: str = "application/json"
) -> bytes:
    """A complete HTTP/1.1 response."""
    lines = [_STATUS_LINES[status]]
    if status != HTTPStatus.NO_CONTENT:
        lines += (f"content-type: {content_type}", f"content-length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join((*lines, "", "")).encode() + body


def metadata_text(value: bytes) -> str:
    """A header's value as gRPC shows it: UTF-8, or else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def context_of(call: HttpCall) -> Any:
    """The call in the place of a context: servicers use no more of it than there is."""
    return call
