"""Splits the body of a call into events, which remain text, and the members that apply to all of them.

The envelope is read by its members, at any position: neither their order nor the content of other members matters.
"""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from headwater.base.errors import BadRequest, PayloadTooLarge
from headwater.base.identifiers import MAX_ID
from headwater.base.json_depth import is_deeper
from headwater.events.decode_errors import explain_native, explain_syntax
from headwater.events.protocol import MAX_BATCH_EVENTS, MAX_DEFAULTS_BYTES, MAX_DEPTH, Call
from headwater.events.raw import ABSENT, is_array, is_object, repeated_member
from headwater.events.timestamps import parse_timestamp
from headwater.events.wellformed import decode_well_formed, reject_unpaired_surrogates

EVENTS: Final = "events"
"""The call whose route names no type: one event, an array of events, or a batch."""


class _Envelope(Struct, rename="camel"):
    batch: list[Raw] | UnsetType = UNSET
    write_key: str | UnsetType = UNSET
    connection_id: int | UnsetType = UNSET
    sent_at: str | UnsetType = UNSET
    context: Raw = ABSENT


_MEMBERS: Final = frozenset(_Envelope.__struct_encode_fields__)

_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_events = msgspec.json.Decoder(list[Raw]).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def read_call(call: str, body: bytes) -> Call:
    """Decode the body of a call; `call` is `EVENTS`, or the event type in the route.

    One event is its own envelope, unless the route names its type. Raises BadRequest if the body is not JSON in UTF-8
    or has another shape, and PayloadTooLarge if its context would be repeated too often.
    """
    try:
        body.decode()  # the decoder does not check skipped strings, and stored data must be text
        text, counterpart = decode_well_formed(_decode_raw, body)
        read = _read(call, text)
        if counterpart is not None:
            rejected = reject_unpaired_surrogates(read.events, _read(call, counterpart).events)
            read = msgspec.structs.replace(read, rejected=rejected)
        return read
    except msgspec.ValidationError as error:
        rejection = explain_native(error, root="the body")
        raise BadRequest(rejection.message, field=rejection.path or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain_syntax(body, error) from error


def _read(call: str, text: Raw) -> Call:
    if is_object(text):
        return _read_object(text) if call == EVENTS else Call(type=call, events=[text])
    if call == EVENTS and is_array(text):
        return Call(type=None, events=_counted(_decode_events(text)))
    raise BadRequest(f"the body must be {'an event, an array of events, or a batch' if call == EVENTS else 'an event'}")


def _read_object(text: Raw) -> Call:
    if (name := repeated_member(text, _MEMBERS)) is not None:
        raise BadRequest(f"{name} is repeated", field=name)
    envelope = _decode_envelope(text)
    _check(envelope)
    call = Call(type=None, events=[text], write_key=envelope.write_key or None)
    call = msgspec.structs.replace(call, connection_id=envelope.connection_id or None)
    if envelope.batch is UNSET:
        return call
    events = _counted(envelope.batch)
    if len(envelope.context) * len(events) > MAX_DEFAULTS_BYTES:
        raise PayloadTooLarge("context is too large to be repeated in every event of the batch", field="context")
    return msgspec.structs.replace(call, events=events, sent_at=envelope.sent_at or None, context=envelope.context)


def _check(envelope: _Envelope) -> None:
    if envelope.write_key == "":
        raise BadRequest("writeKey must not be empty", field="writeKey")
    if envelope.connection_id is not UNSET and not 0 < envelope.connection_id <= MAX_ID:
        raise BadRequest(f"connectionId must be an integer from 1 to {MAX_ID}", field="connectionId")
    if envelope.sent_at:
        try:
            parse_timestamp(envelope.sent_at)
        except ValueError as error:
            raise BadRequest(f"sentAt {error}", field="sentAt") from error
    if envelope.context and not is_object(envelope.context):
        raise BadRequest("context must be an object", field="context")
    if is_deeper(envelope.context, MAX_DEPTH):
        raise BadRequest(f"context is nested deeper than {MAX_DEPTH} levels", field="context")


def _counted(events: list[Raw]) -> list[Raw]:
    if not 0 < len(events) <= MAX_BATCH_EVENTS:
        raise BadRequest(f"a call has 1 to {MAX_BATCH_EVENTS} events, not {len(events)}", field="batch")
    return events
