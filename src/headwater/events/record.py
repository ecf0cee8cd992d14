"""An event for filters and transformations: a record of `EVENT_SCHEMA`.

The context from clients does not always fit the schema, even when it has been normalised. A value that does not fit is
omitted from the record, and kept in the stored document. So a record always satisfies the schema.
"""

from collections.abc import Iterable
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
    Type,
    property_at,
    select,
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


class _ContextReader:
    """Reads the part of contexts that fits a schema."""

    def __init__(self, schema: ObjectType) -> None:
        self._schema = schema
        self._codec = Codec(schema)
        self._fast = FastContext(schema)

    def read(self, text: Raw) -> Record:
        """Return the part of a context that fits. The fast path is that all known members fit."""
        try:
            return self._fast.decode(text)
        except (msgspec.DecodeError, InvalidValue, RecursionError):
            return self._fitting(text)

    def _fitting(self, text: Raw) -> Record:
        known = _known(text, self._schema)
        try:
            return self._decode(known)
        except InvalidValue:
            record: Record = {}
            for name, value in known.items():
                record |= self._section(name, value)
            return record

    def _section(self, name: str, value: Raw) -> Record:
        try:
            return self._decode({name: value})
        except InvalidValue:
            if not is_object(value) or not isinstance(self._schema.by_name[name].type, ObjectType | MapType):
                return {}
        fitting: dict[str, Raw] = {}
        for member, part in members(value).items():
            try:
                self._decode({name: join({member: part})})
            except InvalidValue:
                continue
            fitting[member] = part
        return self._decode({name: join(fitting)})

    def _decode(self, known: dict[str, Raw]) -> Record:
        return self._codec.decode(bytes(join(known)), trusted=True)


_COMPLETE_CONTEXT: Final = _ContextReader(_CONTEXT)


class RecordReader:
    """Makes records of events with some properties only, which saves most of the time."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Records have the properties at these paths of `EVENT_SCHEMA`."""
        schema = select(EVENT_SCHEMA, paths) or ()
        types = {property_.name: property_.type for property_ in schema}
        self._has_connection = "connectionId" in types
        self._texts = [(name, field) for name, field in _TEXTS.items() if name in types]
        self._times = [(name, field) for name, field in _TIMES.items() if name in types]
        self._jsons = [name for name in ("traits", "properties") if name in types]
        context = types.get("context")
        self._read_context = None if context is None else _reader(context).read

    def read(self, event: Event) -> Record:
        """Return the record of an event."""
        record: Record = {"connectionId": event.connection_id} if self._has_connection else {}
        for name, field in self._texts:
            text: str | None = getattr(event, field)
            if text is not None:
                record[name] = text
        for name, field in self._times:
            time: datetime = getattr(event, field)
            record[name] = DateTime.of(time)
        for name in self._jsons:
            value: Raw = getattr(event, name)
            if value:
                record[name] = Json(bytes(value).decode())
        if self._read_context is not None and event.context:
            record["context"] = self._read_context(event.context)
        return record


def _reader(type_: Type) -> _ContextReader:
    assert isinstance(type_, ObjectType)
    return _COMPLETE_CONTEXT if type_ == _CONTEXT else _ContextReader(type_)


_ALL: Final = tuple(property_.name for property_ in EVENT_SCHEMA)
COMPLETE: Final = RecordReader(_ALL)
"""Reads all properties."""
_WITHOUT_CONTEXT: Final = RecordReader(name for name in _ALL if name != "context")


def event_record(event: Event, *, with_context: bool = True) -> Record:
    """Return the record of an event.

    Without the context, which most filters do not read, it takes a third of the time.
    """
    return COMPLETE.read(event) if with_context else _WITHOUT_CONTEXT.read(event)


def document_record(document: dict[str, Raw]) -> Record:
    """Return the record of an event in the form of `GET /v1/events`, without values that do not fit the schema."""
    record: Record = {}
    for name, value in document.items():
        if name == "context":
            if is_object(value):
                record["context"] = _COMPLETE_CONTEXT.read(value)
        elif _EVENT.get(name) is not None:
            try:
                record |= _EVENT_CODEC.decode(bytes(join({name: value})), trusted=True)
            except InvalidValue:
                continue
    return record


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
