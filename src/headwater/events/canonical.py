"""Converts an event on the wire to the canonical event."""

import uuid
from datetime import datetime
from typing import Final, cast

import msgspec
from msgspec import Raw

from headwater.events.context import Locate, normal_context
from headwater.events.context.normalise import find_described_device
from headwater.events.event import EMPTY_OBJECT, WITH_PROPERTIES, Event, EventType, encode_document
from headwater.events.protocol import Call, Envelope
from headwater.events.raw import ABSENT, is_absent, members, merge
from headwater.events.timestamps import MAX_KEPT_LENGTH, correct, parse_timestamp, read_time
from headwater.events.wire import WireEvent, parse_id

DEFAULT_OBJECT_TYPE: Final = "1"
"""The type of a group without one."""
_OBJECT_TYPE_TRAITS: Final = ("object_type_id", "objectTypeId")
INVALID_TIMES: Final = "invalidTimes"
"""The member of the document with the text of each time that cannot be read."""
_NOT_CORRECTED: Final = (
    "sentAt is not used to correct timestamp: that would move the event more than a day into the future"
)
_GENERATED: Final = "headwater-"
_encode = msgspec.json.Encoder().encode


Canonical = tuple[Event, bytes, tuple[str, ...]]
"""An event; its stored document; and notes for the trace: sent values that are not used, each with the reason."""


def canonical(
    wire: WireEvent, extra: dict[str, Raw], call: Call, envelope: Envelope, index: int, locate: Locate | None = None
) -> Canonical:
    """Return the checked event number `index` of the call with its `extra` members.

    `locate` looks up the location of an event that does not include one. The result depends on the arguments only, so
    that a second reading after a crash returns the same event.
    """
    received = envelope.received_at
    timestamp, original, sent, notes, invalid = _read_times(wire, call, received)
    device = find_described_device(wire.event, wire.properties)
    context = normal_context(wire.context, call.context, device, envelope, locate)
    traits = context.traits if is_absent(wire.traits) else wire.traits
    event = Event(
        connection_id=envelope.connection,
        message_id=cast("str | None", wire.message_id) or generated_message_id(envelope.nonce, index),
        type=cast("EventType", wire.type),
        user_id=cast("str | None", wire.user_id),
        anonymous_id=cast("str | None", wire.anonymous_id),
        previous_id=cast("str | None", wire.previous_id),
        group_id=cast("str | None", wire.group_id),
        object_type_id=object_type_id(wire.type, wire.object_type_id, traits),
        event=wire.event,
        name=wire.name,
        category=wire.category,
        channel=wire.channel or context.channel,
        context=context.text,
        properties=_properties(wire),
        traits=traits,
        integrations=_or_absent(merge(call.integrations, wire.integrations)),
        timestamp=timestamp,
        original_timestamp=original,
        sent_at=sent,
        received_at=received,
    )
    if invalid:
        extra = {**extra, INVALID_TIMES: Raw(_encode(invalid))}
    return event, encode_document(event, extra), notes


def generated_message_id(nonce: bytes, index: int) -> str:
    """Return the id of event number `index` of a call, for an event without one. It is the same at every reading."""
    number = (int.from_bytes(nonce) + index) % 2**128
    return f"{_GENERATED}{uuid.UUID(int=number)}"


def find_generated_index(message_id: str, nonce: bytes) -> int | None:
    """Return the index of the event with this generated id in the call with this nonce; None for other ids.

    The call may not have an event with this index.
    """
    try:
        number = uuid.UUID(message_id.removeprefix(_GENERATED)).int
    except ValueError:
        return None
    return (number - int.from_bytes(nonce)) % 2**128 if message_id.startswith(_GENERATED) else None


def _read_times(
    wire: WireEvent, call: Call, received: datetime
) -> tuple[datetime, datetime, datetime, tuple[str, ...], dict[str, str]]:
    """Parse `timestamp`, `originalTimestamp` and `sentAt`. Return them, notes, and the texts that cannot be read.

    A client that sends both of the first two has corrected its clock itself. A client that sends one of them
    (RudderStack's Node SDK sends only `originalTimestamp`) has sent the time of its own clock. A time that cannot be
    read is `received`.
    """
    sent_text = wire.sent_at or call.sent_at
    invalid: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    try:
        sent = parse_timestamp(sent_text) if sent_text else received
        timestamp = parse_timestamp(wire.timestamp) if wire.timestamp else None
        original = parse_timestamp(wire.original_timestamp) if wire.original_timestamp else None
    except ValueError:
        sent = _read_time(sent_text, "sentAt", received, invalid) or received
        timestamp = _read_time(wire.timestamp, "timestamp", received, invalid)
        original = _read_time(wire.original_timestamp, "originalTimestamp", received, invalid)
        notes = tuple(f"{member} cannot be read as a time: the time of receipt is used" for member in invalid)
    if timestamp is not None and original is not None:
        return timestamp, original, sent, notes, invalid
    original = timestamp or original or received
    corrected = received if original is received else correct(original, sent=sent, received=received)
    if corrected is None:
        return original, original, sent, (*notes, _NOT_CORRECTED), invalid
    return corrected, original, sent, notes, invalid


def _read_time(text: str | None, member: str, received: datetime, invalid: dict[str, str]) -> datetime | None:
    if not text:
        return None
    time = read_time(text)
    if time is None:
        invalid[member] = text[:MAX_KEPT_LENGTH]
        return received
    return time


def object_type_id(type_: str | None, given: object, traits: Raw) -> str | None:
    """Return the type of the group of an event, from the places in the documentation and its examples.

    `given` is the event's own member. An event of another type has only that.
    """
    if given is not None or type_ != "group":
        return cast("str | None", given)
    parts = members(traits)
    for name in _OBJECT_TYPE_TRAITS:
        if text := parse_id(parts.get(name, ABSENT)):
            return text
    return DEFAULT_OBJECT_TYPE


def _properties(wire: WireEvent) -> Raw:
    if is_absent(wire.properties):
        return EMPTY_OBJECT if wire.type in WITH_PROPERTIES else ABSENT
    return wire.properties


def _or_absent(text: Raw) -> Raw:
    return ABSENT if is_absent(text) else text
