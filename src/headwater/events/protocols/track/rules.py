"""Checks an event against the rules of its type."""

from collections.abc import Callable
from typing import Annotated, Final, cast

import msgspec
from msgspec import Raw

from headwater.base.json_depth import is_deeper
from headwater.events.decode_errors import explain_track
from headwater.events.event import EVENT_TYPES
from headwater.events.protocol import MAX_DEPTH, BrokenRule, Call, Limits, Rejection
from headwater.events.raw import ABSENT, is_absent, is_object, members
from headwater.events.wire import (
    IDS,
    MAX_TEXT_LENGTH,
    MEMBERS,
    TIMES,
    WireEvent,
    broken_text,
    find_email,
    find_traits,
    time_text,
)

_OBJECTS: Final = ("context", "properties", "traits", "integrations")

_SERVER_SET: Final = frozenset(("connectionId", "receivedAt", "kpid"))
"""Members that only the server sets. Webhooks of this family send some, which would replace the server's."""
_KNOWN: Final = frozenset(MEMBERS.values()) | _SERVER_SET


_PlainId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_LENGTH)] | None


class _PlainEvent(WireEvent, forbid_unknown_fields=True):
    """A usual event: it has known members only, and its identifiers are texts."""

    message_id: _PlainId = None
    user_id: _PlainId = None
    anonymous_id: _PlainId = None
    previous_id: _PlainId = None
    group_id: _PlainId = None
    object_type_id: _PlainId = None


_LenientEvent: Final = msgspec.defstruct(
    "_LenientEvent", [(field, Raw, ABSENT) for field in TIMES], bases=(WireEvent,), rename="camel"
)
"""An event whose times may be any JSON value."""

_decode_lenient = cast("Callable[[Raw], WireEvent]", msgspec.json.Decoder(_LenientEvent).decode)
_decode_event = msgspec.json.Decoder(WireEvent).decode
_decode_plain = msgspec.json.Decoder(_PlainEvent).decode


def max_body(call: str, limits: Limits) -> int:
    """Return the maximum size of the body of a call, in bytes after decompression."""
    return limits.batch_bytes if call == "batch" else limits.event_bytes


def check(event: Raw, call: Call, limits: Limits) -> WireEvent | Rejection:
    """Return the event if it follows every rule of the protocol; otherwise the first broken rule."""
    if memoryview(event).nbytes > limits.event_bytes:
        return Rejection("PayloadTooLarge", "", f"the event is larger than {limits.event_bytes} bytes")
    if is_deeper(event, MAX_DEPTH):
        return Rejection("BadRequest", "", f"the event is nested deeper than {MAX_DEPTH} levels")
    try:
        wire, _ = _decoded(event, call)
        _check_values(wire, call)
        _check_presence(wire)
    except msgspec.ValidationError as error:
        return explain_track(error)
    except BrokenRule as broken:
        return broken.rejection
    return wire


def read(event: Raw, call: Call) -> tuple[WireEvent, dict[str, Raw]]:
    """Return a checked event, and the members that `WireEvent` has no field for."""
    wire, is_plain = _decoded(event, call)
    return wire, {} if is_plain else extra(event)


def extra(event: Raw) -> dict[str, Raw]:
    """Return the members that `WireEvent` has no field for."""
    parts = members(event)
    return {} if parts.keys() <= _KNOWN else {name: parts[name] for name in parts if name not in _KNOWN}


def _decoded(event: Raw, call: Call) -> tuple[WireEvent, bool]:
    """Return the event, with the type of the call and identifiers as texts, and whether it has known members only."""
    wire: WireEvent
    try:
        wire, is_plain = _decode_plain(event), True
    except msgspec.ValidationError:
        wire, is_plain = _decode_any(event), False
        for field in IDS:
            value = getattr(wire, field)
            if value == "":
                setattr(wire, field, None)
            elif value is not None and not isinstance(value, str):
                setattr(wire, field, _number_as_written(event, field))
    if call.type is not None:
        wire.type = call.type
    elif wire.type not in EVENT_TYPES and wire.type and wire.type.isascii():
        wire.type = wire.type.lower()
    return wire, is_plain


def _decode_any(event: Raw) -> WireEvent:
    try:
        return _decode_event(event)
    except msgspec.ValidationError:
        wire = _decode_lenient(event)
        for field in TIMES:
            setattr(wire, field, time_text(getattr(wire, field)))
        return wire


def _check_values(wire: WireEvent, call: Call) -> None:
    if wire.type not in EVENT_TYPES:
        raise BrokenRule("type", f"must be one of {', '.join(EVENT_TYPES)}")
    if not call.has_plain_texts and (broken := broken_text(wire)) is not None:
        raise BrokenRule(MEMBERS[broken[0]], broken[1])
    for field in _OBJECTS:
        value = getattr(wire, field)
        if value and not is_object(value) and not is_absent(value):
            raise BrokenRule(MEMBERS[field], "must be an object or null")


def _number_as_written(event: Raw, field: str) -> str:
    text = bytes(members(event)[MEMBERS[field]]).decode()
    if len(text) > MAX_TEXT_LENGTH:  # the decoder has checked strings
        raise BrokenRule(MEMBERS[field], f"is longer than {MAX_TEXT_LENGTH} characters")
    return text


def _check_presence(wire: WireEvent) -> None:
    match wire.type:
        case "track":
            if not wire.event:
                raise BrokenRule("event", "is required in a track event")
            if not (wire.user_id or wire.anonymous_id or wire.group_id):
                raise BrokenRule("userId", "or anonymousId or groupId is required in a track event")
        case "group":
            if not wire.group_id:
                raise BrokenRule("groupId", "is required in a group event")
        case "alias":
            if not wire.previous_id:
                raise BrokenRule("previousId", "is required in an alias event")
            if not wire.user_id:
                raise BrokenRule("userId", "is required in an alias event")
        case "identify":
            if not (wire.user_id or wire.anonymous_id or find_email(find_traits(wire))):
                raise BrokenRule("userId", "or anonymousId or traits.email is required in an identify event")
        case _:
            if not (wire.user_id or wire.anonymous_id):
                raise BrokenRule("userId", f"or anonymousId is required in a {wire.type} event")
