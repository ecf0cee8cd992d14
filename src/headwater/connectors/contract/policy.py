"""The policy of a sink: limits, rates, order, retries and versions, declared as data.

The caller applies it: it forms batches, spends rate tokens, keeps order, drops events that are too old, and retries.
Two connections with the same credentials share the rates of one account.
"""

from datetime import date
from typing import Literal

import msgspec

RequestScope = Literal["Event", "User", "Any"]
"""The events that one request can contain: a single one, those of one user, or any."""

Order = Literal["PerUser", "None"]
"""`PerUser`: events of a user are sent in their order. `None`: the destination orders by time itself."""

IdempotencyForm = Literal["None", "Text", "UUID", "ULID"]
"""The form of the key by which the destination recognises a repetition; `None` means that it never does."""

Overflow = Literal["Wait", "Summarise"]
"""The treatment of events that exceed the rate for long. `Summarise`: `request` gets them together, beyond the limits,
and makes one message of them. It is for destinations with human readers, such as a chat."""


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one request. Bytes are those of the body before compression; None means no limit."""

    max_events: int = 1
    max_bytes: int | None = None
    max_event_bytes: int | None = None


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """At most `count` of `unit` in `seconds`.

    `Rolling` limits are spent evenly, except for a `burst`; `Fixed` windows start by the vendor's clock. Each `per` is
    counted separately. All limits of a sink apply together. `group` names the endpoints that share one limit of the
    account. With `min_events` or `max_events` it counts only requests with so many events: for a sink that sends a
    single event to another endpoint than several. With `routes` it counts only requests with events of these routes;
    users that are written have the route "".
    """

    count: int
    seconds: float
    unit: Literal["Request", "Event"] = "Request"
    window: Literal["Rolling", "Fixed"] = "Rolling"
    per: Literal["Account", "User"] = "Account"
    burst: int = 1
    group: str = ""
    min_events: int = 1
    max_events: int | None = None
    routes: tuple[str, ...] | None = None

    def counts(self, events: int, route: str = "") -> bool:
        """Return whether a request with so many events of a route is counted."""
        is_counted = self.min_events <= events and (self.max_events is None or events <= self.max_events)
        return is_counted and (self.routes is None or route in self.routes)


def spread(
    count: int,
    seconds: float,
    *,
    burst: int,
    unit: Literal["Request", "Event"] = "Request",
    group: str = "",
    min_events: int = 1,
    max_events: int | None = None,
    routes: tuple[str, ...] | None = None,
) -> RateLimit:
    """Return a limit that keeps a vendor's fixed window of `count` requests, wherever the window starts.

    A rolling limit passes `burst` requests more than its count. So its count is lower by the burst, and the share of
    the vendor's limit that is used is (count - burst) / count. The `unit` is "Event" for users that are written with
    one request each.
    """
    return RateLimit(
        count=count - burst,
        seconds=seconds,
        unit=unit,
        burst=burst,
        group=group,
        min_events=min_events,
        max_events=max_events,
        routes=routes,
    )


class Idempotency(msgspec.Struct, frozen=True, kw_only=True):
    """How the destination recognises a repetition.

    `seconds` is the time for which it does; None means not documented. `needs_equal_time` means that the key works only
    with an unchanged timestamp. `uses_message_id` means that the key must be the event's own message id, because the
    destination receives the same events from elsewhere too.
    """

    form: IdempotencyForm = "None"
    max_characters: int | None = None
    seconds: float | None = None
    needs_equal_time: bool = False
    uses_message_id: bool = False


class ApiVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The version of the vendor's API, and the day on which the vendor ends it; None if not announced."""

    name: str
    ends_on: date | None = None


class SinkPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The policy of one sink.

    Events older than `max_age_seconds`, or later than `max_future_seconds` from the present, are rejected before a
    batch is formed; None means no limit. `max_concurrency` is the number of requests in flight. `version` is None if
    the API has no versions.
    """

    scope: RequestScope = "Event"
    order: Order = "PerUser"
    limits: BatchLimits = BatchLimits()
    rates: tuple[RateLimit, ...] = ()
    idempotency: Idempotency = Idempotency()
    max_age_seconds: float | None = None
    max_future_seconds: float | None = None
    max_concurrency: int = 16
    overflow: Overflow = "Wait"
    version: ApiVersion | None = None
