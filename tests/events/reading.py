"""Reads events of the track protocol as the intake and the worker do, in one step."""

from msgspec import Raw

from headwater.events import DEFAULT_LIMITS, Envelope, Rejection
from headwater.events import canonical as from_wire
from headwater.events.canonical import Canonical
from headwater.events.context import Locate
from headwater.events.protocol import Call
from headwater.events.protocols import track
from headwater.events.protocols.track.rules import extra
from headwater.events.wire import WireEvent


def check(event: Raw, type_of_call: str | None = None) -> WireEvent | Rejection:
    return track.check(event, Call(type_of_call, [event]), DEFAULT_LIMITS)


def canonical(
    wire: WireEvent, source: Raw, call: Call, envelope: Envelope, index: int, locate: Locate | None = None
) -> Canonical:
    return from_wire.canonical(wire, extra(source), call, envelope, index, locate)
