"""The canonical event, and the protocols that are read into it.

Pure: the same bytes give the same events and rejections. The intake decodes a call to return its result; the worker
decodes the same bytes later, perhaps after a crash, to store the accepted events. Both must agree, so this package uses
no clock, no random source and no database.
"""

from headwater.events.event import EVENT_TYPES, Event
from headwater.events.protocol import (
    DEFAULT_LIMITS,
    MAX_REJECTED_BYTES,
    Envelope,
    Limits,
    ProtocolName,
    Rejection,
    check_events,
)
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
