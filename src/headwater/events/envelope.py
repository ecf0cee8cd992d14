"""The metadata of a call. It is stored with the body in the log, as the header of its entry.

The header is MessagePack, an array in the order of the fields below. Add fields at the end only, with a default, so
that a later version reads the entries of an earlier one.
"""

from datetime import datetime
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import Struct

from headwater.base.clock import from_microseconds
from headwater.events.protocol import DEFAULT_LIMITS, Limits, Rejection

ProtocolName = Literal["track", "grpc", "client", "native"]
"""The protocol of the body: the track API of the Segment family, the typed `EventService`, the client API, or the
native events API."""


class Envelope(Struct, frozen=True, array_like=True):
    """The metadata of one call."""

    protocol: ProtocolName
    call: str
    """The call of the protocol, as in its route ("track", "batch", "devices", "events")."""
    workspace: int
    """The workspace; 0 if the key is unknown."""
    connection: int
    """The source connection; 0 if the key is unknown."""
    received: int
    """Time of arrival, in microseconds since 1970-01-01T00:00:00Z."""
    nonce: bytes
    """16 random bytes, from which the message ids of events without one are generated."""
    ip: str = ""
    """The caller's address at the gateway; empty if unknown."""
    user_agent: str = ""
    rejection: Rejection | None = None
    """Set if the call was rejected as a whole. The body is then kept in part, but never read as events."""
    limits: Limits = DEFAULT_LIMITS
    """The limits at acceptance, because a later setting must not change accepted events."""
    is_client_side: bool = False
    """True if the source runs on devices of users: only then is the caller's address that of the person."""
    rejected: dict[int, Rejection] | None = None
    """The events that were rejected, by their number in the call. The others remain accepted under later rules.

    None in entries of an earlier version: their events are checked again.
    """

    @property
    def received_at(self) -> datetime:
        """The time of arrival, in UTC."""
        return _to_datetime(self.received)


_to_datetime = lru_cache(maxsize=16)(from_microseconds)
"""Each event of a call needs it."""

encode_envelope = msgspec.msgpack.Encoder().encode
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
