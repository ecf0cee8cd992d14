"""Destinations: healthy, slow, failing, lying and resetting ones, which record every arrival."""

from random import Random
from typing import Final
from zlib import crc32

import msgspec

from headwater.connectors.contract import (
    DELIVERED,
    UNEXPECTED_RESPONSE,
    EncodedEvent,
    Failure,
    FailureScope,
    ItemResult,
    SendResult,
    failed,
    rejected,
    retry,
    succeeded,
)
from tests.delivery.simulation.plan import DestinationPlan, Fault

DEADLINE_SECONDS: Final = 30.0
"""Time after which the courier gives a request up."""
MAX_REQUEST_BYTES: Final = 1_500
"""Limit of the destination that takes no large requests. Each single event is smaller."""

UNAVAILABLE: Final = Failure(scope=FailureScope.DESTINATION, reason="Status503", message="down for maintenance")
RESET: Final = Failure(scope=FailureScope.DESTINATION, reason="Reset", message="the connection was reset")
REFUSED: Final = Failure(
    scope=FailureScope.DESTINATION, reason="Connect", message="connection refused", may_have_arrived=False
)
TIMEOUT: Final = Failure(scope=FailureScope.DESTINATION, reason="Timeout", message="no response within 30 s")
INVALID: Final = Failure(scope=FailureScope.BATCH, reason="Status400", message="the body is invalid")
TOO_LARGE: Final = Failure(scope=FailureScope.BATCH, reason="Status413", message="too large", is_too_large=True)


class Reply(msgspec.Struct, frozen=True):
    """The reaction to a request: the events that are taken, and the result after some seconds."""

    taken: tuple[EncodedEvent, ...]
    result: SendResult
    seconds: float


class Receiver:
    """One destination."""

    def __init__(self, plan: DestinationPlan, outages: tuple[Fault, ...], random: Random) -> None:
        self._plan = plan
        self._outages = outages
        self._random = random
        self._retries: dict[str, int] = {}
        """Requests so far of the items that are accepted only later."""
        self.is_quiet = False
        self.is_authorized_since = -1.0

    def reply(self, events: tuple[EncodedEvent, ...], now: float) -> Reply:
        """Return the reaction to a request."""
        seconds = self._random.expovariate(1 / 0.05)
        for outage in self._outages:
            if outage.at <= now < outage.at + outage.seconds and self._is_affected(outage):
                return self._fail(events, outage, seconds)
        behaviour = self._plan.behaviour
        if behaviour == "Poison" and any(crc32(event.id.encode()) % 11 == 0 for event in events):
            return Reply((), failed(len(events), INVALID, 400), seconds)
        if behaviour == "Large" and sum(len(event.body) for event in events) > MAX_REQUEST_BYTES:
            return Reply((), failed(len(events), TOO_LARGE, 413), seconds)
        if behaviour == "Items":
            results = tuple([self._item(event) for event in events])
            taken = tuple([event for event, each in zip(events, results, strict=True) if each is DELIVERED])
            return Reply(taken, succeeded(results, 207), seconds)
        if not self.is_quiet and self._random.random() < self._plan.share:
            return self._misbehave(events, seconds)
        return _accept(events, seconds)

    def _is_affected(self, outage: Fault) -> bool:
        return not self.is_quiet and (outage.outage != "Credentials" or self.is_authorized_since < outage.at)

    def _misbehave(self, events: tuple[EncodedEvent, ...], seconds: float) -> Reply:
        count = len(events)
        match self._plan.behaviour:
            case "Slow":
                return _accept(events, min(self._random.lognormvariate(0.5, 1), DEADLINE_SECONDS - 0.1))
            case "Flaky":
                return Reply((), failed(count, UNAVAILABLE, 503), seconds)
            case "Throttling":
                wait = self._random.choice([None, 0.0, 0.3, 5.0, 61.0])
                return Reply((), failed(count, _with_wait(UNAVAILABLE, wait), 429), seconds)
            case "Ambiguous":
                return Reply(events, failed(count, TIMEOUT), DEADLINE_SECONDS)
            case "Half":
                return Reply(events[: count // 2], failed(count, RESET), seconds)
            case "Garbage":
                return Reply(events, succeeded([retry(UNEXPECTED_RESPONSE)] * count, 200), seconds)
            case "Hanging":
                return Reply((), failed(count, TIMEOUT), DEADLINE_SECONDS)
            case _:
                return _accept(events, seconds)

    def _item(self, event: EncodedEvent) -> ItemResult:
        fate = crc32(event.id.encode()) % 10
        if fate == 0:
            return rejected("InvalidEmail", "not an address")
        if fate < 4:
            tries = self._retries[event.id] = self._retries.get(event.id, 0) + 1
            if tries <= fate:
                return retry("Throttled", "slow down", (None, 0.0, 3.0, 40.0)[fate])
        return DELIVERED

    def _fail(self, events: tuple[EncodedEvent, ...], outage: Fault, seconds: float) -> Reply:
        count, wait = len(events), outage.retry_after
        match outage.outage:
            case "Connect":
                return Reply((), failed(count, _with_wait(REFUSED, wait)), 0.001)
            case "Timeout":
                return Reply((), failed(count, TIMEOUT), DEADLINE_SECONDS)
            case "Unavailable":
                return Reply((), failed(count, _with_wait(UNAVAILABLE, wait), 503), seconds)
            case "TooMany":
                return Reply((), failed(count, _with_wait(UNAVAILABLE, wait), 429), seconds)
            case "Credentials":
                failure = Failure(scope=FailureScope.CREDENTIALS, reason="Status401", message="the token has expired")
                return Reply((), failed(count, failure, 401), seconds)
            case "Closed":
                failure = Failure(scope=FailureScope.CLOSED, reason="Status410", message="gone")
                return Reply((), failed(count, failure, 410), seconds)


def _accept(events: tuple[EncodedEvent, ...], seconds: float) -> Reply:
    return Reply(events, succeeded([DELIVERED] * len(events), 200), seconds)


def _with_wait(failure: Failure, wait: float | None) -> Failure:
    return failure if wait is None else msgspec.structs.replace(failure, retry_after_seconds=wait)
