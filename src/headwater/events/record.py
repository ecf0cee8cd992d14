"""An event for filters and transformations: a record of `EVENT_SCHEMA`.

The context from clients does not always fit the schema, even when it has been normalised. A value that does not fit is
omitted from the record, and kept in the stored document. So a record always satisfies the schema.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Raw

from headwater.events.event import Event
from headwater.events.fast_context import FastContext
from headwater.events.raw import is_absent, is_object, join, members
from headwater.schemas import (
    EVENT_SCHEMA,
    Codec,
    DateTime,
    InvalidValue,
    Json,
    MapType,
    ObjectType,
    Record,
    Schema,
    property_at,
)

_TEXTS: Final = {
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "previousId": "previous_id",
    "groupId": "group_id",
    "messageId": "message_id",
    "type": "type",
    "event": "event",
    "name": "name",
    "category": "category",
    "channel": "channel",
}
_TIMES: Final = {
    "timestamp": "timestamp",
    "originalTimestamp": "original_timestamp",
    "sentAt": "sent_at",
    "receivedAt": "received_at",
}


def _context_schema() -> ObjectType:
    type_ = property_at(EVENT_SCHEMA, "context").type
    assert isinstance(type_, ObjectType)
    return type_


_CONTEXT: Final = _context_schema()
_EVENT: Final = ObjectType(tuple(replace(property_, read_optional=True) for property_ in EVENT_SCHEMA.properties))
_EVENT_CODEC: Final = Codec(_EVENT)
_CONTEXT_CODEC: Final = Codec(_CONTEXT)
_FAST_CONTEXT: Final = FastContext(_CONTEXT)


def event_record(event: Event, *, with_context: bool = True) -> Record:
    """Return the record of an event.

    Without the context, which most filters do not read, it takes a third of the time.
    """
    record: Record = {"connectionId": event.connection_id, "traits": _json(event.traits)}
    for name, field in _TEXTS.items():
        text: str | None = getattr(event, field)
        if text is not None:
            record[name] = text
    for name, field in _TIMES.items():
        time: datetime = getattr(event, field)
        record[name] = DateTime.of(time)
    if event.properties:
        record["properties"] = _json(event.properties)
    if with_context and event.context:
        record["context"] = _context(event.context)
    return record


def document_record(document: dict[str, Raw]) -> Record:
    """Return the record of an event in the form of `GET /v1/events`, without values that do not fit the schema."""
    record: Record = {}
    for name, value in document.items():
        if name == "context":
            if is_object(value):
                record["context"] = _context(value)
        elif _EVENT.get(name) is not None:
            try:
                record |= _EVENT_CODEC.decode(bytes(join({name: value})), trusted=True)
            except InvalidValue:
                continue
    return record


def _json(text: Raw) -> Json:
    return Json(bytes(text).decode())


def _context(text: Raw) -> Record:
    """Return the part of a context that fits the schema. The fast path is that all known members fit."""
    try:
        return _FAST_CONTEXT.decode(text)
    except (msgspec.DecodeError, InvalidValue, RecursionError):
        return _fitting_context(text)


def _fitting_context(text: Raw) -> Record:
    known = _known(text, _CONTEXT)
    try:
        return _CONTEXT_CODEC.decode(bytes(join(known)), trusted=True)
    except InvalidValue:
        record: Record = {}
        for name, value in known.items():
            record |= _section(name, value)
        return record


def _section(name: str, value: Raw) -> Record:
    try:
        return _CONTEXT_CODEC.decode(bytes(join({name: value})), trusted=True)
    except InvalidValue:
        if not is_object(value) or not isinstance(_CONTEXT.by_name[name].type, ObjectType | MapType):
            return {}
    fitting: dict[str, Raw] = {}
    for member, part in members(value).items():
        try:
            _CONTEXT_CODEC.decode(bytes(join({name: join({member: part})})), trusted=True)
        except InvalidValue:
            continue
        fitting[member] = part
    return _CONTEXT_CODEC.decode(bytes(join({name: join(fitting)})), trusted=True)


def _known(text: Raw, schema: Schema) -> dict[str, Raw]:
    """Return the members that are in the schema, at both levels of sections, without nulls."""
    known: dict[str, Raw] = {}
    for name, value in members(text).items():
        property_ = schema.get(name)
        if property_ is None or is_absent(value):
            continue
        if isinstance(property_.type, ObjectType) and is_object(value):
            value = join(_known(value, property_.type))
        known[name] = value
    return known
