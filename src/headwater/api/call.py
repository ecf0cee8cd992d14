"""What a call says about itself beside its message: its metadata, which for REST calls are the HTTP headers."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from grpc import aio

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]
else:
    Context = aio.ServicerContext  # generic in the stubs only


def metadata_of(context: Context) -> dict[str, str]:
    """The call's metadata in text, names in lower case; of repeated names the last. Binary metadata is left out."""
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def is_transcoded(metadata: dict[str, str]) -> bool:
    """Whether the caller speaks JSON over HTTP. The gateway sets this header, and removes one that a client sends."""
    return "x-envoy-original-path" in metadata


def query_of(metadata: dict[str, str]) -> dict[str, str]:
    """The query parameters of a REST call; of repeated ones the last. Only for calls whose message is a raw body."""
    _, _, query = metadata.get("x-envoy-original-path", "").partition("?")
    return dict(parse_qsl(query)) if query else {}


def caller_address(metadata: dict[str, str]) -> str:
    """The IP address that the call came from, as the gateway saw it; empty when it did not come through a gateway."""
    return metadata.get("x-envoy-external-address", "")


async def send_headers(context: Context, headers: Mapping[str, str]) -> None:
    """Send what goes with a success, once and before its message; nothing when there is nothing.

    Never before an error: its own would not arrive.
    """
    if headers:
        await context.send_initial_metadata(tuple(headers.items()))


def is_built(behavior: object) -> bool:
    """Whether a handler's method is ours: those of the generated servicers are plain functions that raise."""
    return inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior)
