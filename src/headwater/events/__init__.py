"""The canonical event, and the protocols that are read into it.

Pure: bytes in, events or refusals out, the same for the same bytes. The intake reads a call to learn what to answer;
the worker reads the very same bytes again, later and perhaps after a crash, to store what was accepted. Both must
agree, so nothing here looks at a clock, a random source, or a database."""

from headwater.events.envelope import Envelope, ProtocolName
from headwater.events.event import EVENT_TYPES, Event
from headwater.events.protocol import DEFAULT_LIMITS, MAX_REJECTED_BYTES, Limits, Rejection, check_events
from headwater.events.protocols import PROTOCOLS

__all__ = [
    "DEFAULT_LIMITS",
    "EVENT_TYPES",
    "MAX_REJECTED_BYTES",
    "PROTOCOLS",
    "Envelope",
    "Event",
    "Limits",
    "ProtocolName",
    "Rejection",
    "check_events",
]
