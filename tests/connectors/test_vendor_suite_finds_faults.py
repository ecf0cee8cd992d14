"""The conformance suite of vendors finds each kind of fault that it is for: Klaviyo's connector with one fault."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.connectors.contract import (
    DELIVERED,
    Attempt,
    BatchLimits,
    EncodedEvent,
    HttpRequest,
    OutgoingEvent,
    SendResult,
    succeeded,
)
from headwater.connectors.klaviyo.events import KlaviyoSink
from headwater.connectors.registry import CONNECTORS
from headwater.delivery import sender
from tests.connectors.klaviyo.test_vendor import TestEvents as Suite
from tests.connectors.vendors.server import Plan, VendorServer

PAIRS = BatchLimits(max_events=2)
FAULTY = Plan(seed=1, throttled=0.1, failed=0.1, lost_before=0.1, lost_after=0.2, refused=0.05, max_faults=30)


class ReportsSuccess(KlaviyoSink):
    """Takes a refused request for a success."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return result if result.failure is not None else succeeded([DELIVERED] * len(events), result.status)


class Forgets(KlaviyoSink):
    """Sends all events of a request but the last."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return super().request(events[:-1] or events, attempt)


class IgnoresRates(KlaviyoSink):
    policy = msgspec.structs.replace(KlaviyoSink.policy, rates=(), limits=PAIRS)


class HasAnotherKeyEachTime(KlaviyoSink):
    """Lets the vendor take a repetition for another event."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        body = request.body.replace(b'"unique_id":"', b'"unique_id":"%d-' % attempt.number)
        return msgspec.structs.replace(request, body=body)


class SendsPlaceholders(KlaviyoSink):
    """Gives all events an empty identifier, which the vendor does not accept."""

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return msgspec.structs.replace(encoded, body=encoded.body.replace(b'"email":"', b'"_kx":"","email":"', 1))


class IgnoresOrder(KlaviyoSink):
    """Sends the last event of a request first."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return super().request(events[::-1], attempt)


@pytest.mark.parametrize(
    "faulty", [ReportsSuccess, Forgets, IgnoresRates, HasAnotherKeyEachTime, SendsPlaceholders, IgnoresOrder]
)
def test_a_fault_is_found(faulty: Callable[..., KlaviyoSink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = CONNECTORS["klaviyo"]
    engine = msgspec.structs.replace(connector.engine, event_sink=faulty)
    changed = msgspec.structs.replace(connector, engine=engine)
    monkeypatch.setattr(sender, "CONNECTORS", {**CONNECTORS, "klaviyo": changed})
    suite = Suite()

    async def main(installation: Any, server: VendorServer) -> None:
        await suite.send_events(installation, server)
        await suite.verify(installation, server)

    with pytest.raises((AssertionError, KeyError)):
        suite.run(monkeypatch, tmp_path, FAULTY, main)
