"""Splits filters on events into conditions on columns and a test of documents."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.raw import is_object
from headwater.events.record import document_record
from headwater.filters import CheckedFilter, compile_filter
from headwater.schemas import Json
from headwater.warehouse.contract import EventQuery
from headwater.warehouse.persons import PersonSet

_COLUMNS: Final = {
    "type": "type",
    "event": "event",
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "connectionId": "connection",
}
"""The columns of the members that have one."""
_JSON: Final = frozenset(("properties", "traits"))


class Selection(Struct, frozen=True):
    """The conditions of a query on the columns, and a test for the documents of the events that meet them."""

    connections: frozenset[int] | None
    values: dict[str, str]
    """The required values of the columns `type`, `event`, `user_id` and `anonymous_id`."""
    test: Callable[[bytes], bool] | None
    """None when the columns are enough to decide."""
    is_empty: bool = False
    """Whether the conditions contradict each other, so that no event can meet them."""
    persons: PersonSet | None = None
    """The persons that the events belong to; None for any."""

    @property
    def has_columns(self) -> bool:
        """Whether there are conditions on columns."""
        return self.connections is not None or bool(self.values) or self.persons is not None


def select(query: EventQuery) -> Selection:
    """Return the conditions of a query, except those on its time."""
    required: dict[str, set[Any]] = {}
    given = {"type": query.type, "event": query.event, "user_id": query.user_id, "anonymous_id": query.anonymous_id}
    for column, value in given.items():
        if value is not None:
            required.setdefault(column, set()).add(value)
    test = None
    if query.filter is not None:
        if query.filter.logical == "and" or len(query.filter.conditions) == 1:
            test = _split(query.filter, required)
        else:
            test = document_test(query.filter)
    connections = None if query.connections is None else frozenset(query.connections)
    for connection in required.pop("connection", ()):
        connections = frozenset((connection,)) & (connections if connections is not None else {connection})
    is_empty = connections == frozenset() or any(len(values) > 1 for values in required.values())
    return Selection(connections, {column: min(values) for column, values in required.items()}, test, is_empty)


def _split(filter: CheckedFilter, required: dict[str, set[Any]]) -> Callable[[bytes], bool] | None:
    """Add the conditions on columns to `required` if all have to hold; return the test of the others."""
    others = []
    for condition in filter.conditions:
        column = _COLUMNS.get(condition.path[0]) if len(condition.path) == 1 else None
        if column is not None and condition.operator == "is":
            required.setdefault(column, set()).add(condition.literals[0])
        else:
            others.append(condition)
    return document_test(CheckedFilter("and", tuple(others))) if others else None


def document_test(filter: CheckedFilter) -> Callable[[bytes], bool]:
    """Return the filter as a function of a document. Only the members that the filter uses are decoded."""
    passes = compile_filter(filter)
    names = tuple({condition.path[0] for condition in filter.conditions})
    fields = [(f"member{index}", Raw, Raw()) for index in range(len(names))]
    decode = msgspec.json.Decoder(
        msgspec.defstruct("Members", fields, rename={f"member{index}": name for index, name in enumerate(names)})
    ).decode

    def test(document: bytes) -> bool:
        record: dict[str, Any] = {}
        others: dict[str, Raw] = {}
        for name, value in zip(names, msgspec.structs.astuple(decode(document)), strict=True):
            if not value:
                continue
            if name in _JSON and is_object(value):
                record[name] = Json(bytes(value).decode())
            else:
                others[name] = value
        if others:
            record |= document_record(others)
        return passes(record)

    return test
