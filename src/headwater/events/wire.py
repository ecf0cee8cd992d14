"""An event as a dialect has read it: checked, but its values still as the client gave them."""

from typing import Annotated, Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.event import EMPTY_OBJECT
from headwater.events.raw import ABSENT, is_absent, is_number, is_object, is_string, members

MAX_TEXT_LENGTH: Final = 1_000
"""The longest identifier or name in an event, in code points."""

NUL: Final = rb"\u0000"
"""How JSON writes the NUL character; nearly no event has it anywhere."""

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_LENGTH)]
Id = Text | int | float | None
"""As SDKs send identifiers. A checked event has them as text."""


class WireEvent(Struct, rename="camel"):
    """One event as sent, its JSON members still text."""

    type: str | None = None
    message_id: Id = None
    user_id: Id = None
    anonymous_id: Id = None
    previous_id: Id = None
    group_id: Id = None
    object_type_id: Id = None
    event: Text | None = None
    name: Text | None = None
    category: Text | None = None
    channel: Text | None = None
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


def text_of(text: Raw) -> str | None:
    """The value of a JSON string if an identifier or name may be so, a number as it was written; otherwise None."""
    value = _decode_text(text) if is_string(text) else bytes(text).decode() if is_number(text) else ""
    return value if 0 < len(value) <= MAX_TEXT_LENGTH and "\0" not in value else None


def email_of(traits: Raw) -> str | None:
    """`traits.email`, which identifies a person in an identify event without ids; None when it is not a text."""
    email = members(traits).get("email", ABSENT)
    return text_of(email) if is_string(email) else None


def traits_of(wire: WireEvent) -> Raw:
    """The traits, from where SDKs put them: the event itself, or (always in some) its context."""
    if not is_absent(wire.traits):
        return wire.traits
    return traits_in(members(wire.context).get("traits", ABSENT))


def traits_in(member: Raw) -> Raw:
    """The traits that the member `traits` of a context holds: none when it is no object."""
    return member if is_object(member) else EMPTY_OBJECT
