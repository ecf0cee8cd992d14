"""An event as decoded by its protocol: checked, with the values that the client sent."""

from typing import Annotated, Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.event import EMPTY_OBJECT
from headwater.events.raw import ABSENT, is_absent, is_number, is_object, is_string, members
from headwater.events.timestamps import MAX_LENGTH

MAX_TEXT_LENGTH: Final = 1_000
"""Maximum length of an identifier or name in an event, in code points."""

MAX_ID_BYTES: Final = 2_000
"""Maximum size of an identifier in UTF-8. Indexes contain those of people and messages.

An entry of an index has at most 2,704 bytes on PostgreSQL.
"""

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_LENGTH)]
Id = Text | int | float | None
"""An identifier as SDKs send it. A checked event has it as text."""


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
    """A time. Lenient protocols keep the text of one that cannot be read, or is not a JSON string."""
    original_timestamp: str | None = None
    sent_at: str | None = None
    context: Raw = ABSENT
    properties: Raw = ABSENT
    traits: Raw = ABSENT
    integrations: Raw = ABSENT
    write_key: str | None = None


MEMBERS: Final = dict(zip(WireEvent.__struct_fields__, WireEvent.__struct_encode_fields__, strict=True))
"""The member of each field."""

IDS: Final = ("message_id", "user_id", "anonymous_id", "previous_id", "group_id", "object_type_id")
"""The fields that are identifiers."""
TIMES: Final = ("timestamp", "original_timestamp", "sent_at")
_TEXTS: Final = (*IDS, "event", "name", "category", "channel")


def is_plain(text: bytes | Raw) -> bool:
    """Return whether JSON is ASCII without character escapes, as most is. Such JSON has no invalid texts."""
    raw = bytes(text)
    return raw.isascii() and (b"\\" not in raw or b"\\u" not in raw)  # one byte is found ten times as fast as two


def broken_text(wire: WireEvent) -> tuple[str, str] | None:
    """Return the first field with an invalid text, and the broken rule; None if there is none, as in a plain event."""
    for field in _TEXTS:
        text = getattr(wire, field)
        if isinstance(text, str):
            if "\0" in text:
                return field, "contains the NUL character"
            if field in IDS and is_long_id(text):
                return field, f"is longer than {MAX_ID_BYTES} bytes"
    return None


def is_long_id(text: str) -> bool:
    """Return whether a text has too many bytes for an identifier."""
    return len(text) > MAX_ID_BYTES // 4 and len(text.encode()) > MAX_ID_BYTES


_decode_text = msgspec.json.Decoder(str).decode


def parse_id(text: Raw) -> str | None:
    """Return the value of a JSON string that is allowed as an identifier or name, a number as it was written; otherwise
    None."""
    value = _decode_text(text) if is_string(text) else bytes(text).decode() if is_number(text) else ""
    return value if 0 < len(value) <= MAX_TEXT_LENGTH and "\0" not in value else None


def time_text(value: Raw) -> str | None:
    """Return the text of a time: the value of a JSON string, or else the JSON; None if it is absent or null.

    A text longer than any time is cut, but remains too long for one.
    """
    if is_absent(value):
        return None
    return (_decode_text(value) if is_string(value) else bytes(value).decode())[: MAX_LENGTH + 1]


def find_email(traits: Raw) -> str | None:
    """Return `traits.email`, which identifies a person in an identify event without ids; None if it is not a text."""
    email = members(traits).get("email", ABSENT)
    text = parse_id(email) if is_string(email) else None
    return None if text is None or is_long_id(text) else text


def find_traits(wire: WireEvent) -> Raw:
    """Return the traits from the event itself, or from its context, where some SDKs always put them."""
    if not is_absent(wire.traits):
        return wire.traits
    return traits_in(members(wire.context).get("traits", ABSENT))


def traits_in(member: Raw) -> Raw:
    """Return the traits in the member `traits` of a context; none if it is not an object."""
    return member if is_object(member) else EMPTY_OBJECT
