"""Metadata of a request: headers, the caller, and the workspace. For REST calls the metadata are the HTTP headers."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from grpc import aio

from headwater.api.admission import admit
from headwater.base.errors import BadRequest, Unavailable
from headwater.catalog import ApiKey, Caller, Catalog, access
from headwater.catalog.access import WORKSPACE_HEADER
from headwater.events import ProtocolName
from headwater.intake import IncomingCall

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]
else:
    Context = aio.ServicerContext  # generic in the stubs only

ORIGINAL_PATH_HEADER = "x-envoy-original-path"
"""Path and query of a call that the gateway has transcoded from JSON over HTTP. Clients cannot set this header."""


def read_metadata(context: Context) -> dict[str, str]:
    """Return the text metadata of a call, names in lower case; of repeated names the last."""
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def is_transcoded(metadata: Mapping[str, str]) -> bool:
    """Whether the caller uses JSON over HTTP."""
    return ORIGINAL_PATH_HEADER in metadata


def query_text(metadata: Mapping[str, str]) -> str:
    """Return the query string of a REST call; empty when there is none."""
    return metadata.get(ORIGINAL_PATH_HEADER, "").partition("?")[2]


def parse_query(query: str) -> dict[str, str]:
    """Return the query parameters; of repeated ones the last."""
    return dict(parse_qsl(query)) if query else {}


def caller_address(metadata: Mapping[str, str]) -> str:
    """Return the IP address of the caller, as the gateway saw it; empty without a gateway."""
    return metadata.get("x-envoy-external-address", "")


async def send_headers(context: Context, headers: Mapping[str, str]) -> None:
    """Send the headers of a successful response, once and before its message. Does nothing without headers.

    Do not call it before an error: the headers of the error would not arrive.
    """
    if headers:
        await context.send_initial_metadata(tuple(headers.items()))


async def authenticate(catalog: Catalog, context: Context) -> ApiKey:
    """Return the API key of a call that needs no workspace. Raises Unauthorized and BadRequest, and as `admit` does."""
    await _refresh(catalog)
    key = await access.authenticate(catalog, read_metadata(context).get("authorization"))
    admit(key)
    return key


async def require_workspace(catalog: Catalog, context: Context) -> int:
    """Return the workspace of the call: the one that its key is restricted to, or the one that its header names.

    Raises as `require_caller` does, and Forbidden when an unrestricted key comes without the header.
    """
    return (await require_caller(catalog, context)).require_workspace()


async def require_caller(catalog: Catalog, context: Context) -> Caller:
    """Return the caller, for calls that need no workspace.

    Raises Unauthorized, BadRequest and NotFound as `headwater.catalog.access` does, BadRequest for a repeated header,
    and as `admit` does.
    """
    check_not_repeated(context.invocation_metadata() or ())
    await _refresh(catalog)
    metadata = read_metadata(context)
    caller = await access.find_caller(catalog, metadata.get("authorization"), metadata.get(WORKSPACE_HEADER))
    admit(caller.key)
    return caller


def check_not_repeated(headers: Iterable[tuple[str, str | bytes]]) -> None:
    """Raise BadRequest when the headers name the caller or the workspace more than once."""
    found = set()
    for name, _ in headers:
        if name in ("authorization", WORKSPACE_HEADER):
            if name in found:
                raise BadRequest(f"the {name} header is repeated", field=name)
            found.add(name)


def incoming_call(protocol: ProtocolName, call: str, body: bytes, metadata: Mapping[str, str]) -> IncomingCall:
    """Return the call `call` of a protocol as the intake takes it."""
    return IncomingCall(
        protocol=protocol,
        call=call,
        body=body,
        authorization=metadata.get("authorization"),
        content_encoding=metadata.get("content-encoding"),
        ip=caller_address(metadata),
        user_agent=metadata.get("user-agent", ""),
        write_key=metadata.get("x-write-key"),
    )


async def _refresh(catalog: Catalog) -> None:
    """Refresh first so that callers read their own writes, which another process may have handled.

    Without the database the catalog continues with the state that it has.
    """
    if catalog.is_shared:
        with suppress(Unavailable):
            await catalog.refresh()
