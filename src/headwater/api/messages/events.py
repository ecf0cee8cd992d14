"""Typed events: from messages to the JSON that a client of the track API would send, and from stored JSON to messages.

The typed message has a field for every documented member. A member without a field, or whose value does not fit its
field, is JSON text in an `extra_json` field, in both directions: the typed API loses nothing.

The conversion to JSON runs once for each event. The writers of all fields are therefore prepared at import.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Raw

from headwater.base.errors import BadRequest
from headwater.events.raw import is_object, join, members
from headwater.v1 import events_pb2 as pb

JSON_TEXTS: Final = {"properties_json": "properties", "traits_json": "traits", "integrations_json": "integrations"}
"""The fields that hold JSON of users, and the members that they stand for."""

EVENT_PROPERTIES: Final = frozenset(field.json_name.removesuffix("Json") for field in pb.Event.DESCRIPTOR.fields) - {
    "extra"
}
"""The names of the members of events that a caller can ask for."""

_SERVER_SIDE: Final = frozenset(("kpid", "connection_id", "received_at"))
"""The fields that a client cannot set."""

_DAY_SECONDS: Final = 86_400
_MIN_SECONDS: Final = -62_135_596_800
_MAX_SECONDS: Final = 253_402_300_799
"""The first and the last second of the years 1 to 9999."""
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()

_Write = Callable[[Any], object] | None
"""Makes of a field's value what the encoder writes; None where that is the value itself."""
_Writers = dict[int, tuple[str, _Write]]
"""By the number of the field: the member, and how its value is written."""

_encode = msgspec.json.Encoder().encode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


def check_event_properties(names: Iterable[str]) -> None:
    """Raise BadRequest for a name of a member that events do not have."""
    for name in names:
        if name not in EVENT_PROPERTIES:
            raise BadRequest(f"events have no property {name[:60]!r}", field="properties")


def only_members(document: bytes, names: Collection[str]) -> bytes:
    """Return a stored event with only the members of these names; all without names."""
    if not names:
        return document
    return _encode({name: value for name, value in _decode_members(document).items() if name in names})


def event_messages(documents: Iterable[bytes]) -> Iterator[pb.Event]:
    """Return stored events as messages."""
    return (event_message(_decode_members(document)) for document in documents)


def wire_event(event: pb.Event, sent_at: str | None = None) -> bytes:
    """The event; `sent_at` is the member `sentAt` of one that says nothing of it.

    A JSON text that is no JSON becomes a string, which the protocol rejects with the member's name; extra members that
    are no JSON object are kept as one member, `extraJson`.
    """
    wire = _object(_EVENT, event)
    if sent_at is not None:
        wire.setdefault("sentAt", sent_at)
    return _encode(wire)


def event_json(event: pb.Event) -> bytes:
    """The event with the members that the server sets, as `GET /v1/events` returns it."""
    wire = _object(_EVENT, event)
    if event.HasField("kpid"):
        wire["kpid"] = event.kpid
    if event.connection_id:
        wire["connectionId"] = event.connection_id
    if event.HasField("received_at"):
        wire["receivedAt"] = wire_time(event.received_at)
    return _encode(wire)


def batch_body(events: Iterable[bytes], sent_at: str | None = None) -> bytes:
    """The body of a batch of events that are JSON already."""
    end = b"]}" if sent_at is None else b'],"sentAt":' + _encode(sent_at) + b"}"
    return b'{"batch":[' + b",".join(events) + end


def wire_time(moment: Timestamp) -> str:
    """The moment in RFC 3339; one outside of the calendar becomes a text that the protocol rejects."""
    seconds, nanos = moment.seconds, moment.nanos
    if not (_MIN_SECONDS <= seconds <= _MAX_SECONDS and 0 <= nanos < 1_000_000_000):
        return f"{seconds} s and {nanos} ns"
    days, second = divmod(seconds, _DAY_SECONDS)
    clock = f"{_day(days)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    if nanos == 0:
        return clock + "Z"
    if nanos % 1_000_000 == 0:
        return f"{clock}.{nanos // 1_000_000:03}Z"
    return f"{clock}.{nanos // 1_000:06}Z" if nanos % 1_000 == 0 else f"{clock}.{nanos:09}Z"


@lru_cache(64)
def _day(days: int) -> str:
    return date.fromordinal(_EPOCH_DAY + days).isoformat()


def _object(writers: _Writers, message: Message) -> dict[str, object]:
    """The members of a message; its own fields before what its `extra_json` says."""
    wire = _extra_members(message)
    for field, value in message.ListFields():
        found = writers.get(field.number)
        if found is not None:
            name, write = found
            wire[name] = value if write is None else write(value)
    return wire


def _extra_members(message: Message) -> dict[str, object]:
    extra: str = getattr(message, "extra_json", "")
    if not extra:
        return {}
    text = json_text(extra)
    return {**members(text)} if is_object(text) else {"extraJson": text}


def json_text(text: str) -> Raw:
    """JSON given as text; text that is no JSON becomes a JSON string."""
    try:
        return _decode_raw(text.encode())
    except (msgspec.DecodeError, RecursionError):
        return Raw(_encode(text))


def _writers(message: Descriptor) -> _Writers:
    return {
        field.number: (JSON_TEXTS.get(field.name, field.json_name), _writer(field))
        for field in message.fields
        if field.name not in _SERVER_SIDE and field.name != "extra_json"
    }


def _writer(field: FieldDescriptor) -> _Write:
    if field.name in JSON_TEXTS:
        return json_text
    if field.message_type is None:
        return str if field.type == FieldDescriptor.TYPE_INT64 else None  # not every 64-bit integer is a JSON number
    if field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
        return wire_time
    return dict if field.message_type.GetOptions().map_entry else partial(_object, _writers(field.message_type))


_EVENT: Final = _writers(pb.Event.DESCRIPTOR)


_TIMES: Final = ("timestamp", "original_timestamp", "sent_at", "received_at")
_MAPS: Final = frozenset(
    field.full_name
    for field in pb.EventContext.DESCRIPTOR.fields
    if field.message_type is not None and field.message_type.GetOptions().map_entry
)
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
"""How JSON writes an integer of 64 bits, as a string."""
_decode = msgspec.json.Decoder().decode
_decode_flags = msgspec.json.Decoder(dict[str, bool]).decode


def event_message(document: dict[str, Raw]) -> pb.Event:
    """The stored event as a message."""
    event = pb.Event()
    rest = dict(document)
    for field in pb.Event.DESCRIPTOR.fields:
        if field.name == "extra_json":
            continue
        member = JSON_TEXTS.get(field.name, field.json_name)
        text = rest.pop(member, None)
        if text is None:
            continue
        if field.name in JSON_TEXTS:
            setattr(event, field.name, bytes(text).decode())
        elif field.name in _TIMES:
            moment: Timestamp = getattr(event, field.name)
            moment.FromJsonString(_decode(text))
        elif field.name == "context":
            event.context.SetInParent()  # an empty context is there too
            _fill(event.context, text)
        elif (scalar := _scalar(field.type, text)) is not None:
            setattr(event, field.name, scalar)
        else:
            rest[member] = text
    if rest:
        event.extra_json = _text(rest)
    return event


def _fill(message: Message, text: Raw) -> None:
    """Fill the message with the members that fit its fields; the others go to its `extra_json`, where it has one."""
    rest = dict(members(text))
    for field in message.DESCRIPTOR.fields:
        value = rest.get(field.json_name)
        if value is None or field.name == "extra_json":
            continue
        if field.full_name in _MAPS:
            flags = _flags(value)
            if flags:  # an empty map would be none
                getattr(message, field.name).update(flags)
                del rest[field.json_name]
        elif field.message_type is not None:
            if is_object(value) and set(members(value)) <= {part.json_name for part in field.message_type.fields}:
                part = getattr(message, field.name)
                part.SetInParent()
                _fill(part, value)
                if len(part.ListFields()) == len(members(value)):
                    del rest[field.json_name]
                else:
                    message.ClearField(field.name)
        elif (scalar := _scalar(field.type, value)) is not None:
            setattr(message, field.name, scalar)
            del rest[field.json_name]
    if rest and "extra_json" in message.DESCRIPTOR.fields_by_name:
        message.extra_json = _text(rest)  # type: ignore[attr-defined]  # the context has it, its parts have not


def _flags(text: Raw) -> dict[str, bool] | None:
    """The members of an object that are all true or false."""
    try:
        return _decode_flags(text)
    except msgspec.DecodeError:
        return None


def _scalar(type: int, text: Raw) -> Any:
    """The value for a field of one value; None when the text is none that the field can hold as it is."""
    if bytes(memoryview(text)[:1]) in b"{[":
        return None
    try:
        value = _decode(text)
    except msgspec.DecodeError:  # a number that Python cannot hold
        return None
    match type, value:
        case (FieldDescriptor.TYPE_STRING, str()) | (FieldDescriptor.TYPE_BOOL, bool()):
            return value
        case FieldDescriptor.TYPE_INT64, str() if _INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63:
            return int(value)
        case _, bool():
            return None
        case FieldDescriptor.TYPE_INT32, int() if -(2**31) <= value < 2**31:
            return value
        case (FieldDescriptor.TYPE_DOUBLE, float()):
            return value
        case FieldDescriptor.TYPE_DOUBLE, int() if _is_double(value):
            return value
    return None


def _is_double(value: int) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _text(parts: dict[str, Raw]) -> str:
    return bytes(join(parts)).decode()
