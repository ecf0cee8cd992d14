"""Stored events as typed messages: the way out. `eventjson` is the way in.

The typed message has a field for every documented member. What it has none for, or what does not fit its field, travels
as JSON text in an `extra_json` field, in both directions: nothing is lost by choosing the typed face.
"""

import re
from typing import Any, Final

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Raw

from headwater.api.eventjson import JSON_TEXTS
from headwater.events.raw import is_object, join, members
from headwater.v1 import events_pb2 as pb

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
