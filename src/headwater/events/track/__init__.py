"""The track API dialect: the calls of the Segment family, as its SDKs really send them.

The rules are those of the documented API, read leniently where its SDKs differ: null ids are absent, numeric ids are
taken as text, unknown members are kept. One bad event refuses itself, not its batch; a body that is not JSON refuses
the whole call.

`read_call` takes a body apart into events, `check` holds each to its rules, `canonical` makes the canonical event.
"""

from headwater.events.track.call import Call, read_call
from headwater.events.track.canonical import canonical, generated_message_id
from headwater.events.track.rules import check
from headwater.events.track.wire import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_BYTES, WireEvent, email_of

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_EVENTS",
    "MAX_EVENT_BYTES",
    "Call",
    "WireEvent",
    "canonical",
    "check",
    "email_of",
    "generated_message_id",
    "read_call",
]
