"""The servers of Amplitude and Mixpanel find faults in single requests: connectors with one fault, without a queue."""

import re
from collections.abc import Callable
from typing import Any, Final

import pytest
from msgspec.structs import replace

from headwater.connectors.amplitude.events import AmplitudeSink
from headwater.connectors.contract import ConnectorContext, EventSink, HttpRequest, SinkPolicy
from headwater.connectors.contract.engine import Factory
from headwater.connectors.mixpanel.events import MixpanelSink
from headwater.connectors.registry import CONNECTORS
from tests.connectors.amplitude.test_vendor import TestEvents as Amplitude
from tests.connectors.conformance import vendor_types
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.conformance.vendor_types import send_full_requests
from tests.connectors.mixpanel.test_vendor import TestEvents as Mixpanel

Change = Callable[[HttpRequest], HttpRequest]


def larger(policy: SinkPolicy, *, events: int = 0, size: int = 0) -> SinkPolicy:
    """Return a policy with higher limits."""
    limits = policy.limits
    assert limits.max_bytes is not None
    changed = replace(limits, max_events=limits.max_events + events, max_bytes=limits.max_bytes + size)
    return replace(policy, limits=changed)


class SendsMoreToAmplitude(AmplitudeSink):
    policy = larger(AmplitudeSink.policy, events=1)


class SendsLargerToAmplitude(AmplitudeSink):
    policy = larger(AmplitudeSink.policy, size=8_000)


class SendsMoreToMixpanel(MixpanelSink):
    policy = larger(MixpanelSink.policy, events=1)


class SendsLargerToMixpanel(MixpanelSink):
    policy = larger(MixpanelSink.policy, size=8_000)


def with_body(old: bytes, new: bytes) -> Change:
    return lambda request: replace(request, body=re.sub(old, new, request.body))


def with_url(old: str, new: str) -> Change:
    return lambda request: replace(request, url=request.url.replace(old, new))


def with_header(name: str, value: str) -> Change:
    return lambda request: replace(request, headers={**request.headers, name: value})


def changed(make: Factory[EventSink], change: Change) -> Factory[EventSink]:
    """Return the factory of a connector whose requests have a fault."""

    def make_faulty(settings: Any, context: ConnectorContext) -> EventSink:
        sink: Any = make(settings, context)
        request = sink.request
        sink.request = lambda events, attempt: change(request(events, attempt))
        faulty: EventSink = sink
        return faulty

    return make_faulty


FAULTS: Final[dict[str, tuple[VendorEventsConformance, Factory[EventSink]]]] = {
    "a request of 2,001 events for Amplitude": (Amplitude(), SendsMoreToAmplitude),
    "a request of more than 20 MB": (Amplitude(), SendsLargerToAmplitude),
    "a backlog for the endpoint of few events": (Amplitude(), changed(AmplitudeSink, with_url("/batch", "/2/httpapi"))),
    "another name of the key": (Amplitude(), changed(AmplitudeSink, with_body(b'"api_key"', b'"apiKey"'))),
    "no insert ids": (Amplitude(), changed(AmplitudeSink, with_body(b'"insert_id"', b'"id"'))),
    "seconds": (Amplitude(), changed(AmplitudeSink, with_body(rb'"time":([0-9]{10})[0-9]{3}', rb'"time":\1'))),
    "a request of 2,001 events for Mixpanel": (Mixpanel(), SendsMoreToMixpanel),
    "a request of more than 10 MB": (Mixpanel(), SendsLargerToMixpanel),
    "events without validation": (Mixpanel(), changed(MixpanelSink, with_url("strict=1", "strict=0"))),
    "another header": (Mixpanel(), changed(MixpanelSink, with_header("authorization", "Bearer token"))),
    "the location of this server": (Mixpanel(), changed(MixpanelSink, with_body(b'"ip":0,', b""))),
    "the user as its device": (Mixpanel(), changed(MixpanelSink, with_body(b'"distinct_id":"', b'"distinct_id":"x'))),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, faulty = FAULTS[fault]
    connector = CONNECTORS[suite.CODE]
    faulty_connector = replace(connector, engine=replace(connector.engine, event_sink=faulty))
    monkeypatch.setattr(vendor_types, "CONNECTORS", {**CONNECTORS, suite.CODE: faulty_connector})
    with pytest.raises((AssertionError, KeyError)):
        await send_full_requests(suite)
