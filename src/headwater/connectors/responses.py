"""Reads the responses of destinations by declared rules, so that connectors need no code for this.

`ResponseRules` give statuses their meaning and name the headers with waits. `items` reads the body of a response about
single items; the readers here are for the forms that vendors use.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from headwater.connectors.contract import (
    DELIVERED,
    UNEXPECTED_RESPONSE,
    ConnectorContext,
    EncodedEvent,
    Failure,
    FailureScope,
    HttpRequest,
    HttpResponse,
    ItemResult,
    Outcome,
    SendResult,
    TransportError,
    TransportFailure,
    failed,
    retry,
    succeeded,
)

MAX_WAIT_SECONDS: Final = 3_600.0
"""Maximum wait that a destination can request; longer ones are shortened to it."""

_MAX_SECRET_CHARACTERS: Final = 8_192
"""More than a secret of settings has."""

ItemsReader: TypeAlias = Callable[[HttpResponse, Sequence[EncodedEvent]], Sequence[ItemResult]]
"""Returns a result for each event. Raises UnexpectedResponse if the response does not account for all of them,
NoItemNamed for an error that is about the request, and RequestFailed for a body that states a failure."""

NOT_TAKEN: Final = retry("NotTaken", "the request was refused because of another event", 0.0)
"""The result of an event in a request that was refused because of others. It is sent again without a wait."""

WaitForm = Literal["Seconds", "SecondsOrDate", "Milliseconds", "UnixSeconds"]


class UnexpectedResponse(Exception):
    """The status of the response is a success, but its body is not the documented one."""


class NoItemNamed(Exception):
    """The response of an error status in `item_statuses` names no item: the request failed as a whole."""


class RequestFailed(Exception):
    """The body states another failure of the whole request than the status: a success of which the vendor took nothing,
    or credentials that it refuses with the status of an invalid event."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Wait(msgspec.Struct, frozen=True):
    """The header that states how long to wait, and its form."""

    header: str
    form: WaitForm = "SecondsOrDate"


RETRY_AFTER: Final = Wait("retry-after")


class ResponseRules(msgspec.Struct, frozen=True, kw_only=True):
    """The meaning of responses.

    Statuses that are in no set: 2xx succeeds; 408, 421, 423, 425, 429 and 5xx are failures of the destination; anything
    else is `others`. `item_statuses` are read by `items` although they are no success. `waits` are tried in their
    order, and `default_wait_seconds` is for a 429 without any. `pause` is a pair of headers: if the first is 0 on a
    success, the wait is in the second.
    """

    items: ItemsReader | None = None
    item_statuses: frozenset[int] = frozenset()
    batch: frozenset[int] = frozenset({400, 413, 415, 422})
    destination: frozenset[int] = frozenset()
    credentials: frozenset[int] = frozenset({401})
    closed: frozenset[int] = frozenset({410})
    others: FailureScope = FailureScope.DESTINATION
    waits: tuple[Wait, ...] = (RETRY_AFTER,)
    default_wait_seconds: float | None = None
    pause: tuple[str, Wait] | None = None


STATUS_ONLY: Final = ResponseRules()
"""For destinations that report success by the status alone."""


async def exchange(
    context: ConnectorContext, request: HttpRequest, events: Sequence[EncodedEvent], rules: ResponseRules = STATUS_ONLY
) -> SendResult:
    """Send a request and read its response by the rules. It implements `EventSink.send`.

    The result contains no secret of the settings, also if the response repeats one. A long response, such as a page
    about an error, is cut: its status counts.
    """
    try:
        response = await context.http.send(msgspec.structs.replace(request, may_cut_response=True))
    except TransportError as error:
        return failed(len(events), transport_failure(error))
    if rules.items is not None or not _is_success(response.status, rules):
        response = _without_secrets(response, context.redact)
    return read_response(response, events, rules, context.clock.now())


def _without_secrets(response: HttpResponse, redact: Callable[[str], str]) -> HttpResponse:
    """Return the response with a redacted body. Texts are cut later, and part of a secret would not be found."""
    text = response.body.decode(errors="surrogateescape")
    return msgspec.structs.replace(response, body=redact(text).encode(errors="surrogateescape"))


def transport_failure(error: TransportError) -> Failure:
    """Return the failure of an exchange without a response."""
    is_closed = error.failure in (TransportFailure.ADDRESS_FORBIDDEN, TransportFailure.AUTHORIZATION_REVOKED)
    return Failure(
        scope=FailureScope.CLOSED if is_closed else FailureScope.DESTINATION,
        reason=error.failure,
        message=error.message,
        may_have_arrived=error.may_have_arrived,
    )


def read_response(
    response: HttpResponse, events: Sequence[EncodedEvent], rules: ResponseRules, now: datetime
) -> SendResult:
    """Return the result of a request for `events`. A body that cannot be read makes the items `RETRY`."""
    status = response.status
    if _is_success(status, rules):
        try:
            return _read_items(response, events, rules, now)
        except NoItemNamed:
            pass
        except RequestFailed as error:
            return failed(len(events), error.failure, status)
    wait = find_wait(response.headers, rules.waits, now)
    if wait is None and status == 429:
        wait = rules.default_wait_seconds
    failure = Failure(
        scope=_scope(status, rules),
        reason=f"Status{status}",
        message=read_text(response),
        retry_after_seconds=wait,
        is_too_large=status == 413,
    )
    return failed(len(events), failure, status)


def credentials_refused(response: HttpResponse) -> RequestFailed:
    """Return the exception for a body that states that the credentials are not accepted."""
    return RequestFailed(
        Failure(scope=FailureScope.CREDENTIALS, reason=f"Status{response.status}", message=read_text(response))
    )


def _is_success(status: int, rules: ResponseRules) -> bool:
    return 200 <= status < 300 or (rules.items is not None and status in rules.item_statuses)


def _read_items(
    response: HttpResponse, events: Sequence[EncodedEvent], rules: ResponseRules, now: datetime
) -> SendResult:
    pause = None
    if rules.pause is not None and response.headers.get(rules.pause[0]) == "0":
        pause = find_wait(response.headers, (rules.pause[1],), now)
    if rules.items is None:
        return succeeded([DELIVERED] * len(events), response.status, pause)
    try:
        if response.is_cut and not 200 <= response.status < 300:
            raise NoItemNamed
        if response.is_cut:
            raise UnexpectedResponse(f"it has more than {len(response.body)} bytes")
        items = tuple(rules.items(response, events))
        if len(items) != len(events):
            raise UnexpectedResponse(f"it has {len(items)} results for {len(events)} items")
    except UnexpectedResponse as error:
        items = (retry(UNEXPECTED_RESPONSE, f"the response does not account for the event: {error}"),) * len(events)
    return succeeded(items, response.status, pause)


def _scope(status: int, rules: ResponseRules) -> FailureScope:
    for statuses, scope in (
        (rules.destination, FailureScope.DESTINATION),
        (rules.batch, FailureScope.BATCH),
        (rules.credentials, FailureScope.CREDENTIALS),
        (rules.closed, FailureScope.CLOSED),
    ):
        if status in statuses:
            return scope
    if status in (408, 421, 423, 425, 429) or status >= 500:
        return FailureScope.DESTINATION
    return rules.others


def find_wait(headers: Mapping[str, str], waits: Iterable[Wait], now: datetime) -> float | None:
    """Return the seconds to wait, from 0 to `MAX_WAIT_SECONDS`; None if no header states a valid one."""
    for wait in waits:
        value = headers.get(wait.header)
        seconds = None if value is None else _seconds(value.strip(), wait.form, now)
        if seconds is not None:
            return min(max(seconds, 0.0), MAX_WAIT_SECONDS)
    return None


def _seconds(value: str, form: WaitForm, now: datetime) -> float | None:
    number = _number(value)
    if number is not None:
        if form == "Milliseconds":
            return number / 1_000
        return number - now.timestamp() if form == "UnixSeconds" else number
    if form != "SecondsOrDate":
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - now) / timedelta(seconds=1)


def _number(text: str) -> float | None:
    whole, _, fraction = text.partition(".")
    if len(text) > 20 or not text.isascii() or not whole.isdigit() or (fraction and not fraction.isdigit()):
        return None
    return float(text)


def read_text(response: HttpResponse, max_characters: int = 1_000) -> str:
    """Return the beginning of the body as text for users."""
    text = response.body[: 4 * max_characters].decode(errors="replace")
    return "".join(each if each.isprintable() else " " for each in text)[:max_characters].strip()


def read_safe_text(response: HttpResponse, context: ConnectorContext, max_characters: int = 1_000) -> str:
    """Return the beginning of the body as text for users, without secrets of the settings.

    It is redacted before it is cut: half of a secret would not be found.
    """
    return context.redact(read_text(response, max_characters + _MAX_SECRET_CHARACTERS))[:max_characters].strip()


def json_body(response: HttpResponse) -> Any:
    """Return the body as JSON. Raises UnexpectedResponse."""
    try:
        return msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnexpectedResponse("the body is not JSON") from None


def results_by_index(events: Sequence[EncodedEvent], reported: Iterable[tuple[object, ItemResult]]) -> list[ItemResult]:
    """Return `DELIVERED` for each event but those that are reported by the index of one of their items.

    Raises UnexpectedResponse for an index that is not of an item.
    """
    owners = [position for position, event in enumerate(events) for _ in range(event.count)]
    results = [DELIVERED] * len(events)
    for index, result in reported:
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(owners):
            raise UnexpectedResponse(f"it names item {index!r}")
        results[owners[index]] = result
    return results


def results_by_id(events: Sequence[EncodedEvent], reported: Iterable[tuple[object, ItemResult]]) -> list[ItemResult]:
    """Return `DELIVERED` for each event but those that are reported by id.

    Raises UnexpectedResponse for an id that is not of an event.
    """
    positions = {event.id: position for position, event in enumerate(events)}
    results = [DELIVERED] * len(events)
    for id_, result in reported:
        if not isinstance(id_, str) or id_ not in positions:
            raise UnexpectedResponse(f"it names item {id_!r}")
        results[positions[id_]] = result
    return results


def results_by_pointer(
    events: Sequence[EncodedEvent], prefix: str, reported: Iterable[tuple[object, ItemResult]]
) -> list[ItemResult]:
    """Return `DELIVERED` for each event but those reported by a JSON pointer such as `/data/3/email`.

    `prefix` is the part before the index ("/data/"). Raises UnexpectedResponse.
    """
    return results_by_index(events, [(_pointed(pointer, prefix), result) for pointer, result in reported])


def _pointed(pointer: object, prefix: str) -> object:
    if not isinstance(pointer, str) or not pointer.startswith(prefix):
        return pointer
    index = pointer[len(prefix) :].partition("/")[0]
    return int(index) if index.isascii() and index.isdigit() and len(index) < 10 else pointer


def reject_named(events: Sequence[EncodedEvent], named: Mapping[int, ItemResult]) -> list[ItemResult]:
    """Return the given results of events by their position, and `NOT_TAKEN` for the others: the vendor refuses a
    request as a whole for one event. Raises NoItemNamed if no event is named.
    """
    if not named:
        raise NoItemNamed
    return [named.get(position, NOT_TAKEN) for position in range(len(events))]


def check_count(count: int, processed: object, results: Sequence[ItemResult]) -> Sequence[ItemResult]:
    """Return the results if `processed` and the items that were not delivered are all. Raises UnexpectedResponse."""
    others = sum(result.outcome is not Outcome.DELIVERED for result in results)
    if isinstance(processed, bool) or not isinstance(processed, int) or processed + others != count:
        raise UnexpectedResponse(f"it counts {processed!r} of {count} items")
    return results
