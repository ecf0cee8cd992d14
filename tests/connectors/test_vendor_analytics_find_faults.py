"""The suites of Google Analytics, Meta and PostHog find connectors with one fault."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from headwater.connectors.contract import (
    DELIVERED,
    Attempt,
    BatchLimits,
    EncodedEvent,
    EventSink,
    FailureScope,
    HttpRequest,
    OutgoingEvent,
    SendResult,
    succeeded,
)
from headwater.connectors.google_analytics.events import GoogleAnalyticsSink
from headwater.connectors.meta_conversions.events import MetaConversionsSink
from headwater.connectors.posthog.events import PostHogSink
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.event_sink import FIRST
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.google_analytics import test_events as google_analytics
from tests.connectors.google_analytics.test_vendor import TestEvents as GoogleAnalytics
from tests.connectors.meta_conversions import test_events as meta_conversions
from tests.connectors.meta_conversions.test_vendor import TestEvents as MetaConversions
from tests.connectors.posthog import test_events as posthog
from tests.connectors.posthog.test_vendor import TestEvents as PostHog
from tests.connectors.test_vendor_suite_finds_faults import finds_fault
from tests.connectors.vendors.google_analytics import GoogleAnalyticsServer
from tests.connectors.vendors.meta_conversions import MetaConversionsServer
from tests.connectors.vendors.posthog import PostHogServer
from tests.connectors.vendors.server import CALM, VendorServer

CASES: Final[dict[Any, tuple[Any, Any, list[OutgoingEvent]]]] = {
    GoogleAnalyticsSink: (
        GoogleAnalyticsServer,
        google_analytics.SETTINGS,
        [google_analytics.event(number=number, user_id="u", anonymous_id="a") for number in range(1, 28)],
    ),
    MetaConversionsSink: (
        MetaConversionsServer,
        meta_conversions.SETTINGS,
        [meta_conversions.event(number, client_ip_address="203.0.113.9") for number in range(1, 4)],
    ),
    PostHogSink: (PostHogServer, posthog.SETTINGS, [posthog.event(number=number) for number in range(1, 4)]),
}
"""The server, the settings and valid events of a connector."""


class MixesUsers(GoogleAnalyticsSink):
    """Sends events of several users in one request, which has the user of the first."""

    policy = replace(GoogleAnalyticsSink.policy, scope="Any")

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        parts = [each.body.partition(b',"events":[') for each in events]
        body = b"".join(parts[0][:2]) + b",".join(part[2] for part in parts) + b"]}"
        return replace(super().request(events, attempt), body=body)


class SendsOneEventTooMany(GoogleAnalyticsSink):
    policy = replace(GoogleAnalyticsSink.policy, limits=BatchLimits(max_events=26))


class HasNoMediaType(GoogleAnalyticsSink):
    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return replace(super().request(events, attempt), headers={})


class ForgetsTheLast(GoogleAnalyticsSink):
    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return super().request(events[:-1] or events, attempt)


class SendsTwice(GoogleAnalyticsSink):
    """Sends events again although the vendor has them, some of the time."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        if result.failure is not None:
            return result
        again = await super().send(request, events)
        return again if again.failure is None else result


class LeavesTheTimeOut(GoogleAnalyticsSink):
    """Lets events have the time of their arrival."""

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb',"timestamp_micros":\d+', b"", encoded.body))


class HasAReservedName(GoogleAnalyticsSink):
    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb'"name":"\w+"', b'"name":"session_start"', encoded.body))


class HasMilliseconds(MetaConversionsSink):
    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb'"event_time":(\d+)', rb'"event_time":\g<1>000', encoded.body))


class HasAnotherEventId(MetaConversionsSink):
    """Has another id in each attempt, so that Meta takes a repetition for another event."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        return replace(request, body=request.body.replace(b'"event_id":"', b'"event_id":"%d-' % attempt.number))


class SendsPersonalData(MetaConversionsSink):
    """Sends an email address that is not hashed."""

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb'"em":\["[0-9a-f]+"\]', b'"em":["ada@example.com"]', encoded.body))


class HashesTheAddress(MetaConversionsSink):
    """Hashes a parameter that Meta wants as it is."""

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=encoded.body.replace(b"203.0.113.9", b"0" * 64))


class TakesThrottlesForRefusals(MetaConversionsSink):
    """Judges an error by its status, which is 400 for too many calls."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        if result.failure is None or result.status != 400:
            return result
        return replace(result, failure=replace(result.failure, scope=FailureScope.BATCH))


class DeliversRefusals(MetaConversionsSink):
    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        is_refused = result.failure is not None and result.failure.scope is FailureScope.BATCH
        return succeeded([DELIVERED] * len(events), result.status) if is_refused else result


class HasATextForTheValue(MetaConversionsSink):
    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb'"value":([0-9.]+)', rb'"value":"\1"', encoded.body))


class IgnoresTheQuota(PostHogSink):
    """Takes each success for the delivery of all events."""

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await super().send(request, events)
        return succeeded([DELIVERED] * len(events), 200) if result.status == 200 else result


class ChangesTheTime(PostHogSink):
    """Sends another time with each attempt, by which PostHog takes a repetition for another event."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        return replace(request, body=re.sub(rb'Z","uuid"', b'%dZ","uuid"' % attempt.number, request.body))


class RepeatsTheUuid(PostHogSink):
    """Gives all events one UUID, for which PostHog refuses the whole request."""

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        request = super().request(events, attempt)
        return replace(request, body=re.sub(rb'"uuid":"[^"]+"', b'"uuid":"%s"' % (b"0" * 36), request.body))


class SendsPlaceholders(PostHogSink):
    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb'"distinct_id":"[^"]+"', b'"distinct_id":"null"', encoded.body))


class ReversesTheOrder(PostHogSink):
    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return super().request(events[::-1], attempt)


class HasAnEpoch(PostHogSink):
    """Sends a time that PostHog takes for the present."""

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=re.sub(rb'"timestamp":"[^"]+"', b'"timestamp":1777895999', encoded.body))


class HasThePlaceOfTheServer(PostHogSink):
    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        encoded = super().encode(event)
        return replace(encoded, body=encoded.body.replace(b'"$geoip_disable":true', b'"a":1'))


def respond(server: VendorServer, sink: EventSink, events: Sequence[OutgoingEvent]) -> list[str]:
    """Send as many events as a request may have, and return the violations of the vendor's rules."""
    encoded = [sink.encode(each) for each in events[: sink.policy.limits.max_events]]
    server.respond(sink.request(encoded, FIRST))
    return server.violations


@pytest.mark.parametrize(
    ("faultless", "faulty"),
    [
        *[
            (GoogleAnalyticsSink, faulty)
            for faulty in (SendsOneEventTooMany, HasNoMediaType, LeavesTheTimeOut, HasAReservedName)
        ],
        *[
            (MetaConversionsSink, faulty)
            for faulty in (HasMilliseconds, SendsPersonalData, HashesTheAddress, HasATextForTheValue)
        ],
        *[(PostHogSink, faulty) for faulty in (HasAnEpoch, HasThePlaceOfTheServer, RepeatsTheUuid, SendsPlaceholders)],
    ],
    ids=lambda value: value.__name__,
)
def test_a_request_against_the_rules_is_found(
    faultless: Callable[..., EventSink], faulty: Callable[..., EventSink]
) -> None:
    make_server, settings, events = CASES[faultless]
    assert respond(make_server(CALM, lambda: 0.0), faultless(settings, make_context()), events) == []
    assert respond(make_server(CALM, lambda: 0.0), faulty(settings, make_context()), events)


@pytest.mark.parametrize(
    ("suite", "faulty"),
    [
        *[(GoogleAnalytics(), faulty) for faulty in (MixesUsers, ForgetsTheLast, SendsTwice)],
        *[(MetaConversions(), faulty) for faulty in (HasAnotherEventId, TakesThrottlesForRefusals, DeliversRefusals)],
        *[(PostHog(), faulty) for faulty in (IgnoresTheQuota, ChangesTheTime, ReversesTheOrder)],
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
