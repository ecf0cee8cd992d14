"""Typed events as the JSON that a client of the track API would send: the way in. `eventmessage` is the way out.

It runs once for each event, so what can be known of a field beforehand is found out once, when this module is imported,
and an event is written in one go.
"""

from collections.abc import Callable, Iterable
from datetime import date
from functools import lru_cache, partial
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Raw

from headwater.events.raw import is_object, members
from headwater.v1 import events_pb2 as pb

JSON_TEXTS: Final = {"properties_json": "properties", "traits_json": "traits", "integrations_json": "integrations"}
"""The fields that hold people's own JSON, and the members that they stand for."""

_SERVER_SIDE: Final = frozenset(("kpid", "connection_id", "received_at"))
"""What a client cannot say of an event."""

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


def wire_event(event: pb.Event, sent_at: str | None = None) -> bytes:
    """The event; `sent_at` is the member `sentAt` of one that says nothing of it.

    A JSON text that is no JSON becomes a string, which the dialect refuses with the member's name; extra members that
    are no JSON object are kept as one member, `extraJson`.
    """
    wire = _object(_EVENT, event)
    if sent_at is not None:
        wire.setdefault("sentAt", sent_at)
    return _encode(wire)


def batch_body(events: Iterable[bytes], sent_at: str | None = None) -> bytes:
    """The body of a batch of events that are JSON already."""
    end = b"]}" if sent_at is None else b'],"sentAt":' + _encode(sent_at) + b"}"
    return b'{"batch":[' + b",".join(events) + end


def wire_time(moment: Timestamp) -> str:
    """The moment in RFC 3339; one that no calendar has becomes a text that the dialect refuses."""
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
