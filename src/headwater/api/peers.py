"""Calls of one backend process to another on the same machine.

Listeners are in the memory of one process. All those of a workspace are in the same one, which its id decides, so that
they are found again and counted. A backend that receives a call about them passes it on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

from headwater.api.request import ORIGINAL_PATH_HEADER, Context, read_metadata
from headwater.base.errors import Unavailable
from headwater.catalog.access import WORKSPACE_HEADER

CALL_SECONDS: Final = 20.0
"""Time limit of a call."""
_METADATA: Final = ("authorization", WORKSPACE_HEADER, ORIGINAL_PATH_HEADER, "x-request-id")
"""The metadata that are passed on."""
_OPTIONS: Final = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))

Response = TypeVar("Response", bound=Message)


class Peers:
    """The backend processes of a machine."""

    def __init__(self, names: Sequence[str], own: str, sockets: Mapping[str, Path]) -> None:
        """`names` are all backend processes, `own` is this one, and `sockets` are where they serve RPCs."""
        self._names = names
        self._own = own
        self._sockets = sockets
        self._channels: dict[str, aio.Channel] = {}

    def find_owner(self, workspace: int) -> str | None:
        """Return the process that has the listeners of a workspace; None for this one."""
        name = self._names[workspace % len(self._names)] if self._names else self._own
        return None if name == self._own else name

    async def call(
        self, peer: str, method: str, request: Message, response: type[Response], context: Context
    ) -> Response:
        """Call a process on behalf of the caller. `method` is "/package.Service/Method".

        An error of the call becomes that of this call. Raises Unavailable if the process cannot be reached.
        """
        known = read_metadata(context)
        try:
            call: Any = self._channel(peer).unary_unary(
                method, request_serializer=_serialise, response_deserializer=response.FromString
            )(request, metadata=tuple((name, known[name]) for name in _METADATA if name in known), timeout=CALL_SECONDS)
            answered: Response = await call
            return answered
        except aio.AioRpcError as error:
            trailers = error.trailing_metadata()
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) and not trailers:
                raise Unavailable("the process with the listeners of this workspace is not available") from error
            await context.abort(error.code(), error.details() or "", tuple(trailers))
            raise AssertionError("abort raises") from error

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.close()

    def _channel(self, peer: str) -> aio.Channel:
        channel = self._channels.get(peer)
        if channel is None:
            channel = self._channels[peer] = aio.insecure_channel(f"unix:{self._sockets[peer]}", options=_OPTIONS)
        return channel


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()


ALONE: Final = Peers((), "backend", {})
"""The only backend process."""
