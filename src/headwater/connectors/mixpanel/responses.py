"""Reads Mixpanel's responses to events and to updates of profiles: failed records are named, and the others counted."""

from collections.abc import Sequence
from typing import Final

import msgspec

from headwater.connectors.contract import (
    DELIVERED,
    UNEXPECTED_RESPONSE,
    EncodedEvent,
    HttpResponse,
    ItemResult,
    rejected,
    retry,
)
from headwater.connectors.mixpanel.api import ENGAGE_PATH, IMPORT_PATH, FailedRecord
from headwater.connectors.responses import NoItemNamed, ResponseRules, UnexpectedResponse, reject_named

_KEY_CHARACTERS: Final = 32


class _Response(msgspec.Struct):
    """The body of a response. `num_records_imported` is of events, `num_good_events` of profiles."""

    status: int | str | None = None
    error: str | None = None
    num_records_imported: int | None = None
    num_good_events: int | None = None
    failed_records: list[FailedRecord] | None = None


_decode: Final = msgspec.json.Decoder(_Response).decode


def _read(response: HttpResponse) -> _Response:
    try:
        return _decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if response.status < 300:
            raise UnexpectedResponse("its body is not the documented one") from None
        raise NoItemNamed from None


def _read_imported(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    body = _read(response)
    if response.status >= 300 and not body.failed_records:
        raise NoItemNamed
    return _account(body, body.num_records_imported, events)


def _read_profiles(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    """Return the results of profiles. The status of the response is 200 also if none was taken."""
    body = _read(response)
    taken = body.num_good_events if body.num_good_events is not None else body.num_records_imported
    if body.failed_records:
        if not taken:
            # Mixpanel may have taken none of the others. An update that is repeated changes nothing.
            return reject_named(events, _find_named(body, events))
    elif response.status >= 300 or body.error or body.status == 0:
        if len(events) > 1:
            raise NoItemNamed
        return [rejected("InvalidProfile", body.error or "Mixpanel does not accept the profile")]
    elif body.status not in (1, "OK"):
        raise UnexpectedResponse(f"its status is {body.status!r}")
    elif taken is None:  # a success counts no profiles
        return [DELIVERED] * len(events)
    return _account(body, taken, events)


def _account(body: _Response, taken: int | None, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    """Return the results of failed records, and for the other events `DELIVERED` if the counts add up."""
    named = _find_named(body, events)
    count = sum(event.count for event in events)
    others = DELIVERED
    if taken is None or taken + len(body.failed_records or ()) != count:
        others = retry(
            UNEXPECTED_RESPONSE,
            f"the response does not account for the event: it counts {taken!r} of {count} records",
        )
    return [named.get(position, others) for position in range(len(events))]


def _find_named(body: _Response, events: Sequence[EncodedEvent]) -> dict[int, ItemResult]:
    """Return the results of events by their position, of which records failed: these have the id of an event, or the
    index of one of its records. Raises UnexpectedResponse."""
    owners = [position for position, event in enumerate(events) for _ in range(event.count)]
    positions = {event.id: position for position, event in enumerate(events)}
    named: dict[int, ItemResult] = {}
    for record in body.failed_records or ():
        position = positions.get(record.id[:_KEY_CHARACTERS])
        if position is None and record.index is not None and 0 <= record.index < len(owners):
            position = owners[record.index]
        if position is None:
            raise UnexpectedResponse(f"it names record {record.index!r}")
        named[position] = record.result
    return named


_REFUSED: Final = frozenset({401, 403})
RULES: Final = {
    IMPORT_PATH: ResponseRules(
        items=_read_imported, item_statuses=frozenset({400}), credentials=_REFUSED, default_wait_seconds=2.0
    ),
    # A response of status 200 that names no record is about the request.
    ENGAGE_PATH: ResponseRules(
        items=_read_profiles,
        item_statuses=frozenset({400}),
        batch=frozenset({200, 400, 413, 415, 422}),
        credentials=_REFUSED,
        default_wait_seconds=2.0,
    ),
}
"""The meaning of responses by the path of the request."""
