"""Checks an event against the rules of its type."""

from typing import Final

import msgspec
from msgspec import Raw

from headwater.base.json_depth import is_deeper
from headwater.events.decode_errors import explain_native
from headwater.events.event import EVENT_TYPES
from headwater.events.protocol import MAX_DEPTH, BrokenRule, Call, Limits, Rejection
from headwater.events.protocols.native.context import check_context
from headwater.events.protocols.track.rules import extra
from headwater.events.raw import ABSENT, is_absent, is_object, join, members, merge, repeated_member
from headwater.events.timestamps import parse_timestamp
from headwater.events.wire import MEMBERS, TIMES, Text, WireEvent, broken_text, is_plain


class _Event(WireEvent):
    """An event whose identifiers are texts, and null only if the type allows it."""

    message_id: Text | None = None
    user_id: Text | None = None
    anonymous_id: Text | None = None
    group_id: Text | None = None
    object_type_id: Text | None = None
    previous_id: Text = ""
    event: Text = ""
    channel: Text = ""
    sent_at: str = ""


_TEXTS: Final = (
    "message_id",
    "user_id",
    "anonymous_id",
    "previous_id",
    "group_id",
    "object_type_id",
    "event",
    "name",
    "category",
    "channel",
)
_OBJECTS: Final = ("properties", "traits", "integrations")
_REQUIRED: Final = {"track": "event", "group": "group_id", "alias": "previous_id"}
_ONLY: Final = {
    "event": ("track",),
    "group_id": ("group",),
    "previous_id": ("alias",),
    "category": ("page",),
    "name": ("page", "screen"),
    "properties": ("page", "screen", "track"),
    "traits": ("identify", "group"),
}
"""The event types of each field that does not belong to all types."""
_MEMBERS: Final = frozenset(MEMBERS.values())

_decode_event = msgspec.json.Decoder(_Event).decode


def max_body(call: str, limits: Limits) -> int:
    """Return the maximum size of the body of a call, in bytes after decompression. A single event has no other
    limit."""
    return limits.batch_bytes


def check(event: Raw, call: Call, limits: Limits) -> WireEvent | Rejection:
    """Return the event if it follows every rule of the protocol; otherwise the first broken rule."""
    if is_deeper(event, MAX_DEPTH):
        return Rejection("BadRequest", "", f"the event is nested deeper than {MAX_DEPTH} levels")
    try:
        wire = _with_type(event, call)
    except msgspec.ValidationError as error:
        return explain_native(error, root="the event")
    if (name := repeated_member(event, _MEMBERS)) is not None:
        return Rejection("BadRequest", name, f"{name} is repeated")
    try:
        _check_values(wire, event)
        _check_presence(wire)
    except BrokenRule as broken:
        return broken.rejection
    context = merge(call.context, wire.context)
    rejection = check_context(context)
    if rejection is not None:
        return rejection
    return _with_traits(wire, context)


def read(event: Raw, call: Call) -> tuple[WireEvent, dict[str, Raw]]:
    """Return a checked event, and the members that `WireEvent` has no field for."""
    wire = _with_type(event, call)
    return _with_traits(wire, merge(call.context, wire.context)), extra(event)


def _with_type(event: Raw, call: Call) -> WireEvent:
    """Return the event with its type. Empty texts count as absent."""
    wire: WireEvent = _decode_event(event)
    wire.type = wire.type or call.type
    for field in _TEXTS:
        if getattr(wire, field) == "":
            setattr(wire, field, None)
    return wire


def _with_traits(wire: WireEvent, context: Raw) -> WireEvent:
    """Return the event with its traits, which may be in the context instead."""
    if context and is_absent(wire.traits) and is_object(traits := members(context).get("traits", ABSENT)):
        wire.traits = traits
        wire.context = _without_traits(wire.context)
    return wire


def _check_values(wire: WireEvent, event: Raw) -> None:
    if wire.type not in EVENT_TYPES:
        raise BrokenRule("type", f"must be one of {', '.join(EVENT_TYPES)}")
    if not is_plain(event) and (broken := broken_text(wire)) is not None:
        raise BrokenRule(MEMBERS[broken[0]], broken[1])
    for field in TIMES:
        text = getattr(wire, field)
        if text:
            try:
                parse_timestamp(text)
            except ValueError as error:
                raise BrokenRule(MEMBERS[field], str(error)) from error
    if wire.original_timestamp and not wire.timestamp:
        raise BrokenRule("originalTimestamp", "requires timestamp")
    for field in _OBJECTS:
        value = getattr(wire, field)
        if not is_absent(value) and not is_object(value):
            raise BrokenRule(MEMBERS[field], "must be an object or null")


def _check_presence(wire: WireEvent) -> None:
    for field, types in _ONLY.items():
        value = getattr(wire, field)
        is_there = not is_absent(value) if isinstance(value, Raw) else value is not None
        if is_there and wire.type not in types:
            raise BrokenRule(MEMBERS[field], f"is only for events of the type {' or '.join(types)}, not {wire.type}")
    required = _REQUIRED.get(wire.type or "")
    if required is not None and getattr(wire, required) is None:
        raise BrokenRule(MEMBERS[required], f"is required in events of the type {wire.type}")
    if wire.user_id is None and wire.anonymous_id is None:
        raise BrokenRule("userId", "or anonymousId is required")


def _without_traits(context: Raw) -> Raw:
    """Return the context without the event's own traits. The traits in the defaults of the call remain."""
    others = {name: value for name, value in members(context).items() if name != "traits"}
    return join(others) if others else ABSENT
