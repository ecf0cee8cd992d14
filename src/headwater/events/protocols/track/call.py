"""Splits the body of a call into events, which remain text, and the members that apply to all of them."""

import msgspec
from msgspec import Raw, Struct

from headwater.base.errors import BadRequest, PayloadTooLarge
from headwater.base.json_depth import is_deeper
from headwater.events.decode_errors import explain_syntax, explain_track
from headwater.events.protocol import MAX_BATCH_EVENTS, MAX_DEFAULTS_BYTES, MAX_DEPTH, Call
from headwater.events.raw import ABSENT, is_absent, is_object
from headwater.events.wellformed import decode_well_formed, reject_unpaired_surrogates
from headwater.events.wire import is_plain, time_text


class _Batch(Struct, rename="camel"):
    batch: list[Raw]
    write_key: str | None = None
    sent_at: Raw = ABSENT
    context: Raw = ABSENT
    integrations: Raw = ABSENT


class _Key(Struct, rename="camel"):
    write_key: str | None = None


class _Event(Struct, rename="camel"):
    """An event that is the body of a batch."""

    type: str
    write_key: str | None = None
    batch: Raw = ABSENT


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_key = msgspec.json.Decoder(_Key).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_events = msgspec.json.Decoder(list[Raw]).decode


def _decode_single(body: bytes) -> tuple[Raw, str | None]:
    """Return the text of the only event of a call, which is checked to be JSON, and its write key."""
    write_key = _decode_key(body).write_key
    return Raw(body.strip()), write_key


def _decode_many(body: bytes) -> _Batch:
    """Return the events of a batch, of an array, or the only event.

    Webhooks send the latter two: they have one URL for events of all types.
    """
    try:
        return _decode_batch(body)
    except msgspec.ValidationError:
        if body.lstrip().startswith(b"["):
            return _Batch(batch=_decode_events(body))
        try:
            event = _decode_event(body)
        except msgspec.ValidationError:
            event = None
        if event is None or event.batch:
            raise
        return _Batch(batch=[Raw(body.strip())], write_key=event.write_key)


def read_call(call: str, body: bytes) -> Call:
    """Decode the body of a call; `call` is "batch", or the event type in the route.

    Raises BadRequest if the body is not UTF-8, not JSON, or has not the shape of the call, and PayloadTooLarge for a
    batch with too many events, or whose defaults would be too large.
    """
    try:
        body.decode()  # the decoder does not check skipped strings, and stored data must be text
        if call != "batch":
            (event, write_key), other_event = decode_well_formed(_decode_single, body)
            return Call(
                type=call,
                events=[event],
                write_key=write_key,
                has_plain_texts=is_plain(body),
                rejected={} if other_event is None else reject_unpaired_surrogates([event], [other_event[0]]),
            )
        batch, other = decode_well_formed(_decode_many, body)
    except msgspec.ValidationError as error:
        raise _bad_request(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain_syntax(body, error) from error
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
    return Call(
        type=None,
        events=batch.batch,
        write_key=batch.write_key or _write_key_of_first(batch.batch),
        sent_at=time_text(batch.sent_at),
        context=batch.context,
        integrations=batch.integrations,
        has_plain_texts=is_plain(body),
        rejected={} if other is None else reject_unpaired_surrogates(batch.batch, other.batch),
    )


def _write_key_of_first(events: list[Raw]) -> str | None:
    try:
        return _decode_key(events[0]).write_key if events else None
    except msgspec.ValidationError:  # the event is rejected for it, and the batch for its missing key
        return None


def _bad_request(error: msgspec.ValidationError) -> BadRequest:
    rejection = explain_track(error, root="the body")
    return BadRequest(rejection.message, field=rejection.path or None)
