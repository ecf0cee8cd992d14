"""The canonical event: every protocol is read into it, and it is stored and returned by `GET /v1/events`.

JSON of users (`properties`, `traits`, `integrations`, members without a field) remains the text that was sent: every
digit of a number, the order of the members, the difference between `1` and `1.0`.
"""

from datetime import datetime
from typing import Final, Literal, get_args

import msgspec
from msgspec import Raw, Struct

from headwater.events.raw import ABSENT

EventType = Literal["alias", "group", "identify", "page", "screen", "track"]
EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)

EMPTY_OBJECT: Final = Raw(b"{}")
WITH_PROPERTIES: Final = frozenset(("page", "screen", "track"))
"""The types whose events always have properties."""


class Event(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One event. A field that is None or ABSENT was not sent, and its member is absent from the document."""

    connection_id: int
    message_id: str
    type: EventType
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    group_id: str | None = None
    object_type_id: str | None = None
    """The type of the group. Every group event has one; other events have it if it was sent."""
    event: str | None = None
    name: str | None = None
    category: str | None = None
    channel: str | None = None
    context: Raw = ABSENT
    properties: Raw = ABSENT
    traits: Raw
    integrations: Raw = ABSENT
    timestamp: datetime
    """Time of the event, corrected for the client's clock. This is the one for analysis."""
    original_timestamp: datetime
    """Time of the event by the client's own clock."""
    sent_at: datetime
    """Time at which the client sent it, by the client's own clock."""
    received_at: datetime
    """Time at which the server received it."""


_encoder = msgspec.json.Encoder()

encode_event = _encoder.encode
decode_event: Final = msgspec.json.Decoder(Event).decode
"""Returns the event of a stored document. Raises msgspec.DecodeError."""


def encode_document(event: Event, extra: dict[str, Raw]) -> bytes:
    """Return the event as JSON, followed by the members that the event has no field for."""
    text = encode_event(event)
    return text[:-1] + b"," + _encoder.encode(extra)[1:] if extra else text
