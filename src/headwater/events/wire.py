"""An event as a dialect has read it: checked, but its values still as the client gave them."""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.event import EMPTY_OBJECT
from headwater.events.raw import ABSENT, is_absent, is_object, is_string, members

MAX_TEXT_LENGTH: Final = 1_000
"""The longest identifier or name in an event, in code points."""

Id = str | int | float | None


class WireEvent(Struct, rename="camel"):
    """One event as sent, its JSON members still text."""

    type: str | None = None
    message_id: Id = None
    user_id: Id = None
    anonymous_id: Id = None
    previous_id: Id = None
    group_id: Id = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    channel: str | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    context: Raw = ABSENT
    properties: Raw = ABSENT
    traits: Raw = ABSENT
    integrations: Raw = ABSENT
    write_key: str | None = None


MEMBERS: Final = dict(zip(WireEvent.__struct_fields__, WireEvent.__struct_encode_fields__, strict=True))
"""The member of each field."""

_decode_text = msgspec.json.Decoder(str).decode


def email_of(traits: Raw) -> str | None:
    """`traits.email`, which identifies a person in an identify event without ids; None when it is not a text."""
    email = members(traits).get("email", ABSENT)
    if not is_string(email):
        return None
    value = _decode_text(email)
    return value if 0 < len(value) <= MAX_TEXT_LENGTH and "\0" not in value else None


def traits_of(wire: WireEvent) -> Raw:
    """The traits, from where SDKs put them: the event itself, or (always in some) its context."""
    if not is_absent(wire.traits):
        return wire.traits
    in_context = members(wire.context).get("traits", ABSENT)
    return in_context if is_object(in_context) else EMPTY_OBJECT
