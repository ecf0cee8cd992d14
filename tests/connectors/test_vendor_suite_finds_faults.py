"""The conformance suite of vendors finds each kind of fault that it is for: connectors with one fault."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from headwater.connectors.amplitude.events import AmplitudeSink
from headwater.connectors.braze.events import BrazeSink
from headwater.connectors.contract import (
    DELIVERED,
    Attempt,
    BatchLimits,
    EncodedEvent,
    EventSink,
    HttpRequest,
    Outcome,
    OutgoingEvent,
    SendResult,
    rejected,
    succeeded,
)
from headwater.connectors.customerio.events import CustomerIoSink
from headwater.connectors.hubspot.events import HubSpotSink
from headwater.connectors.klaviyo.events import KlaviyoSink
from headwater.connectors.mixpanel.events import MixpanelSink
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.responses import NOT_TAKEN
from headwater.connectors.slack.events import SlackSink
from headwater.delivery import sender
from tests.connectors.amplitude.test_vendor import TestEvents as Amplitude
from tests.connectors.braze.test_vendor import TestEvents as Braze
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.customerio.test_vendor import TestEvents as CustomerIo
from tests.connectors.hubspot.test_vendor import TestEvents as HubSpot
from tests.connectors.klaviyo.test_vendor import TestEvents as Klaviyo
from tests.connectors.mixpanel.test_vendor import TestEvents as Mixpanel
from tests.connectors.slack.test_vendor import TestEvents as Slack
from tests.connectors.vendors.server import Plan, VendorServer

PAIRS = BatchLimits(max_events=2)
FAULTY: Final = Plan(throttled=0.1, failed=0.1, lost_before=0.1, lost_after=0.2, refused=0.05, max_faults=30)
PLANS: Final = (Plan(refused=0.3), *[replace(FAULTY, seed=seed) for seed in (1, 2, 3)])
"""Plans to try. Sockets are real, so the requests that meet a fault differ from run to run."""


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
    policy = replace(KlaviyoSink.policy, rates=(), limits=PAIRS)


class HasAnotherKeyEachTime(KlaviyoSink):
    """Lets the vendor take a repetition for another event."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        body = request.body.replace(b'"unique_id":"', b'"unique_id":"%d-' % attempt.number)
        return replace(request, body=body)


class SendsPlaceholders(KlaviyoSink):
    """Gives all events an empty identifier, which the vendor does not accept."""

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=encoded.body.replace(b'"email":"', b'"_kx":"","email":"', 1))


class IgnoresOrder(KlaviyoSink):
    """Sends the last event of a request first."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return super().request(events[::-1], attempt)


class TakesPartsForSuccess(CustomerIoSink):
    """Takes a partial success for the success of all events."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return succeeded([DELIVERED] * len(events), 200) if result.status == 207 else result


class HasAnotherUlidEachTime(CustomerIoSink):
    """Lets the vendor take a repetition for another event."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        return replace(request, body=request.body.replace(b'"id":"0', b'"id":"%d' % min(attempt.number, 7)))


class SendsPartsAgain(BrazeSink):
    """Sends all events of a request again for one that is refused, although the vendor has the others."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        items = [NOT_TAKEN if each.outcome is Outcome.DELIVERED else each for each in result.items]
        return replace(result, items=tuple(items)) if items.count(NOT_TAKEN) < len(items) else result


class MixesItems(BrazeSink):
    """Gives the results of a request in another order."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return replace(result, items=result.items[::-1])


class OverfillsRequests(BrazeSink):
    """Sends an object more than Braze takes."""

    policy = replace(BrazeSink.policy, limits=replace(BrazeSink.policy.limits, max_events=76))


class HasAnotherMediaType(BrazeSink):
    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        return replace(request, headers={**request.headers, "content-type": "text/plain"})


class DoesNotWait(AmplitudeSink):
    """Sends events of throttled users again immediately."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        items = [
            replace(each, retry_after_seconds=0.1) if each.reason == "ThrottledUser" else each for each in result.items
        ]
        return replace(result, items=tuple(items))


class TakesOthersForDelivered(AmplitudeSink):
    """Takes the other events of a refused request for delivered, of which Amplitude has taken none."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return replace(result, items=tuple(DELIVERED if each == NOT_TAKEN else each for each in result.items))


class MixesResults(MixpanelSink):
    """Takes the results of records in the opposite order."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return replace(result, items=result.items[::-1])


class TakesAllOrNothing(MixpanelSink):
    """Takes a partial success for a rejection of all events."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        if result.status != 400:
            return result
        return replace(result, items=(rejected("Invalid", "refused"),) * len(events))


class ChangesTimes(MixpanelSink):
    """Sends another time with each attempt, by which Mixpanel takes a repetition for another event."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        return replace(request, body=request.body.replace(b'"time":1', b'"time":1%d' % attempt.number))


class CountsTooFew(SlackSink):
    """Leaves out an event of each summary."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return super().request(events if len(events) < 3 else events[1:], attempt)


class SendsMentions(SlackSink):
    """Sends what users have typed as control characters, which notify a channel."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        return replace(request, body=request.body.replace(b"&lt;!", b"<!"))


class SendsTooOften(SlackSink):
    policy = replace(SlackSink.policy, rates=(), max_concurrency=1)


class TakesRefusalsForSuccess(SlackSink):
    """Takes a message for delivered that Slack rejects."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return succeeded([DELIVERED] * len(events), 200) if result.status == 400 else result


class DropsSummaries(SlackSink):
    """Rejects a summary for an error of the server, which can be sent again."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        if result.status is None or result.status < 500:
            return result
        return succeeded([rejected("Refused", "refused")] * len(events), result.status)


class TakesARefusedRequestForSuccess(HubSpotSink):
    """Takes a request that HubSpot refuses for one event for a success."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return succeeded([DELIVERED] * len(events), 204) if result.status == 400 else result


class SendsNumbers(HubSpotSink):
    """Sends numbers as such, where HubSpot takes texts only."""

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb'"n":"(\d+)"', rb'"n":\1', encoded.body))


@pytest.mark.parametrize(
    ("suite", "faulty"),
    [
        *[
            (Klaviyo(), faulty)
            for faulty in (
                ReportsSuccess,
                Forgets,
                IgnoresRates,
                HasAnotherKeyEachTime,
                SendsPlaceholders,
                IgnoresOrder,
            )
        ],
        *[(Amplitude(), faulty) for faulty in (DoesNotWait, TakesOthersForDelivered)],
        *[(Braze(), faulty) for faulty in (SendsPartsAgain, MixesItems, OverfillsRequests, HasAnotherMediaType)],
        (CustomerIo(), TakesPartsForSuccess),
        (CustomerIo(), HasAnotherUlidEachTime),
        *[(HubSpot(), faulty) for faulty in (TakesARefusedRequestForSuccess, SendsNumbers)],
        *[(Mixpanel(), faulty) for faulty in (TakesAllOrNothing, MixesResults, ChangesTimes)],
        *[
            (Slack(), faulty)
            for faulty in (CountsTooFew, SendsMentions, SendsTooOften, TakesRefusalsForSuccess, DropsSummaries)
        ],
    ],
    ids=lambda value: getattr(value, "__name__", getattr(value, "CODE", "")),
)
def test_a_fault_is_found(
    suite: VendorEventsConformance,
    faulty: Callable[..., EventSink],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert finds_fault(suite, faulty, tmp_path, monkeypatch), "no plan finds the fault"


def finds_fault(
    suite: VendorEventsConformance, faulty: Callable[..., EventSink], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Return whether the suite fails with a faulty sink."""
    connector = CONNECTORS[suite.CODE]
    changed = replace(connector, engine=replace(connector.engine, event_sink=faulty))
    monkeypatch.setattr(sender, "CONNECTORS", {**CONNECTORS, suite.CODE: changed})

    async def main(installation: Any, server: VendorServer) -> None:
        await suite.send_events(installation, server)
        await suite.verify(installation, server)

    for number, plan in enumerate(PLANS):
        run = folder / str(number)
        run.mkdir()
        try:
            suite.run(monkeypatch, run, plan, main)
        except (AssertionError, KeyError):
            return True
    return False
