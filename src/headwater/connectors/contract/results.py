"""The result of sending: one outcome per item, and the failure if the request failed as a whole.

An item has exactly one of four outcomes. Two are not enough: a vendor may accept one item of a request, reject a
second, and throttle the user of a third. The number of results is always the number of items that were sent, in their
order.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

MAX_MESSAGE_CHARACTERS: Final = 1_000

UNEXPECTED_RESPONSE: Final = "UnexpectedResponse"
"""The reason of an item for which the response does not account. It is retried once."""


class Outcome(StrEnum):
    """The outcome of one item."""

    DELIVERED = "Delivered"
    REJECTED = "Rejected"
    """The destination will never accept it in this form."""
    RETRY = "Retry"
    """Only this item can be sent again later: its user is throttled, or its row is locked."""
    NOT_ATTEMPTED = "NotAttempted"
    """The request failed as a whole, so the outcome of the item is unknown."""


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one item.

    `reason` is a short code, the same for equal causes ("InvalidEmail"), and `message` is the destination's text, at
    most `MAX_MESSAGE_CHARACTERS`: both are empty for a delivered item. `retry_after_seconds` is only for `RETRY`; None
    means the caller's own back-off, and 0 means that only another item prevented this one: it is sent again without a
    wait, if another item of the request is finished or has a time to wait for. `id` is the destination's identifier of
    a written user, or empty.
    """

    outcome: Outcome
    reason: str = ""
    message: str = ""
    retry_after_seconds: float | None = None
    id: str = ""


DELIVERED: Final = ItemResult(outcome=Outcome.DELIVERED)
NOT_ATTEMPTED: Final = ItemResult(outcome=Outcome.NOT_ATTEMPTED)


def rejected(reason: str, message: str = "") -> ItemResult:
    return ItemResult(outcome=Outcome.REJECTED, reason=reason, message=message[:MAX_MESSAGE_CHARACTERS])


def retry(reason: str, message: str = "", after_seconds: float | None = None) -> ItemResult:
    return ItemResult(
        outcome=Outcome.RETRY,
        reason=reason,
        message=message[:MAX_MESSAGE_CHARACTERS],
        retry_after_seconds=after_seconds,
    )


class FailureScope(StrEnum):
    """The scope of a failure. It decides the caller's reaction."""

    BATCH = "Batch"
    """The content of the request, without a named item: halve the batch. A single item is rejected."""
    DESTINATION = "Destination"
    """The destination is overloaded or unavailable: retry the same request later, and send nothing else until then."""
    CREDENTIALS = "Credentials"
    """The credentials are not accepted: refresh them once, then pause the destination."""
    CLOSED = "Closed"
    """The endpoint is gone, its address is forbidden, or a user must authorize again: stop sending until a user
    changes the connection."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The cause of a request that failed as a whole.

    `retry_after_seconds` is the minimum wait that the destination requested. `is_too_large` means that the request has
    too many bytes: the caller lowers its limit. `may_have_arrived` is False only if the destination has not seen it.
    """

    scope: FailureScope
    reason: str
    message: str = ""
    retry_after_seconds: float | None = None
    is_too_large: bool = False
    may_have_arrived: bool = True


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one request.

    `items` has one result for each item sent, in their order. With a `failure` all of them are `NOT_ATTEMPTED`.
    `status` is the status of the response; None if there was none. `pause_seconds` is set if the request succeeded and
    the destination announced that its limit is used up.
    """

    items: tuple[ItemResult, ...]
    failure: Failure | None = None
    status: int | None = None
    pause_seconds: float | None = None


def failed(count: int, failure: Failure, status: int | None = None) -> SendResult:
    """Return the result of a request with `count` items that failed as a whole."""
    return SendResult(items=(NOT_ATTEMPTED,) * count, failure=failure, status=status)


def succeeded(items: Sequence[ItemResult], status: int | None = None, pause_seconds: float | None = None) -> SendResult:
    return SendResult(items=tuple(items), status=status, pause_seconds=pause_seconds)
