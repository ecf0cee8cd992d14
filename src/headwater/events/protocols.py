"""The wire dialects, and what all of them must be able to do."""

from typing import Final, Protocol

from msgspec import Raw

from headwater.events import client, native, track, typed
from headwater.events.call import Call
from headwater.events.envelope import ProtocolName
from headwater.events.limits import Limits
from headwater.events.rejection import Rejection
from headwater.events.wire import WireEvent


class WireProtocol(Protocol):
    """How one family of clients says events. A package of `headwater.events` with these functions is one."""

    KEY_IN_BODY: bool
    """Whether the write key may stand in the body: for callers that cannot set headers."""

    def max_body(self, call: str, limits: Limits) -> int:
        """The largest body of a call, in bytes after inflation."""
        ...

    def read_call(self, call: str, body: bytes) -> Call:
        """The call that `body` holds; `call` is what its route says.

        Raises BadRequest when the body is not UTF-8, not JSON or nested too deeply; BadRequest or Unprocessable, as the
        dialect has it, when it is not of the shape that the call wants; and PayloadTooLarge when it holds too many
        events. A dialect in which one bad event refuses its whole call says so here too.
        """
        ...

    def check(self, event: Raw, call: Call, limits: Limits) -> WireEvent | Rejection:
        """The event, if it keeps every rule of the dialect; otherwise the first rule that it breaks."""
        ...

    def read(self, event: Raw, call: Call) -> tuple[WireEvent, dict[str, Raw]]:
        """An event that `check` has let through, once more, without holding it to the rules again.

        Beside it the members that `WireEvent` has no field for: kept and forwarded, but not looked at.
        """
        ...


def check_events(protocol: WireProtocol, call: Call, limits: Limits) -> list[WireEvent | Rejection]:
    """Check each event of a call: the event, or the first rule that it breaks."""
    if not call.rejected:
        return [protocol.check(event, call, limits) for event in call.events]
    return [call.rejected.get(index) or protocol.check(event, call, limits) for index, event in enumerate(call.events)]


PROTOCOLS: Final[dict[ProtocolName, WireProtocol]] = {"track": track, "grpc": typed, "client": client, "native": native}
