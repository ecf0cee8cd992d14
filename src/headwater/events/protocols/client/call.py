"""Decodes the body of a call, checks its shape, and translates it into the members of the track API."""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from headwater.base.errors import BadRequest, PayloadTooLarge, Unprocessable
from headwater.events.decode_errors import explain_syntax
from headwater.events.protocol import MAX_BATCH_EVENTS, Call, Limits
from headwater.events.protocols.client import shapes, translation
from headwater.events.protocols.client.shapes import CODE, Shape, check_surrogates, take_apart, wrong_type
from headwater.events.protocols.track.rules import extra
from headwater.events.raw import is_object, join
from headwater.events.wellformed import decode_well_formed
from headwater.events.wire import WireEvent

_CALLS: Final[dict[str, tuple[Shape, Callable[[dict[str, Raw]], dict[str, Raw]]]]] = {
    "alias": (shapes.ALIAS, translation.alias),
    "identify": (shapes.IDENTIFY, translation.identify),
    "devices": (shapes.DEVICE, translation.device),
    "events": (shapes.EVENT, translation.event),
    "track": (shapes.TRACK, translation.named_event),
}

_decode = msgspec.json.Decoder(Raw).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode
_decode_event = msgspec.json.Decoder(WireEvent).decode


def max_body(call: str, limits: Limits) -> int:
    """Return the maximum size of the body of a call, in bytes after decompression."""
    return limits.client_bytes


def read_call(call: str, body: bytes) -> Call:
    """Decode the body of a call into events with the members of the track API; an empty body is an empty object.

    Raises BadRequest if the body is not UTF-8, not JSON, or neither an object nor an array; Unprocessable for the first
    rule of the protocol that the call breaks; PayloadTooLarge for more events than a call may have.
    """
    shape, translate = _CALLS[call]
    try:
        body.decode()  # the decoder does not check skipped strings, and stored data must be text
        root, counterpart = decode_well_formed(_decode, body or b"{}")
        parts = _take_apart(call, root, shape)
        if counterpart is not None:
            for (path, own), other in zip(parts.items(), _take_apart(call, counterpart, shape).values(), strict=True):
                check_surrogates(own, other, path)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain_syntax(body, error) from error
    return Call(type=None, events=[join(translate(each)) for each in parts.values()])


def check(event: Raw, call: Call, limits: Limits) -> WireEvent:
    """Return the event, which was checked when its call was decoded."""
    return _decode_event(event)


def read(event: Raw, call: Call) -> tuple[WireEvent, dict[str, Raw]]:
    """Return the event, and the members that `WireEvent` has no field for."""
    return _decode_event(event), extra(event)


def _take_apart(call: str, root: Raw, shape: Shape) -> dict[str, dict[str, Raw]]:
    """Return the members of each object of the call, by its path."""
    if not is_object(root) and not _is_array(root):
        raise BadRequest("the body must be a JSON object or array")
    if call != "events":
        return {"": take_apart(root, shape)}
    return {str(index): take_apart(item, shape, str(index)) for index, item in enumerate(_items(root))}


def _items(root: Raw) -> list[Raw]:
    if not _is_array(root):
        wrong_type("", "array")
    items = _decode_items(root)
    if not items:
        raise Unprocessable(CODE, "Must NOT have fewer than 1 items")
    if len(items) > MAX_BATCH_EVENTS:
        raise PayloadTooLarge(f"the body has more than {MAX_BATCH_EVENTS} events")
    return items


def _is_array(text: Raw) -> bool:
    return memoryview(text)[0] == ord("[")
