"""Amplitude's members of events and their types, which its client `amplitude-analytics` has as data.

The members of `plan` and of `ingestion_metadata` have no types in a request, and connectors send neither.
"""

from typing import Any, Final

from tests.connectors.specifications.schemas import Schema, close, read
from tests.connectors.specifications.specification import Operation, Operations

_TYPES: Final = {str: "string", int: "integer", float: "number", dict: "object"}


def _events() -> Schema:
    members: dict[str, tuple[str, Any]] = read("amplitude.event", "EVENT_KEY_MAPPING")
    event = {
        "type": "object",
        "properties": {name: {"type": _TYPES.get(type_, "object")} for name, type_ in members.values()},
        "required": ["event_type"],
    }
    options = {"type": "object", "properties": {"min_id_length": {"type": "integer"}}}
    return close(
        {
            "type": "object",
            "properties": {
                "api_key": {"type": "string"},
                "events": {"type": "array", "items": event},
                "options": options,
            },
            "required": ["api_key", "events"],
        }
    )


SPECIFICATION: Final = Operations(
    Operation("POST", "/2/httpapi", body=_events()), Operation("POST", "/batch", body=_events())
)
