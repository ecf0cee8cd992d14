"""Sends one batch through its connector, whose exceptions become results."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

import structlog

from headwater.base.clock import Clock
from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    Attempt,
    EncodedEvent,
    EventSink,
    Failure,
    FailureScope,
    Outcome,
    SendResult,
    failed,
)
from headwater.delivery.items import failure_text
from headwater.delivery.lane import Batch
from headwater.state.deliveries.records import AttemptOutcome

MAX_SEND_SECONDS: Final = 90.0
"""Time limit of one request, in addition to those of the HTTP client."""

_log = structlog.get_logger(__name__)


async def send_batch(sink: EventSink, batch: Batch, clock: Clock, destination: int) -> SendResult:
    """Send a batch. An exception of the connector belongs to the batch, and in the end to one event."""
    events: Sequence[EncodedEvent] = [item.encoded for item in batch.items]
    attempt = Attempt(key=batch.key, number=batch.attempt, at=clock.now())
    try:
        async with asyncio.timeout(MAX_SEND_SECONDS):
            result = await sink.send(sink.request(events, attempt), events)
    except Unavailable as error:
        return failed(len(events), Failure(scope=FailureScope.DESTINATION, reason="NotReady", message=error.message))
    except TimeoutError:
        failure = Failure(scope=FailureScope.DESTINATION, reason="TimedOut", message="the request took too long")
        return failed(len(events), failure)
    except Exception as error:
        _log.exception("internal error of a connector", destination=destination)
        name = type(error).__name__
        failure = Failure(scope=FailureScope.BATCH, reason="InternalError", message=f"internal error ({name})")
        return failed(len(events), failure)
    if len(result.items) != len(events):
        _log.error("a connector returned a wrong number of results", destination=destination)
        failure = Failure(
            scope=FailureScope.BATCH, reason="InternalError", message="the connector returned too few results"
        )
        return failed(len(events), failure, result.status)
    return result


def batch_outcomes(batch: Batch, result: SendResult, dead: Collection[int]) -> list[tuple[int, AttemptOutcome, str]]:
    """Return the number, the outcome and the message of each item; `dead` are the numbers that were given up."""
    failure = "" if result.failure is None else failure_text(result.failure.reason, result.failure.message)
    return [
        (
            item.number,
            "Delivered" if each.outcome is Outcome.DELIVERED else "Dead" if item.number in dead else "Retried",
            failure_text(each.reason, each.message) or failure,
        )
        for item, each in zip(batch.items, result.items, strict=True)
    ]
