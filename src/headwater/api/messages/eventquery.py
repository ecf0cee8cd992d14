"""Conditions on stored events: from the requests of both packages to the query of the warehouse."""

from collections.abc import Iterable
from typing import Final, cast, get_args

from headwater.api.messages.schema import to_filter
from headwater.api.messages.times import read_time
from headwater.base.errors import BadRequest
from headwater.events import EVENT_TYPES
from headwater.filters import CheckedFilter, InvalidFilter, check_filter, parse_json
from headwater.rest.v1 import events_pb2 as rest_pb
from headwater.schemas import EVENT_SCHEMA
from headwater.v1 import events_pb2 as pb
from headwater.warehouse import CountKey, EventOrder, EventQuery, Interval

Request = pb.ListEventsRequest | pb.CountEventsRequest | rest_pb.ListEventsRequest | rest_pb.CountEventsRequest
Count = pb.CountEventsRequest | rest_pb.CountEventsRequest
Filtered = Request | pb.CreateEventListenerRequest | pb.WatchEventsRequest | rest_pb.WatchEventsRequest
"""The requests with a filter."""

_ORDERS: Final = get_args(EventOrder)
_KEYS: Final = get_args(CountKey)
_INTERVALS: Final = get_args(Interval)


def event_query(request: Request, workspace: int) -> EventQuery:
    """Return the query of a request. Raises BadRequest."""
    order = request.order if request.HasField("order") else "timestamp"
    if order not in _ORDERS:
        raise BadRequest(f"events can be ordered by {' or '.join(_ORDERS)} only", field="order")
    type_ = _text(request, "type", "type")
    if type_ is not None and type_ not in EVENT_TYPES:
        raise BadRequest(f"type must be one of {', '.join(EVENT_TYPES)}", field="type")
    connections = (
        request.connection_ids
        if isinstance(request, (pb.ListEventsRequest, pb.CountEventsRequest))
        else request.connection
    )
    return EventQuery(
        workspace=workspace,
        connections=tuple(sorted(set(connections))) or None,
        type=type_,
        event=_text(request, "event", "event"),
        user_id=_text(request, "user_id", "userId"),
        anonymous_id=_text(request, "anonymous_id", "anonymousId"),
        since=read_time(request, "since"),
        until=read_time(request, "until"),
        filter=check_event_filter(request),
        order=cast(EventOrder, order),
    )


def check_event_filter(request: Filtered) -> CheckedFilter | None:
    """Return the filter of a request; None if it has none. Raises BadRequest."""
    if not request.HasField("filter"):
        return None
    try:
        filter_ = parse_json(request.filter) if isinstance(request.filter, str) else to_filter(request.filter)
        if filter_ is None:
            return None
        # Under the rules of pipelines that collect events, as FilterService explains filters.
        return check_filter(filter_, EVENT_SCHEMA, role="Source", target="Event")
    except InvalidFilter as error:
        raise BadRequest(error.message, field=f"filter.{error.field or ''}".rstrip(".")) from error


def count_keys(request: Count) -> tuple[CountKey, ...]:
    """Return the values to count by. Raises BadRequest."""
    names = tuple(dict.fromkeys(split_names(request.by)))
    for name in names:
        if name not in _KEYS:
            raise BadRequest(f"events can be counted by {', '.join(_KEYS)} only", field="by")
    return cast(tuple[CountKey, ...], names)


def count_interval(request: Count) -> Interval | None:
    """Return the interval to count by. Raises BadRequest."""
    if not request.HasField("interval"):
        return None
    if request.interval not in _INTERVALS:
        raise BadRequest(f"interval must be {' or '.join(_INTERVALS)}", field="interval")
    return cast(Interval, request.interval)


def split_names(texts: Iterable[str]) -> list[str]:
    """Return the names in a repeated parameter, each of which may hold several separated by commas."""
    return [name for text in texts for name in text.split(",") if name]


def _text(request: Request, field: str, member: str) -> str | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # all requests have these fields
        return None
    text: str = getattr(request, field)
    if "\0" in text:
        raise BadRequest(f"{member} must not contain NUL", field=member)
    return text
