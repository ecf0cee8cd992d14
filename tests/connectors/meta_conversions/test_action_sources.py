"""Meta's events of apps and physical stores, which have members and an age of their own."""

from datetime import datetime, timedelta

import msgspec
import pytest

from headwater.connectors.contract import EventRejected, Outcome
from headwater.connectors.meta_conversions.events import MetaConversionsSink
from tests.connectors.conformance.context import NOW, FixedClock, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST
from tests.connectors.meta_conversions.test_events import SETTINGS, app_event, encode, event
from tests.connectors.vendors.meta_conversions import MetaConversionsServer


def sink_at(time: datetime) -> MetaConversionsSink:
    return MetaConversionsSink(SETTINGS, make_context(clock=FixedClock(time)))


def test_an_event_of_an_app_has_its_device() -> None:
    context = {
        "app": {"namespace": "com.shop", "version": "3.1", "build": "77"},
        "device": {"model": "iPhone15,2"},
        "os": {"name": "iOS", "version": "17.1"},
        "locale": "de-DE",
        "network": {"carrier": None},
        "screen": {"width": 390, "height": 844, "density": "3.00"},
        "timezone": "Europe/Berlin",
    }
    ids = {"madid": "AD-1", "anon_id": "undefined"}
    body = encode(app_event(context, advertiser_tracking_enabled=True, **ids))
    extinfo = ["i2", "com.shop", "3.1", "77", "17.1", "iPhone15,2", "de_DE", "", "", "390", "844", "3.00", "", "", ""]
    assert body["app_data"] == {
        "advertiser_tracking_enabled": 1,
        "application_tracking_enabled": 0,
        "extinfo": [*extinfo, "Europe/Berlin"],
    }
    assert body["user_data"]["madid"] == "AD-1" and "anon_id" not in body["user_data"]
    server = MetaConversionsServer()
    now = server.today()
    android = {"os": {"name": "Android", "version": "14"}, "app": {"version": "1"}}
    current = msgspec.structs.replace(app_event(android), timestamp=now, received_at=now)
    assert server.respond(sink_at(now).request([sink_at(now).encode(current)], FIRST)).status == 200
    assert server.violations == []
    assert "app_data" not in encode(event(madid="AD-1")) and "madid" not in encode(event(madid="AD-1"))["user_data"]


def test_events_of_stores_may_be_older() -> None:
    old = {"timestamp": NOW - timedelta(days=61)}
    assert encode(event(action_source="physical_store", **old))["action_source"] == "physical_store"
    with pytest.raises(EventRejected, match="7 days"):
        encode(event(**old))


async def test_an_event_that_became_too_old_costs_no_request() -> None:
    """Meta would refuse the whole request."""
    http = ScriptedHttp(lambda _: pytest.fail("a request was sent"))
    clock = FixedClock()
    made = MetaConversionsSink(SETTINGS, make_context(http, clock))
    times = {1: NOW - timedelta(days=6, hours=22), 2: NOW}
    events = [made.encode(event(number, timestamp=time)) for number, time in times.items()]
    clock.moment += timedelta(hours=2)
    result = await made.send(made.request(events, FIRST), events)
    assert result.failure is None
    assert [(each.outcome, each.reason) for each in result.items] == [
        (Outcome.REJECTED, "EventTooOld"),
        (Outcome.RETRY, "NotTaken"),
    ]
