"""From an event on the wire to the canonical event."""

import uuid
from datetime import datetime
from typing import Final, cast

from msgspec import Raw

from headwater.events.call import Call
from headwater.events.context import Locate, normal_context
from headwater.events.context.devices import described_device
from headwater.events.envelope import Envelope
from headwater.events.event import EMPTY_OBJECT, Event, EventType, document
from headwater.events.raw import ABSENT, is_absent, members, merge
from headwater.events.timestamps import correct, parse_timestamp
from headwater.events.wire import WireEvent, text_of

DEFAULT_OBJECT_TYPE: Final = "1"
"""The type of a group that has none."""
_OBJECT_TYPE_TRAITS: Final = ("object_type_id", "objectTypeId")
_GENERATED: Final = "headwater-"
_WITH_PROPERTIES: Final = frozenset(("page", "screen", "track"))


def canonical(
    wire: WireEvent, extra: dict[str, Raw], call: Call, envelope: Envelope, index: int, locate: Locate | None = None
) -> tuple[Event, bytes]:
    """The checked event number `index` of the call with its `extra` members, and its document.

    `locate` finds the place of an event that says none. All depends on the arguments only, so that a second reading
    after a crash makes the same event.
    """
    received = envelope.received_at
    sent_text = wire.sent_at or call.sent_at
    sent = parse_timestamp(sent_text) if sent_text else received
    timestamp, original = _times(wire, sent, received)
    device = described_device(wire.event, wire.properties)
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
        object_type_id=_object_type(wire, traits),
        event=wire.event,
        name=wire.name,
        category=wire.category,
        channel=wire.channel or context.channel,
        context=context.text,
        properties=_properties(wire),
        traits=traits,
        integrations=_or_none(merge(call.integrations, wire.integrations)),
        timestamp=timestamp,
        original_timestamp=original,
        sent_at=sent,
        received_at=received,
    )
    return event, document(event, extra)


def generated_message_id(nonce: bytes, index: int) -> str:
    """The id of event number `index` of a call, for an event that brought none; the same at every reading."""
    number = (int.from_bytes(nonce) + index) % 2**128
    return f"{_GENERATED}{uuid.UUID(int=number)}"


def index_of_generated(message_id: str, nonce: bytes) -> int | None:
    """Which event of the call with this nonce `generated_message_id` would give the id to; None for other ids.

    It may be one that the call does not have.
    """
    try:
        number = uuid.UUID(message_id.removeprefix(_GENERATED)).int
    except ValueError:
        return None
    return (number - int.from_bytes(nonce)) % 2**128 if message_id.startswith(_GENERATED) else None


def _times(wire: WireEvent, sent: datetime, received: datetime) -> tuple[datetime, datetime]:
    """`timestamp` and `originalTimestamp`.

    A client that sends both has corrected its clock itself. One that sends either (RudderStack's Node SDK sends only
    `originalTimestamp`) has given the time of its own clock.
    """
    if wire.timestamp and wire.original_timestamp:
        return parse_timestamp(wire.timestamp), parse_timestamp(wire.original_timestamp)
    given = wire.timestamp or wire.original_timestamp
    if not given:
        return received, received
    original = parse_timestamp(given)
    return correct(original, sent=sent, received=received), original


def _object_type(wire: WireEvent, traits: Raw) -> str | None:
    """The type of the group, from where the documentation says and where its examples put it."""
    given = cast("str | None", wire.object_type_id)
    if given is not None or wire.type != "group":
        return given
    said = members(traits)
    for name in _OBJECT_TYPE_TRAITS:
        if text := text_of(said.get(name, ABSENT)):
            return text
    return DEFAULT_OBJECT_TYPE


def _properties(wire: WireEvent) -> Raw | None:
    if is_absent(wire.properties):
        return EMPTY_OBJECT if wire.type in _WITH_PROPERTIES else None
    return wire.properties


def _or_none(text: Raw) -> Raw | None:
    return None if is_absent(text) else text
