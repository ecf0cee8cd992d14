"""The values that a lane takes and returns.

Times are seconds since 1970 on the caller's clock. That clock never goes back: the caller reads the wall clock once, at
its start, and adds the time of a monotonic clock.
"""

import math
from enum import StrEnum
from typing import Final

import msgspec

from headwater.connectors.contract import EncodedEvent, SinkPolicy

DEFAULT_EXPIRY_SECONDS: Final = 86_400.0
DEFAULT_LINGER_SECONDS: Final = 0.020
DEFAULT_COLD_SECONDS: Final = 5.0
MIN_WINDOW_ITEMS: Final = 1_000
MAX_WINDOW_ITEMS: Final = 10_000
MAX_WINDOW_BYTES: Final = 4 << 20
MAX_COLD_ITEMS: Final = 100_000

MAX_MESSAGE_CHARACTERS: Final = 500
"""Maximum length of the message of a failure that is stored."""

EXPIRED: Final = "Expired"
"""The reason of an item that was not delivered within the delivery window."""

EVENT_TOO_OLD: Final = "EventTooOld"
"""The reason of an item whose event is older than the destination accepts."""
OUTDATED_MESSAGE: Final = "the event became older than the destination accepts while it waited to be sent"


class LaneItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One delivery: an event for one pipeline of the destination, ready to be sent.

    `number` is its place in the queue: items of one destination have ascending numbers. `key` is its idempotency key.
    `order_keys` are one to three 64-bit hashes of the users that the event is about; items that share one are sent in
    their order. An item without any waits for no other. `enqueued_at` is the time at which it entered the queue, and
    `accepted_until` the last one at which the destination takes an event of this age.
    """

    number: int
    pipeline: int
    key: str
    order_keys: tuple[int, ...]
    enqueued_at: float
    encoded: EncodedEvent
    accepted_until: float = math.inf


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was given up, with the reason, and the response if one came.

    `attempts` counts the requests that contained the item. `status` is that of the last response.
    """

    number: int
    pipeline: int
    reason: str
    message: str = ""
    status: int | None = None
    attempts: int = 0


class Completion(msgspec.Struct, frozen=True, gc=False):
    """The items that a request has finished. Others of its batch stay in the lane."""

    delivered: tuple[LaneItem, ...] = ()
    dead: tuple[Dead, ...] = ()


class HealthState(StrEnum):
    """The state of a destination."""

    CLOSED = "Closed"
    """Requests are sent; after a single failure they pause."""
    OPEN = "Open"
    """Too many requests failed. No request is sent until the pause ends."""
    HALF_OPEN = "HalfOpen"
    """The pause has ended, and one request is under way as a probe."""
    REFUSING = "Refusing"
    """The endpoint is gone or forbidden. It is probed once an hour until a user changes the connection."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The health of a destination, which the caller stores so that a restart keeps its pauses.

    `failures` counts the failed requests since the last success. `failing_since` and `paused_until` are None if it does
    not fail or pause. `reason`, `message` and `status` are of the last failure.
    """

    state: HealthState = HealthState.CLOSED
    failures: int = 0
    failing_since: float | None = None
    paused_until: float | None = None
    reason: str = ""
    message: str = ""
    status: int | None = None


HEALTHY: Final = Health()


class LaneLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a lane.

    `max_items` and `max_bytes` are of the items whose documents are in memory; the last offer can exceed them. Of cold
    items only numbers and keys are in memory: an item that waits for others or for longer than `cold_seconds` becomes
    cold. An item expires `expiry_seconds` after it was enqueued. A batch that is not full waits up to `linger_seconds`
    for more items.
    """

    max_items: int = MIN_WINDOW_ITEMS
    max_bytes: int = MAX_WINDOW_BYTES
    max_cold_items: int = MAX_COLD_ITEMS
    cold_seconds: float = DEFAULT_COLD_SECONDS
    expiry_seconds: float = DEFAULT_EXPIRY_SECONDS
    linger_seconds: float = DEFAULT_LINGER_SECONDS

    @classmethod
    def of(cls, policy: SinkPolicy, *, expiry_seconds: float = DEFAULT_EXPIRY_SECONDS) -> "LaneLimits":
        """Return limits that keep all requests of the policy full: two batches for each."""
        wanted = 2 * policy.limits.max_events * policy.max_concurrency
        return cls(max_items=min(max(wanted, MIN_WINDOW_ITEMS), MAX_WINDOW_ITEMS), expiry_seconds=expiry_seconds)


class LaneFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a lane as figures, for metrics.

    `items` and `bytes` are in memory, `cold` items are not. `delayed` items wait for a time of their own. `batches` are
    in flight or kept for another attempt.
    """

    items: int
    bytes: int
    cold: int
    delayed: int
    in_flight: int
    batches: int
    concurrency: int


def failure_text(reason: str, message: str) -> str:
    """Return a reason and its message as one text, of at most `MAX_MESSAGE_CHARACTERS`."""
    return (f"{reason}: {message}" if message else reason)[:MAX_MESSAGE_CHARACTERS]
