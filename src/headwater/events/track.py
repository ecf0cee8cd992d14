"""The track API dialect: the calls of the Segment family, as its SDKs really send them.

The rules are those of the documented API, read leniently where its SDKs differ: null ids are absent, numeric ids are
taken as text, unknown members are kept. One bad event refuses itself, not its batch; a body that is not JSON refuses
the whole call.
"""

import uuid
from datetime import datetime
from typing import Final, cast

import msgspec
from msgspec import Raw, Struct

from headwater.base.errors import BadRequest, PayloadTooLarge
from headwater.events.envelope import Envelope
from headwater.events.event import EMPTY_OBJECT, EVENT_TYPES, Event, EventType, document
from headwater.events.raw import ABSENT, is_absent, is_deeper, is_object, is_string, members, merge
from headwater.events.refusal import Refusal
from headwater.events.timestamps import correct, parse_timestamp

MAX_EVENT_BYTES: Final = 32 * 1024
"""The largest event, in bytes of JSON."""
MAX_BATCH_BYTES: Final = 500 * 1024
"""The largest batch, in bytes of JSON, after inflation."""
MAX_TEXT_LENGTH: Final = 1_000
"""The longest identifier or name in an event, in code points."""

MAX_BATCH_EVENTS: Final = 20_000
"""The most events in a batch. So many that are valid do not fit into `MAX_BATCH_BYTES`: this bounds the others."""
MAX_DEFAULTS_BYTES: Final = 4 * 1024 * 1024
"""How much the `context` and `integrations` of a batch may become, since each of its events is stored with them."""
MAX_DEPTH: Final = 100
"""How deep an event may be nested. The decoder's own limit depends on how deep the stack is where it is called, and the
worker, and whoever reads the event, must be able to decode what the intake accepted."""

_Id = str | int | float | None


class Call(Struct, frozen=True):
    """A decoded call: its events still text, and what holds for all of them."""

    type: str | None
    """The event type that the route names; None in a batch, where each event says its own."""
    events: list[Raw]
    write_key: str | None
    sent_at: str | None = None
    context: Raw = ABSENT
    integrations: Raw = ABSENT


class WireEvent(Struct, rename="camel"):
    """One event as sent, its JSON members still text."""

    type: str | None = None
    message_id: _Id = None
    user_id: _Id = None
    anonymous_id: _Id = None
    previous_id: _Id = None
    group_id: _Id = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    channel: str | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: str | None = None
    context: Raw = ABSENT
    properties: Raw = ABSENT
    traits: Raw = ABSENT
    integrations: Raw = ABSENT
    write_key: str | None = None


class _Batch(Struct, rename="camel"):
    batch: list[Raw]
    write_key: str | None = None
    sent_at: str | None = None
    context: Raw = ABSENT
    integrations: Raw = ABSENT


class _Key(Struct, rename="camel"):
    write_key: str | None = None


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_event = msgspec.json.Decoder(WireEvent).decode
_decode_key = msgspec.json.Decoder(_Key).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_text = msgspec.json.Decoder(str).decode

_MEMBERS: Final = dict(zip(WireEvent.__struct_fields__, WireEvent.__struct_encode_fields__, strict=True))
_SERVER_SET: Final = frozenset(("connectionId", "receivedAt", "kpid"))
"""What only we can say of an event. Webhooks of this family bring such members: they would shadow ours."""
_KNOWN: Final = frozenset(_MEMBERS.values()) | _SERVER_SET
_IDS: Final = ("message_id", "user_id", "anonymous_id", "previous_id", "group_id")
_TEXTS: Final = ("event", "name", "category", "channel")
_TIMES: Final = ("timestamp", "original_timestamp", "sent_at")
_OBJECTS: Final = ("context", "properties", "traits", "integrations")
_WITH_PROPERTIES: Final = frozenset(("page", "screen", "track"))


# --- Reading a call -----------------------------------------------------------------------------------------------


def read_call(call: str, body: bytes) -> Call:
    """The call that `body` holds; `call` is "batch", or the event type that the route names.

    Raises BadRequest when the body is not UTF-8, not JSON, or not of the shape that the call wants, and PayloadTooLarge
    for a batch of more events than it may have, or of more than its defaults may become.
    """
    try:
        body.decode()  # the decoder skips the strings that it is not asked for, and what is stored must be text
        if call != "batch":
            event = _decode_raw(body)
            return Call(type=call, events=[event], write_key=_decode_key(event).write_key)
        batch = _decode_batch(body)
    except msgspec.ValidationError as error:
        raise _bad_request(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("the body is not JSON in UTF-8, or is nested too deeply") from error
    if len(batch.batch) > MAX_BATCH_EVENTS:
        raise PayloadTooLarge(f"batch has more than {MAX_BATCH_EVENTS} events", field="batch")
    for name in ("context", "integrations"):
        default = getattr(batch, name)
        if not is_absent(default) and not is_object(default):
            raise BadRequest(f"{name} must be an object or null", field=name)
        if len(default) * len(batch.batch) > MAX_DEFAULTS_BYTES:
            raise PayloadTooLarge(f"{name} is too large to be repeated in every event of the batch", field=name)
        if is_deeper(default, MAX_DEPTH):
            raise BadRequest(f"{name} is nested deeper than {MAX_DEPTH} levels", field=name)
    if batch.sent_at:
        try:
            parse_timestamp(batch.sent_at)
        except ValueError as error:
            raise BadRequest(f"sentAt {error}", field="sentAt") from error
    return Call(
        type=None,
        events=batch.batch,
        write_key=batch.write_key or _write_key_of_first(batch.batch),
        sent_at=batch.sent_at,
        context=batch.context,
        integrations=batch.integrations,
    )


def _write_key_of_first(events: list[Raw]) -> str | None:
    try:
        return _decode_key(events[0]).write_key if events else None
    except msgspec.ValidationError:  # the event itself will be refused for it, and the batch for having no key
        return None


def _bad_request(error: msgspec.ValidationError) -> BadRequest:
    refusal = _explain(error)
    return BadRequest(refusal.message if refusal.path else f"the body {refusal.message}", field=refusal.path or None)


# --- Checking an event --------------------------------------------------------------------------------------------


def check(event: Raw, type_of_call: str | None) -> WireEvent | Refusal:
    """The event, if it keeps every rule of the dialect; otherwise the first rule that it breaks."""
    if memoryview(event).nbytes > MAX_EVENT_BYTES:
        return Refusal("PayloadTooLarge", "", f"the event is larger than {MAX_EVENT_BYTES} bytes")
    if is_deeper(event, MAX_DEPTH):
        return Refusal("BadRequest", "", f"the event is nested deeper than {MAX_DEPTH} levels")
    try:
        wire = _decode_event(event)
    except msgspec.ValidationError as error:
        return _explain(error)
    if type_of_call is not None:
        wire.type = type_of_call
    try:
        _check_values(wire)
        _check_presence(wire)
    except _Broken as broken:
        return Refusal("BadRequest", broken.path, broken.message)
    return wire


class _Broken(Exception):
    def __init__(self, path: str, rule: str) -> None:
        self.path = path
        self.message = f"{path} {rule}"


def _check_values(wire: WireEvent) -> None:
    if wire.type not in EVENT_TYPES:
        raise _Broken("type", f"must be one of {', '.join(EVENT_TYPES)}")
    for field in _IDS:
        value = getattr(wire, field)
        if value is not None:
            text = value if isinstance(value, str) else str(value)
            _check_text(field, text)
            setattr(wire, field, text or None)
    for field in _TEXTS:
        value = getattr(wire, field)
        if value is not None:
            _check_text(field, value)
    for field in _TIMES:
        value = getattr(wire, field)
        if value:
            try:
                parse_timestamp(value)
            except ValueError as error:
                raise _Broken(_MEMBERS[field], str(error)) from error
    for field in _OBJECTS:
        value = getattr(wire, field)
        if value and not is_object(value) and not is_absent(value):
            raise _Broken(_MEMBERS[field], "must be an object or null")


def _check_text(field: str, text: str) -> None:
    if len(text) > MAX_TEXT_LENGTH:
        raise _Broken(_MEMBERS[field], f"is longer than {MAX_TEXT_LENGTH} characters")
    if "\0" in text:
        raise _Broken(_MEMBERS[field], "contains the NUL character")


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
            if not (wire.user_id or wire.anonymous_id or email_of(_traits(wire))):
                raise _Broken("userId", "or anonymousId or traits.email is required in an identify event")
        case _:
            if not (wire.user_id or wire.anonymous_id):
                raise _Broken("userId", f"or anonymousId is required in a {wire.type} event")


def _explain(error: msgspec.ValidationError) -> Refusal:
    """The decoder's complaint in the words of JSON: it names a path and Python's types."""
    _, _, path = str(error).partition(" - at `$.")
    path = path.rstrip("`")
    field = next((field for field, member in _MEMBERS.items() if member == path), "")
    if field in _IDS:
        rule = "must be a string, a number or null"
    elif path == "batch":
        rule = "must be an array of events"
    elif path:
        rule = "must be a string or null"
    elif "`batch`" in str(error):
        path, rule = "batch", "is required and must be an array of events"
    else:
        return Refusal("BadRequest", "", "must be a JSON object")
    return Refusal("BadRequest", path, f"{path} {rule}")


# --- From the wire to the canonical event -------------------------------------------------------------------------


def canonical(wire: WireEvent, source: Raw, call: Call, envelope: Envelope, index: int) -> tuple[Event, bytes]:
    """The checked event number `index` of the call, and its document.

    Depends on its arguments only, so that a second reading after a crash makes the same event.
    """
    received = envelope.received_at
    sent_text = wire.sent_at or call.sent_at
    sent = parse_timestamp(sent_text) if sent_text else received
    timestamp, original = _times(wire, sent, received)
    context = merge(call.context, wire.context)
    event = Event(
        connection_id=envelope.connection,
        message_id=cast(str | None, wire.message_id) or generated_message_id(envelope.nonce, index),
        type=cast(EventType, wire.type),
        user_id=cast(str | None, wire.user_id),
        anonymous_id=cast(str | None, wire.anonymous_id),
        previous_id=cast(str | None, wire.previous_id),
        group_id=cast(str | None, wire.group_id),
        event=wire.event,
        name=wire.name,
        category=wire.category,
        channel=wire.channel,
        context=None if is_absent(context) else context,
        properties=_properties(wire),
        traits=_traits(wire),
        integrations=_or_none(merge(call.integrations, wire.integrations)),
        timestamp=timestamp,
        original_timestamp=original,
        sent_at=sent,
        received_at=received,
    )
    return event, document(event, _unknown_members(source))


def generated_message_id(nonce: bytes, index: int) -> str:
    """The id of event number `index` of a call, for an event that brought none; the same at every reading."""
    number = (int.from_bytes(nonce) + index) % 2**128
    return f"headwater-{uuid.UUID(int=number)}"


def email_of(traits: Raw) -> str | None:
    """`traits.email`, which identifies a person in an identify event without ids; None when it is not a text."""
    email = members(traits).get("email", ABSENT)
    if not is_string(email):
        return None
    value = _decode_text(email)
    return value if 0 < len(value) <= MAX_TEXT_LENGTH and "\0" not in value else None


def _times(wire: WireEvent, sent: datetime, received: datetime) -> tuple[datetime, datetime]:
    """`timestamp` and `originalTimestamp`.

    A client that sends both has corrected its clock itself. One that sends either (RudderStack's Node SDK sends only
    `originalTimestamp`) has given the time of its own clock.
    """
    if wire.timestamp and wire.original_timestamp:
        return parse_timestamp(wire.timestamp), parse_timestamp(wire.original_timestamp)
    given = wire.timestamp or wire.original_timestamp
    if not given:
        return received, received
    original = parse_timestamp(given)
    return correct(original, sent=sent, received=received), original


def _traits(wire: WireEvent) -> Raw:
    """The traits, from where SDKs put them: the event itself, or (always in some) its context."""
    if not is_absent(wire.traits):
        return wire.traits
    in_context = members(wire.context).get("traits", ABSENT)
    return in_context if is_object(in_context) else EMPTY_OBJECT


def _properties(wire: WireEvent) -> Raw | None:
    if is_absent(wire.properties):
        return EMPTY_OBJECT if wire.type in _WITH_PROPERTIES else None
    return wire.properties


def _or_none(text: Raw) -> Raw | None:
    return None if is_absent(text) else text


def _unknown_members(source: Raw) -> dict[str, Raw]:
    return {name: value for name, value in members(source).items() if name not in _KNOWN}
