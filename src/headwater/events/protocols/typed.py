"""The protocol of the typed `EventService`: the track API, except that an event with an invalid time is rejected.

Its callers compile their events against a schema, receive every rejection, and can correct their events.
"""

from typing import Final

from msgspec import Raw

from headwater.base.errors import BadRequest
from headwater.events.protocol import Call, Limits, Rejection
from headwater.events.protocols import track
from headwater.events.protocols.track import max_body, read
from headwater.events.timestamps import parse_timestamp
from headwater.events.wire import MEMBERS, TIMES, WireEvent

KEY_IN_BODY: Final = track.KEY_IN_BODY

__all__ = ["KEY_IN_BODY", "check", "max_body", "read", "read_call"]


def read_call(call: str, body: bytes) -> Call:
    """Decode a call like the track API. Raises BadRequest also for a `sentAt` that cannot be read."""
    taken = track.read_call(call, body)
    if (rule := _broken_rule(taken.sent_at)) is not None:
        raise BadRequest(f"sentAt {rule}", field="sentAt")
    return taken


def check(event: Raw, call: Call, limits: Limits) -> WireEvent | Rejection:
    """Check an event like the track API, and its times."""
    wire = track.check(event, call, limits)
    if isinstance(wire, Rejection):
        return wire
    for field in TIMES:
        if (rule := _broken_rule(getattr(wire, field))) is not None:
            return Rejection("BadRequest", MEMBERS[field], f"{MEMBERS[field]} {rule}")
    return wire


def _broken_rule(text: str | None) -> str | None:
    if text:
        try:
            parse_timestamp(text)
        except ValueError as error:
            return str(error)
    return None
