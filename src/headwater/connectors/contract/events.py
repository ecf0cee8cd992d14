"""Sending events: `EventSink`.

| method | result |
| --- | --- |
| `encode(event)` | one event in the destination's form: checked, and with a known size |
| `request(events, attempt)` | the request for some encoded events; it is not sent, so that it can be previewed |
| `send(request, events)` | one exchange, and the outcome of each event |

The caller encodes each event once, forms batches by the sink's policy, and keeps a batch unchanged over all attempts.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from headwater.base.errors import Unprocessable
from headwater.connectors.contract.policy import SinkPolicy
from headwater.connectors.contract.results import SendResult
from headwater.connectors.contract.transport import HttpRequest
from headwater.schemas import Record, Schema

CallType = Literal["track", "identify", "page", "screen", "group", "alias"]


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of event that can be sent to an application.

    `filter` is the recommended filter as text; empty if every event is suitable. `schema` is the schema of the values
    that a pipeline gives to each event; None if it takes none.
    """

    id: str
    name: str
    description: str
    filter: str
    schema: Schema | None


class OutgoingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to a destination.

    `key` is its idempotency key: 32 lower-case hexadecimal digits, the same for every attempt, restart and re-send,
    and different for each pipeline. `event_type` is the id of an `EventType`, and `values` conform to its schema: those
    with `create_required` are present, others may be missing. They are empty if it has no schema. `document` is the
    whole event as canonical JSON. `user_id` and `anonymous_id` are empty if the event has none. Times are in UTC.
    """

    key: str
    message_id: str
    source: int
    type: CallType
    event_type: str
    timestamp: datetime
    received_at: datetime
    document: bytes
    values: Record = {}
    user_id: str = ""
    anonymous_id: str = ""


class EncodedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event in the destination's form.

    `body` is its share of a request body; its length counts for the limits. `id` is the identifier by which the
    destination's responses name it. Events of different `route`s are never in one request: they go to different
    endpoints, or need different flags. `user` is the same for events of one user; empty for events without one.
    `count` is the number of the destination's items that `body` has, such as one for each product of an order; limits
    of events count these.
    """

    id: str
    body: bytes
    route: str = ""
    user: str = ""
    count: int = 1


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to send a batch.

    `key` identifies the batch, in the form of event keys: it is the same for all attempts. `number` counts from 1.
    `at` is the time of this attempt.
    """

    key: str
    number: int
    at: datetime


class EventRejected(Unprocessable):
    """The event can never be sent. `reason` is a short code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__("InvalidEvent", message)
        self.reason = reason


class EventSink(Protocol):
    """A destination of events."""

    @property
    def policy(self) -> SinkPolicy:
        """The limits that the caller must respect."""
        ...

    async def event_types(self) -> Sequence[EventType]:
        """Return the event types in the order of display. Raises Unavailable."""
        ...

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        """Return the event in the destination's form: equal events give equal bytes.

        Computes only. Raises EventRejected if the destination could never take the event, such as without an identity.
        """
        ...

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        """Return the request for events of one route, at least one and within the limits.

        Computes only. Attempts of one batch differ only by the time of the attempt and by what is signed with it.
        Raises Unavailable if the settings allow no sending.
        """
        ...

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        """Send a request that `request` has made of `events`, once, and return the outcome of each event.

        Failures of the destination and the network are results. Raises nothing: any exception is a bug.
        """
        ...
