"""The facts of a call that are not in its body. Stored with the body in the log, as the header of its entry.

The header is MessagePack, an array in the order of the fields below. Fields are only ever added at the end, with a
default, so that a newer version reads the entries that an older one wrote.
"""

from datetime import datetime
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import Struct

from headwater.base.clock import from_microseconds
from headwater.events.protocol import DEFAULT_LIMITS, Limits, Rejection

ProtocolName = Literal["track", "grpc", "client", "native"]
"""Which rules the body follows: those of the track API of the Segment family, of the typed `EventService`, of the
client API, or of the native events API."""


class Envelope(Struct, frozen=True, array_like=True):
    """The facts of one call."""

    protocol: ProtocolName
    call: str
    """The call of the protocol, as its route names it ("track", "batch", "devices", "events")."""
    workspace: int
    """0 when the key is unknown."""
    connection: int
    """The source connection; 0 when the key is unknown."""
    received: int
    """Microseconds since 1970-01-01T00:00:00Z."""
    nonce: bytes
    """16 random bytes; the message ids of events that bring none are made from it."""
    ip: str = ""
    """The caller's address as the gateway saw it; empty when unknown."""
    user_agent: str = ""
    rejection: Rejection | None = None
    """Set when the call was rejected as a whole: then the body is kept (bounded), but never read as events."""
    limits: Limits = DEFAULT_LIMITS
    """The limits at acceptance: a later setting must not change what was accepted."""
    is_client_side: bool = False
    """Whether the source runs on people's own devices: only then is the caller's address that of the person."""
    rejected: dict[int, Rejection] | None = None
    """The events that were rejected, by their number in the call. The others stay accepted, whatever rules a later
    version has. None in entries that an older version wrote: their events are checked again."""

    @property
    def received_at(self) -> datetime:
        """When the call arrived, in UTC."""
        return _moment(self.received)


_moment = lru_cache(maxsize=16)(from_microseconds)
"""Each event of a call asks again."""

encode_envelope = msgspec.msgpack.Encoder().encode
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
