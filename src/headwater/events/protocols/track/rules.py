"""Holds an event to the rules of its type."""

from collections.abc import Callable
from typing import Annotated, Final, cast

import msgspec
from msgspec import Raw

from headwater.base.nesting import is_deeper
from headwater.events.decode_errors import explain_track
from headwater.events.event import EVENT_TYPES
from headwater.events.protocol import MAX_DEPTH, Call, Limits, Rejection
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
"""What only we can say of an event. Webhooks of this family bring such members: they would shadow ours."""
_KNOWN: Final = frozenset(MEMBERS.values()) | _SERVER_SET


_PlainId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_LENGTH)] | None


class _PlainEvent(WireEvent, forbid_unknown_fields=True):
    """An event as most are: with members of ours only, and identifiers that are texts already. It is as it will be."""

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
    """The largest body of a call, in bytes after inflation."""
    return limits.batch_bytes if call == "batch" else limits.event_bytes


def check(event: Raw, call: Call, limits: Limits) -> WireEvent | Rejection:
    """The event, if it keeps every rule of the dialect; otherwise the first rule that it breaks."""
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
    except _Broken as broken:
        return Rejection("BadRequest", broken.path, broken.message)
    return wire


def read(event: Raw, call: Call) -> tuple[WireEvent, dict[str, Raw]]:
    """A checked event once more, and the members that `WireEvent` has no field for."""
    wire, is_plain = _decoded(event, call)
    return wire, {} if is_plain else extra(event)


def extra(event: Raw) -> dict[str, Raw]:
    """The members that `WireEvent` has no field for."""
    parts = members(event)
    return {} if parts.keys() <= _KNOWN else {name: parts[name] for name in parts if name not in _KNOWN}


class _Broken(Exception):
    def __init__(self, path: str, rule: str) -> None:
        self.path = path
        self.message = f"{path} {rule}"


def _decoded(event: Raw, call: Call) -> tuple[WireEvent, bool]:
    """The event, its type that of the call and its identifiers texts or absent; whether it has members of ours only."""
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
        raise _Broken("type", f"must be one of {', '.join(EVENT_TYPES)}")
    if not call.has_plain_texts and (broken := broken_text(wire)) is not None:
        raise _Broken(MEMBERS[broken[0]], broken[1])
    for field in _OBJECTS:
        value = getattr(wire, field)
        if value and not is_object(value) and not is_absent(value):
            raise _Broken(MEMBERS[field], "must be an object or null")


def _number_as_written(event: Raw, field: str) -> str:
    text = bytes(members(event)[MEMBERS[field]]).decode()
    if len(text) > MAX_TEXT_LENGTH:  # of strings the decoder sees to it
        raise _Broken(MEMBERS[field], f"is longer than {MAX_TEXT_LENGTH} characters")
    return text


def _check_presence(wire: WireEvent) -> None:
    match wire.type:
        case "track":
            if not wire.event:
                raise _Broken("event", "is required in a track event")
            if not (wire.user_id or wire.anonymous_id or wire.group_id):
                raise _Broken("userId", "or anonymousId or groupId is required in a track event")
        case "group":
            if not wire.group_id:
                raise _Broken("groupId", "is required in a group event")
        case "alias":
            if not wire.previous_id:
                raise _Broken("previousId", "is required in an alias event")
            if not wire.user_id:
                raise _Broken("userId", "is required in an alias event")
        case "identify":
            if not (wire.user_id or wire.anonymous_id or find_email(find_traits(wire))):
                raise _Broken("userId", "or anonymousId or traits.email is required in an identify event")
        case _:
            if not (wire.user_id or wire.anonymous_id):
                raise _Broken("userId", f"or anonymousId is required in a {wire.type} event")
