"""The types that every protocol shares: a call, its envelope, limits, a rejection; and the functions of a protocol."""

from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from headwater.base.clock import from_microseconds
from headwater.events.raw import ABSENT
from headwater.events.wire import WireEvent

ProtocolName = Literal["track", "grpc", "client", "native"]
"""The protocol of the body: the track API of the Segment family, the typed `EventService`, the client API, or the
native events API."""

MAX_BATCH_EVENTS: Final = 20_000
"""Maximum number of events in a call. That many valid events exceed the size of a batch, so this limits invalid
ones."""
MAX_DEFAULTS_BYTES: Final = 4 * 1024 * 1024
"""Maximum total size of the `context` and `integrations` of a batch, which are stored with each of its events."""
MAX_REJECTED_BYTES: Final = 64 * 1024
"""Bytes of a rejected event or call that are stored; the rest is cut off."""
MAX_DEPTH: Final = 100
"""Maximum nesting of an event.

The decoder's own limit depends on the depth of the stack, and the worker and every reader of the event must be able to
decode what the intake accepted.
"""


class Limits(Struct, frozen=True, array_like=True):
    """Limits of calls that the operator sets, in bytes of decompressed JSON."""

    event_bytes: int = 32 * 1024
    """Maximum size of an event of the track API, alone or in a batch, and over gRPC."""
    batch_bytes: int = 500 * 1024
    """Maximum size of a batch, or of a call of the native API."""
    client_bytes: int = 1024 * 1024
    """Maximum size of a call of the client API."""


DEFAULT_LIMITS: Final = Limits()


class Rejection(Struct, frozen=True):
    """The reason why an event, or a whole call, was not accepted. Rejected events are counted and stored with it."""

    code: str
    """For programs: an error code of `headwater.base.errors` ("BadRequest", "PayloadTooLarge", "Unauthorized"), or
    "ValidationError" of the client API."""
    path: str
    """The invalid value, from the event's root ("userId", "context.ip"); empty for the event itself."""
    message: str
    """The field and the rule, for people."""


class BrokenRule(Exception):
    """A value breaks a rule of its protocol."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(path, rule)
        self.rejection = Rejection("BadRequest", path, f"{path} {rule}")


class Call(Struct, frozen=True):
    """A decoded call."""

    type: str | None
    """The event type in the route; None if each event has its own."""
    events: list[Raw]
    write_key: str | None = None
    sent_at: str | None = None
    context: Raw = ABSENT
    integrations: Raw = ABSENT
    connection_id: int | None = None
    """The source connection in the body, for callers with an API key."""
    has_plain_texts: bool = False
    """True if the whole body is ASCII without character escapes, so that a text can only be too long."""
    rejected: dict[int, Rejection] = {}
    """The events that can be rejected only with the body at hand, by their number."""


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


class WireProtocol(Protocol):
    """The wire format of a family of clients: a module of `headwater.events.protocols` with these functions."""

    KEY_IN_BODY: bool
    """True if the body may contain the write key, for callers that cannot set headers."""

    def max_body(self, call: str, limits: Limits) -> int:
        """Return the maximum size of the body of a call, in bytes after decompression."""
        ...

    def read_call(self, call: str, body: bytes) -> Call:
        """Decode the body of a call; `call` is the name in its route.

        Raises BadRequest if the body is not UTF-8, not JSON or nested too deeply; BadRequest or Unprocessable, as the
        protocol defines, if it has not the shape of the call; and PayloadTooLarge if it has too many events. A protocol
        in which one invalid event rejects its whole call raises here too.
        """
        ...

    def check(self, event: Raw, call: Call, limits: Limits) -> WireEvent | Rejection:
        """Return the event if it follows every rule of the protocol; otherwise the first broken rule."""
        ...

    def read(self, event: Raw, call: Call) -> tuple[WireEvent, dict[str, Raw]]:
        """Return an event that `check` has accepted, without checking it again.

        The second value are the members that `WireEvent` has no field for: they are stored and forwarded, but not read.
        """
        ...


def check_events(
    protocol: WireProtocol, call: Call, limits: Limits, first: int = 0, end: int | None = None
) -> list[WireEvent | Rejection]:
    """Check the events of a call from number `first` to before `end`: return each, or the first rule that it breaks."""
    events = call.events[first:end]
    if not call.rejected:
        return [protocol.check(event, call, limits) for event in events]
    return [
        call.rejected.get(index) or protocol.check(event, call, limits) for index, event in enumerate(events, first)
    ]
