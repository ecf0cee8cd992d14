"""Lanes and items for tests."""

from collections.abc import Sequence
from random import Random
from typing import Any

from headwater.connectors.contract import (
    DELIVERED,
    BatchLimits,
    EncodedEvent,
    Failure,
    FailureScope,
    ItemResult,
    RateLimit,
    SendResult,
    SinkPolicy,
    failed,
    succeeded,
)
from headwater.delivery.items import HEALTHY, Completion, Health, LaneItem, LaneLimits
from headwater.delivery.lane import Batch, Lane
from headwater.delivery.rates import AccountRates

NOW = 1_000_000.0
UNAVAILABLE = Failure(scope=FailureScope.DESTINATION, reason="Status503", message="maintenance")
INVALID = Failure(scope=FailureScope.BATCH, reason="Status400", message="invalid")
UNAUTHORIZED = Failure(scope=FailureScope.CREDENTIALS, reason="Status401")
GONE = Failure(scope=FailureScope.CLOSED, reason="Status410", message="gone")


def make_item(
    number: int, *keys: int, route: str = "", user: str = "", size: int = 10, count: int = 1, enqueued_at: float = 0.0
) -> LaneItem:
    """Return an item. One that was enqueued at 0 does not linger."""
    return LaneItem(
        number=number,
        pipeline=7,
        key=f"key{number}",
        order_keys=keys,
        enqueued_at=enqueued_at,
        encoded=EncodedEvent(id=str(number), body=bytes(size), route=route, user=user, count=count),
    )


def make_policy(max_events: int = 10, *, max_bytes: int | None = None, **fields: Any) -> SinkPolicy:
    fields.setdefault("scope", "Any")
    return SinkPolicy(limits=BatchLimits(max_events=max_events, max_bytes=max_bytes), **fields)


def make_lane(
    policy: SinkPolicy | None = None,
    *,
    health: Health = HEALTHY,
    rates: Sequence[RateLimit] = (),
    account: AccountRates | None = None,
    **limits: Any,
) -> Lane:
    limits.setdefault("expiry_seconds", 10 * NOW)
    return Lane(
        policy or make_policy(),
        limits=LaneLimits(**limits),
        random=Random(1),
        rates=(account or AccountRates()).rates(rates),
        health=health,
    )


def take(lane: Lane, now: float = NOW) -> list[Batch]:
    """Return all batches that can be sent now."""
    batches = []
    while (batch := lane.next_batch(now)) is not None:
        batches.append(batch)
    return batches


def take_one(lane: Lane, now: float = NOW) -> Batch:
    (batch,) = take(lane, now)
    return batch


def numbers(batch: Batch) -> list[int]:
    return [item.number for item in batch.items]


def deliver(lane: Lane, batch: Batch, now: float = NOW) -> Completion:
    return respond(lane, batch, *[DELIVERED] * len(batch.items), now=now)


def respond(lane: Lane, batch: Batch, *results: ItemResult, now: float = NOW) -> Completion:
    return lane.complete(batch, succeeded(results, 200), now)


def fail(lane: Lane, batch: Batch, failure: Failure, now: float = NOW, status: int | None = 500) -> Completion:
    return lane.complete(batch, failed(len(batch.items), failure, status), now)


def invalid_result() -> SendResult:
    return succeeded([], 200)
