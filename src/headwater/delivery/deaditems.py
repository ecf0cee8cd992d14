"""The items of a lane that are given up, with their reasons."""

from headwater.connectors.contract import UNEXPECTED_RESPONSE, ItemResult
from headwater.delivery.batching import Batch
from headwater.delivery.items import EVENT_TOO_OLD, EXPIRED, OUTDATED_MESSAGE, Dead, Health
from headwater.delivery.ordering import Entry


def dead_item(entry: Entry, batch: Batch, reason: str, message: str, status: int | None) -> Dead:
    """Return an item of a batch that was rejected."""
    return Dead(
        number=entry.number,
        pipeline=entry.pipeline,
        reason=reason,
        message=message,
        status=status,
        attempts=entry.attempts + batch.attempt,
    )


def outdated(entry: Entry, batch: Batch) -> Dead:
    """Return an item of a batch that the destination takes no longer, because of the time of its event."""
    return dead_item(entry, batch, EVENT_TOO_OLD, OUTDATED_MESSAGE, None)


def expired(entry: Entry, health: Health) -> Dead:
    """Return an item that was not delivered in time, with its last response, or that of the destination."""
    last = entry.last
    return Dead(
        number=entry.number,
        pipeline=entry.pipeline,
        reason=EXPIRED,
        message=_cause(health.reason, health.message) if last is None else _cause(last.reason, last.message),
        status=health.status if last is None else None,
        attempts=entry.attempts,
    )


def is_unexpected_again(entry: Entry, result: ItemResult) -> bool:
    """Return whether the response did not account for the item, for the second time in a row."""
    return result.reason == UNEXPECTED_RESPONSE and entry.last is not None and entry.last.reason == result.reason


def _cause(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason
