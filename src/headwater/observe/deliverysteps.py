"""Combines the steps of a message, as the worker stores them, with what became of its deliveries. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from headwater.base.steps import ProcessingStep, StepOutcome
from headwater.state import Step
from headwater.state.deliveries import LaneHealth, TracedDelivery
from headwater.state.deliveries.records import AttemptOutcome, AttemptRecord

TraceOutcome = StepOutcome | Literal["Retrying", "Unknown"]
"""Retrying: the event waits for a destination that fails. Unknown: the delivery has ended, and its outcome is not
stored any more."""
RequestOutcome = Literal["Passed", "Retrying", "Failed"]

UNKNOWN: Final = "the delivery has ended, and its attempts are not stored"
DELETED: Final = "the pipeline was deleted"
DISABLED: Final = "the pipeline is disabled: the event waits until it is enabled"
DROPPED: Final = "the queue was full: the event was deleted from it, unless it had been delivered before"


class TracedAttempt(Struct, frozen=True):
    """One request with the event."""

    number: int
    at: int
    """Time at which it was sent, in microseconds since the epoch."""
    outcome: RequestOutcome
    status: int
    """The HTTP status; 0 if there was no response."""
    milliseconds: int
    message: str
    """The reason of a failure, for people."""


class TracedStep(Struct, frozen=True, kw_only=True):
    """The last step of a message in one pipeline, or of one delivery of it."""

    pipeline: int
    connection: int
    step: ProcessingStep
    outcome: TraceOutcome
    at: int
    """Time of the step, in microseconds since the epoch. For a delivery that waits, the time since which it does."""
    reason: str = ""
    """The reason of a dead letter, a short code."""
    message: str = ""
    attempt_count: int = 0
    """Number of attempts to deliver it; 0 if that is not known."""
    attempts: tuple[TracedAttempt, ...] = ()
    """The attempts that are stored."""
    next_attempt_at: int = 0
    """Time of the destination's next attempt; 0 if none is planned."""
    operation: int | None = None
    """The operation that sent the event again; None for the first delivery."""


def is_for_destination(step: Step, source: int) -> bool:
    """Return whether a step is that of an event that was queued for a destination."""
    return step.outcome == "Pending" and step.connection != source


def combine(
    source: int,
    steps: Sequence[Step],
    processed_at: int,
    deliveries: Iterable[TracedDelivery],
    *,
    health: Mapping[int, LaneHealth],
    enabled: Mapping[int, bool],
) -> tuple[TracedStep, ...]:
    """Return the steps of a message with its deliveries.

    The step of an event that was queued is replaced by its deliveries, of which re-sends and replays are further ones.
    `health` is that of destinations, and `enabled` tells for each pipeline that exists whether it is enabled.
    """
    deliveries_of: defaultdict[int, list[TracedDelivery]] = defaultdict(list)
    for each in deliveries:
        deliveries_of[each.pipeline].append(each)
    found: list[TracedStep] = []
    for step in steps:
        mine = deliveries_of.pop(step.pipeline, [])
        was_queued = is_for_destination(step, source)
        if not was_queued or any(not each.origin and each.state != "Dropped" for each in mine):
            mine = _without_dropped(mine)
        if not was_queued:
            found.append(_stored(step, processed_at))
        elif not mine:
            found.append(_unknown(step, processed_at, enabled))
        found += (_delivery(each, health, enabled) for each in mine)
    for others in deliveries_of.values():
        found += (_delivery(each, health, enabled) for each in _without_dropped(others))
    return tuple(found)


def _without_dropped(deliveries: Sequence[TracedDelivery]) -> list[TracedDelivery]:
    """Return the deliveries without ranges that were dropped: they may have been without this event."""
    return [each for each in deliveries if each.state != "Dropped"]


def _stored(step: Step, at: int) -> TracedStep:
    return TracedStep(
        pipeline=step.pipeline,
        connection=step.connection,
        step=step.step,
        outcome=step.outcome,
        at=at,
        message=step.message,
    )


def _unknown(step: Step, at: int, enabled: Mapping[int, bool]) -> TracedStep:
    return TracedStep(
        pipeline=step.pipeline,
        connection=step.connection,
        step=step.step,
        outcome="Unknown",
        at=at,
        message=UNKNOWN if step.pipeline in enabled else DELETED,
    )


_ENDS: Final[Mapping[str, TraceOutcome]] = {
    "Delivered": "Passed",
    "Dead": "Failed",
    "Dropped": "Failed",
    "Ended": "Unknown",
}


def _delivery(each: TracedDelivery, health: Mapping[int, LaneHealth], enabled: Mapping[int, bool]) -> TracedStep:
    if each.state == "Queued":
        return _waiting(each, health.get(each.destination), enabled.get(each.pipeline))
    messages = {"Dropped": DROPPED, "Ended": UNKNOWN, "Delivered": ""}
    return TracedStep(
        pipeline=each.pipeline,
        connection=each.destination,
        step=each.step,
        outcome=_ENDS[each.state],
        at=each.ended_at or each.enqueued_at,
        reason=each.reason,
        message=messages.get(each.state, each.message),
        attempt_count=max(each.attempt_count, len(each.attempts)),
        attempts=tuple(map(_attempt, each.attempts)),
        operation=_operation(each.origin),
    )


def _waiting(each: TracedDelivery, health: LaneHealth | None, is_enabled: bool | None) -> TracedStep:
    fails = health is not None and bool(health.failing_since) and is_enabled is True
    message = {None: DELETED, False: DISABLED, True: ""}[is_enabled]
    return TracedStep(
        pipeline=each.pipeline,
        connection=each.destination,
        step="Finalize",
        outcome="Retrying" if fails else "Pending",
        at=each.enqueued_at,
        message=health.last_error if fails and health is not None else message,
        next_attempt_at=health.paused_until if fails and health is not None else 0,
        operation=_operation(each.origin),
    )


_REQUEST_OUTCOMES: Final[Mapping[AttemptOutcome, RequestOutcome]] = {
    "Delivered": "Passed",
    "Retried": "Retrying",
    "Dead": "Failed",
}


def _attempt(record: AttemptRecord) -> TracedAttempt:
    return TracedAttempt(
        record.number,
        record.at,
        _REQUEST_OUTCOMES[record.outcome],
        record.status,
        record.milliseconds,
        record.message,
    )


def _operation(origin: str) -> int | None:
    """Return the id of the operation with this key, which may be that of one of its parts, such as "7/ranges"."""
    id_ = origin.partition("/")[0]
    return int(id_) if id_.isdecimal() else None


def find_destinations(steps: Iterable[Step], source: int) -> Iterator[int]:
    """Yield the destinations for which an event was queued."""
    return (step.connection for step in steps if is_for_destination(step, source))
