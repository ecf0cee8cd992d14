"""The handlers of calls with a raw body, which gRPC and plain HTTP/1.1 both call.

A handler takes an `IngestRequest` and returns an `IngestResponse`, or raises `HeadwaterError`. It does not know the
transport. Over gRPC a servicer passes its calls on with `handle_rpc`; over HTTP `headwater.api.ingest_http` routes the
paths of the protos to the same handlers (docs/decisions/0025-raw-calls-over-http.md).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from google.api.httpbody_pb2 import HttpBody
from msgspec import Struct

from headwater.api.request import Context, is_transcoded, query_text, read_metadata, send_headers

NO_VARIABLES: Final[Mapping[str, str]] = {}


class IngestRequest(Struct, frozen=True):
    """A request with a raw body."""

    body: bytes
    content_type: str
    headers: Sequence[tuple[str, Any]]
    """All headers, names in lower case; repeated ones too."""
    metadata: Mapping[str, str]
    """The text headers; of repeated ones the last."""
    query: str = ""
    """The query string, without the question mark."""
    variables: Mapping[str, str] = NO_VARIABLES
    """The values of the variables of the path."""


class IngestResponse(Struct, frozen=True):
    """A response with a raw body; errors have one too."""

    body: bytes = b""
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = NO_VARIABLES


IngestHandler = Callable[[IngestRequest], Awaitable[IngestResponse]]
"""Handles one RPC. Raises HeadwaterError."""


async def handle_rpc(handler: IngestHandler, body: HttpBody, context: Context, **variables: str) -> HttpBody:
    """Call the handler with the request of an RPC. Raises as the handler does."""
    metadata = read_metadata(context)
    response = await handler(
        IngestRequest(
            body=body.data,
            content_type=body.content_type,
            headers=tuple(context.invocation_metadata() or ()),
            metadata=metadata,
            query=query_text(metadata),
            variables=variables,
        )
    )
    status = {"x-http-code": str(response.status)} if response.status != 200 and is_transcoded(metadata) else {}
    await send_headers(context, {**response.headers, **status})
    return HttpBody(content_type=response.content_type, data=response.body)
