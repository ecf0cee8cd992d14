"""From an event on the wire to the canonical event."""

import uuid
from datetime import datetime
from typing import Final, NamedTuple, cast

import msgspec
from msgspec import Raw

from headwater.events.call import Call
from headwater.events.context import Locate, normal_context
from headwater.events.context.devices import described_device
from headwater.events.envelope import Envelope
from headwater.events.event import EMPTY_OBJECT, Event, EventType, document
from headwater.events.raw import ABSENT, is_absent, members, merge
from headwater.events.timestamps import MAX_KEPT_LENGTH, correct, read_time
from headwater.events.wire import WireEvent, text_of

DEFAULT_OBJECT_TYPE: Final = "1"
"""The type of a group that has none."""
_OBJECT_TYPE_TRAITS: Final = ("object_type_id", "objectTypeId")
INVALID_TIMES: Final = "invalidTimes"
"""The member of the document that keeps the text of each time that cannot be read."""
_NOT_CORRECTED: Final = (
    "sentAt is not used to correct timestamp: that would move the event more than a day into the future"
)
_GENERATED: Final = "headwater-"
_WITH_PROPERTIES: Final = frozenset(("page", "screen", "track"))
_encode = msgspec.json.Encoder().encode


class Canonical(NamedTuple):
    """A canonical event."""

    event: Event
    document: bytes
    """The event as JSON, as it is stored."""
    notes: tuple[str, ...] = ()
    """What was sent but is not used, and why, for the trace."""


def canonical(
    wire: WireEvent, extra: dict[str, Raw], call: Call, envelope: Envelope, index: int, locate: Locate | None = None
) -> Canonical:
    """The checked event number `index` of the call with its `extra` members.

    `locate` finds the place of an event that says none. All depends on the arguments only, so that a second reading
    after a crash makes the same event.
    """
    received = envelope.received_at
    times = _read_times(wire, call, received)
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
        timestamp=times.timestamp,
        original_timestamp=times.original_timestamp,
        sent_at=times.sent_at,
        received_at=received,
    )
    if times.invalid:
        extra = {**extra, INVALID_TIMES: Raw(_encode(times.invalid))}
    return Canonical(event, document(event, extra), times.notes)


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


class _Times(NamedTuple):
    timestamp: datetime
    original_timestamp: datetime
    sent_at: datetime
    invalid: dict[str, str]
    """The text of each time that cannot be read, by its member; of a long one the beginning."""
    notes: tuple[str, ...]


def _read_times(wire: WireEvent, call: Call, received: datetime) -> _Times:
    """Read the times of an event. A time that cannot be read counts as the time of receipt.

    A client that sends both `timestamp` and `originalTimestamp` has corrected its clock itself. One that sends either
    (RudderStack's Node SDK sends only `originalTimestamp`) has given the time of its own clock.
    """
    invalid: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    sent = _read_time(wire.sent_at or call.sent_at, "sentAt", received, invalid)
    timestamp = _read_time(wire.timestamp, "timestamp", received, invalid)
    original = _read_time(wire.original_timestamp, "originalTimestamp", received, invalid)
    if not (wire.timestamp and wire.original_timestamp):
        client_time = timestamp if wire.timestamp else original
        timestamp = original = client_time
        if client_time is not received and sent is not received:
            corrected = correct(client_time, sent=sent, received=received)
            if corrected is None:
                notes = (_NOT_CORRECTED,)
            else:
                timestamp = corrected
    if invalid:
        notes += tuple(f"{member} cannot be read as a time: the time of receipt is used" for member in invalid)
    return _Times(timestamp, original, sent, invalid, notes)


def _read_time(text: str | None, member: str, received: datetime, invalid: dict[str, str]) -> datetime:
    if not text:
        return received
    moment = read_time(text)
    if moment is None:
        invalid[member] = text[:MAX_KEPT_LENGTH]
        return received
    return moment


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
