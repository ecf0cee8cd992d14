"""What is known of a call beside its body. Stored with the body in the log, as the header of its frame.

The header is MessagePack, an array in the order of the fields below. Fields are only ever added at the end, with a
default, so that a newer version reads the frames that an older one wrote.
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
    """Which call of the dialect: what its route names ("track", "batch", "devices", "events")."""
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
    """Set when the call was refused as a whole: then the body is kept (bounded), but never read as events."""
    limits: Limits = DEFAULT_LIMITS
    """Those of the moment of acceptance: another setting later may not change what was accepted."""
    is_client_side: bool = False
    """Whether the source runs on people's own devices: only then is the caller's address that of the person."""
    rejected: dict[int, Rejection] | None = None
    """The events that were refused, by their number in the call. What was accepted stays accepted, whatever rules a
    later version has. None in frames that an older version wrote: there the rules have to be asked again."""

    @property
    def received_at(self) -> datetime:
        """When the call arrived, in UTC."""
        return _moment(self.received)


_moment = lru_cache(maxsize=16)(from_microseconds)
"""Each event of a call asks again."""

encode_envelope = msgspec.msgpack.Encoder().encode
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
