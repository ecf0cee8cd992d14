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
"""Which rules the body follows: those of the track API of the Segment family, of the typed `EventService`, of the
client API, or of the native events API."""

MAX_BATCH_EVENTS: Final = 20_000
"""The most events in a call. So many that are valid do not fit into a batch: this bounds the others."""
MAX_DEFAULTS_BYTES: Final = 4 * 1024 * 1024
"""How much the `context` and `integrations` of a batch may become, since each of its events is stored with them."""
MAX_REJECTED_BYTES: Final = 64 * 1024
"""Bytes of a rejected event or call that are stored; the rest is cut off."""
MAX_DEPTH: Final = 100
"""How deep an event may be nested. The decoder's own limit depends on how deep the stack is where it is called, and the
worker, and every reader of the event, must be able to decode what the intake accepted."""


class Limits(Struct, frozen=True, array_like=True):
    """What an operator may decide. Bytes are those of the JSON, after inflation."""

    event_bytes: int = 32 * 1024
    """The largest event of the track API, alone or in a batch; over gRPC too."""
    batch_bytes: int = 500 * 1024
    """The largest batch, or call of the native API."""
    client_bytes: int = 1024 * 1024
    """The largest call of the client API."""


DEFAULT_LIMITS: Final = Limits()


class Rejection(Struct, frozen=True):
    """Why an event, or a whole call, was not accepted. Rejected events are counted and kept with this reason."""

    code: str
    """For programs: an error code of `headwater.base.errors` ("BadRequest", "PayloadTooLarge", "Unauthorized"), or
    "ValidationError" of the client API."""
    path: str
    """The offending value, from the event's own root ("userId", "context.ip"); empty when it is the event itself."""
    message: str
    """For people: names the field and the rule."""


class BrokenRule(Exception):
    """A value breaks a rule of its protocol."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(path, rule)
        self.rejection = Rejection("BadRequest", path, f"{path} {rule}")


class Call(Struct, frozen=True):
    """A decoded call."""

    type: str | None
    """The event type that the route names; None where each event has its own."""
    events: list[Raw]
    write_key: str | None = None
    sent_at: str | None = None
    context: Raw = ABSENT
    integrations: Raw = ABSENT
    connection_id: int | None = None
    """The source connection that the body names, for callers with an API key."""
    has_plain_texts: bool = False
    """Whether all of it is known to be ASCII without escapes of characters: what is wrong with a text is then its
    length at most."""
    rejected: dict[int, Rejection] = {}
    """The events that can be rejected only with the body at hand, by their number."""


class Envelope(Struct, frozen=True, array_like=True):
    """The facts of a call that are not in its body. Stored with the body in the log, as the header of its entry.

    The header is MessagePack, an array in the order of the fields below. Fields are only ever added at the end, with a
    default, so that a newer version reads the entries that an older one wrote.
    """

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


class WireProtocol(Protocol):
    """The wire format of a family of clients: a module of `headwater.events.protocols` with these functions."""

    KEY_IN_BODY: bool
    """Whether the write key may stand in the body: for callers that cannot set headers."""

    def max_body(self, call: str, limits: Limits) -> int:
        """Return the largest body of a call, in bytes after decompression."""
        ...

    def read_call(self, call: str, body: bytes) -> Call:
        """Decode the body of a call; `call` is the name in its route.

        Raises BadRequest when the body is not UTF-8, not JSON or nested too deeply; BadRequest or Unprocessable, as the
        protocol defines, when it is not of the shape that the call requires; and PayloadTooLarge when it has too many
        events. A protocol in which one bad event rejects its whole call raises here too.
        """
        ...

    def check(self, event: Raw, call: Call, limits: Limits) -> WireEvent | Rejection:
        """Return the event, if it keeps every rule of the protocol; otherwise the first rule that it breaks."""
        ...

    def read(self, event: Raw, call: Call) -> tuple[WireEvent, dict[str, Raw]]:
        """An event that `check` has let through, once more, without holding it to the rules again.

        Return also the members that `WireEvent` has no field for: they are kept and forwarded, but not read.
        """
        ...


def check_events(protocol: WireProtocol, call: Call, limits: Limits) -> list[WireEvent | Rejection]:
    """Check each event of a call: the event, or the first rule that it breaks."""
    if not call.rejected:
        return [protocol.check(event, call, limits) for event in call.events]
    return [call.rejected.get(index) or protocol.check(event, call, limits) for index, event in enumerate(call.events)]
