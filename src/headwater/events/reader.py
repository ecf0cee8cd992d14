"""Reads the events of an accepted call.

The body is decoded once, directly into events: most events have only members that are fields of `Event`, and
identifiers that are texts. With its times and its context replaced, such an event is the stored document. Any other
event is decoded by its protocol and built by `headwater.events.canonical`. Both ways return the same event.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, cast

import msgspec
from msgspec import Raw, Struct

from headwater.base.clock import from_microseconds
from headwater.events.canonical import Canonical, canonical, generated_message_id, object_type_id
from headwater.events.context import Locate, normal_context
from headwater.events.devices import DEVICE_EVENTS
from headwater.events.event import EMPTY_OBJECT, WITH_PROPERTIES, Event, EventType, encode_event
from headwater.events.protocol import Call, Envelope, Rejection, check_events
from headwater.events.protocols import PROTOCOLS
from headwater.events.raw import ABSENT, is_absent, merge
from headwater.events.timestamps import correct, parse_timestamp
from headwater.events.wire import IDS, TIMES

_Id = Annotated[str, msgspec.Meta(min_length=1)] | None


def _sent_event(name: str, text: Any) -> type[Struct]:
    """Return the type of a usual event as sent; `text` is the type of texts that are no identifiers.

    Members that the server sets may be null only, so an event that has one is unusual.
    """
    fields: list[tuple[str, Any, Any]] = [
        ("connection_id", None, None),
        ("received_at", None, None),
        ("type", EventType | None, None),
        *((field, _Id, None) for field in IDS),
        *((field, text, None) for field in ("event", "name", "category", "channel")),
        *((field, str | None, None) for field in TIMES),
        ("traits", Raw, ABSENT),
        ("write_key", str | None, None),
    ]
    return msgspec.defstruct(
        name, fields, bases=(Event,), rename="camel", omit_defaults=True, kw_only=True, forbid_unknown_fields=True
    )


class _Batch(Struct, rename="camel", kw_only=True):
    """A call of several events."""

    batch: list[Any]
    sent_at: str | None = None
    context: Raw = ABSENT
    integrations: Raw = ABSENT


class _Decoder:
    """Decodes bodies and events of a protocol, if they are usual; otherwise raises msgspec's errors."""

    def __init__(self, event: type[Struct], batch_call: str, *, has_integrations: bool) -> None:
        """`batch_call` is the call that has a batch, whose `integrations` may apply to all its events."""
        batch = msgspec.defstruct("_Batch", [("batch", list[event])], bases=(_Batch,), rename="camel", kw_only=True)  # type: ignore[valid-type]
        self._batch_call = batch_call
        self._has_integrations = has_integrations
        self._decode_batch = cast("Callable[[bytes], _Batch]", msgspec.json.Decoder(batch).decode)
        self.event = cast("Callable[[bytes | Raw], Event]", msgspec.json.Decoder(event).decode)

    def call(self, call: str, body: bytes) -> tuple[Call, list[Event]]:
        """Return the members of the call that apply to all events, and its events."""
        if call != self._batch_call:
            return Call(call, []), [self.event(body)]
        batch = self._decode_batch(body)
        integrations = batch.integrations if self._has_integrations else ABSENT
        return Call(None, [], None, batch.sent_at, batch.context, integrations), batch.batch


_track: Final = _Decoder(_sent_event("_SentEvent", str | None), "batch", has_integrations=True)
_native: Final = _Decoder(_sent_event("_NativeEvent", _Id), "events", has_integrations=False)
"""The native protocol treats an empty text as absent."""
_DECODERS: Final = {"track": _track, "grpc": _track, "native": _native, "client": None}
"""The bodies of the client API are translated first."""


class CallReader:
    """The events of one accepted call, read one by one."""

    __slots__ = (
        "_body",
        "_call",
        "_decoder",
        "_envelope",
        "_events",
        "_is_native",
        "_locate",
        "_protocol",
        "_received",
        "_rejected",
        "_sent_at",
        "_sent_text",
        "_source",
    )

    def __init__(self, envelope: Envelope, body: bytes, locate: Locate | None = None) -> None:
        """Decode the call. `locate` looks up the location of events that do not include one.

        Raises BadRequest, Unprocessable or PayloadTooLarge for a call that does not follow its protocol.
        """
        self._envelope = envelope
        self._body = body
        self._locate = locate
        self._protocol = PROTOCOLS[envelope.protocol]
        self._decoder = _DECODERS[envelope.protocol]
        self._received = from_microseconds(envelope.received)
        self._sent_text = ""
        self._sent_at = self._received
        self._is_native = envelope.protocol == "native"
        self._source: Call | None = None
        """The call with the texts of its events, once one of them is needed."""
        self._rejected = envelope.rejected or {}
        self._events: Sequence[Event | None]
        if self._decoder is not None and envelope.rejected is not None and not envelope.rejected:
            try:
                self._call, self._events = self._decoder.call(envelope.call, body)
            except (msgspec.DecodeError, RecursionError):
                pass
            else:
                return
        self._call = source = self._sources()
        if envelope.rejected is None:
            checked = enumerate(check_events(self._protocol, source, envelope.limits))
            self._rejected = {index: each for index, each in checked if isinstance(each, Rejection)}
        self._events = [
            None if index in self._rejected else self._decode(text) for index, text in enumerate(source.events)
        ]

    def __len__(self) -> int:
        return len(self._events)

    def source(self, index: int) -> Raw:
        """Return the JSON of event number `index` as it was sent."""
        return self._sources().events[index]

    def read(self, index: int) -> Canonical | Rejection:
        """Return event number `index`, or the reason of its rejection."""
        sent = self._events[index]
        if sent is not None:
            try:
                document = self._complete(sent, index)
            except (ValueError, OverflowError):  # a time that only the protocol can read
                document = None
            if document is not None:
                return sent, document, ()
        elif (rejection := self._rejected.get(index)) is not None:
            return rejection
        call = self._sources()
        wire, extra = self._protocol.read(call.events[index], call)
        return canonical(wire, extra, call, self._envelope, index, self._locate)

    def _sources(self) -> Call:
        if self._source is None:
            self._source = self._protocol.read_call(self._envelope.call, self._body)
        return self._source

    def _decode(self, text: Raw) -> Event | None:
        try:
            return (self._decoder or _track).event(text)
        except (msgspec.DecodeError, RecursionError):
            return None

    def _complete(self, event: Event, index: int) -> bytes | None:
        """Complete a usual event to the stored event, and return its document; None for an unusual one."""
        call, envelope = self._call, self._envelope
        if call.type is not None and not (self._is_native and event.type):
            event.type = cast("EventType", call.type)
        if event.event in DEVICE_EVENTS or event.type is None:
            return None
        self._set_times(event)
        context = normal_context(event.context, call.context, ABSENT, envelope, self._locate)
        if not event.traits or is_absent(event.traits):
            if self._is_native and (call.context or context.traits is not EMPTY_OBJECT):
                return None  # traits in the context become the event's own
            event.traits = context.traits
        event.context = context.text
        if not event.channel:
            event.channel = context.channel
        if event.type == "group":
            event.object_type_id = object_type_id("group", event.object_type_id, event.traits)
        if not event.properties or is_absent(event.properties):
            event.properties = EMPTY_OBJECT if event.type in WITH_PROPERTIES else ABSENT
        if event.integrations or call.integrations:
            integrations = merge(call.integrations, event.integrations)
            event.integrations = ABSENT if is_absent(integrations) else integrations
        if not event.message_id:
            event.message_id = generated_message_id(envelope.nonce, index)
        event.connection_id = envelope.connection
        event.write_key = None  # type: ignore[attr-defined]
        return encode_event(event)

    def _set_times(self, event: Event) -> None:
        """Parse the texts of the times. Raises ValueError if one is not an ISO 8601 date and time."""
        received = self._received
        times: Any = event
        text = times.sent_at or self._call.sent_at
        if text and text != self._sent_text:
            self._sent_at, self._sent_text = parse_timestamp(text), text
        sent = self._sent_at if text else received
        if times.timestamp and times.original_timestamp:
            event.timestamp, event.original_timestamp = (
                parse_timestamp(times.timestamp),
                parse_timestamp(times.original_timestamp),
            )
        elif own := times.timestamp or times.original_timestamp:
            original = parse_timestamp(own)
            corrected = correct(original, sent=sent, received=received)
            if corrected is None:
                raise ValueError("the client's clock cannot be corrected")
            event.timestamp, event.original_timestamp = corrected, original
        else:
            event.timestamp = event.original_timestamp = received
        event.sent_at = sent
        event.received_at = received
