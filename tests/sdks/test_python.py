"""Features of the Python SDKs alone: their own types of values, their keys, and compression on and off."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from importlib import import_module
from typing import Any

import pytest

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, open_catalog
from headwater.storage.database import sqlite_url
from tests.e2e.source import Source
from tests.sdks import python
from tests.sdks.arrival import assert_arrived, sent_events, stored_events
from tests.sdks.recorder import Recorder, exact_json


class Plan(Enum):
    PRO = "pro"


MOMENT = datetime(2026, 3, 1, 23, 59, 59, 123_456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
VALUES: dict[str, Any] = {
    "integers": [2**53 + 1, -(2**63), 2**64, 10**30],
    "floats": [0.1, -0.0, 1e16, 1e-7, 5e-324, 1.7976931348623157e308],
    "decimal": Decimal("19.99"),
    "times": [MOMENT, MOMENT.astimezone(UTC), datetime(2026, 3, 1), date(2026, 3, 1)],
    "enumeration": Plan.PRO,
    "sequences": [(1, 2), {3}],
    "nested": {"none": None, "true": True, "text": "Zoë 🚀 \N{ZERO WIDTH JOINER}\u0000"},
}
ARRIVED = """{
    "integers": [9007199254740993, -9223372036854775808, 18446744073709551616, 1000000000000000000000000000000],
    "floats": [0.1, -0.0, 1e+16, 1e-07, 5e-324, 1.7976931348623157e+308],
    "decimal": 19.99,
    "times": [
        "2026-03-01T23:59:59.123456+05:30", "2026-03-01T18:29:59.123456+00:00", "2026-03-01T00:00:00", "2026-03-01"
    ],
    "enumeration": "pro",
    "sequences": [[1, 2], [3]],
    "nested": {"none": null, "true": true, "text": "Zo\\u00eb \\ud83d\\ude80 \\u200d\\u0000"}
}"""


MODULES = {
    "customerio-cdp-analytics": "customerio.analytics",
    "segment-analytics-python": "segment.analytics",
    "rudder-sdk-python": "rudderstack.analytics",
}


@pytest.mark.parametrize("package", MODULES)
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_values_and_ids_of_python_are_stored(package: str, gzip: bool, source: Source, recorder: Recorder) -> None:
    client = import_module(MODULES[package]).Client
    analytics = client(source.write_key, host=f"http://{recorder.address}/", gzip=gzip)
    made = [
        analytics.identify(user_id=7, anonymous_id=2**53 + 1, traits=VALUES, timestamp=MOMENT),
        analytics.track(user_id=0.5, event="Bought", properties=VALUES, timestamp=datetime(2026, 3, 1, 12)),
        analytics.page(anonymous_id="a1", properties=VALUES, context={"values": VALUES}, integrations={"All": True}),
        analytics.screen(user_id="u1", name="", category="App", message_id=5),
        analytics.group(user_id="u1", group_id=10**20, traits=VALUES),
        analytics.alias(previous_id=1.5, user_id="u1"),
    ]
    analytics.shutdown()
    stored = stored_events(source, len(made))
    sent = sent_events(recorder.posts)
    texts = [json.dumps(message, default=lambda time: time.isoformat()) for accepted, message in made if accepted]
    assert [event.event for event in sent] == [exact_json(text) for text in texts]
    for event in sent:
        assert_arrived(event, stored[event.message_id], source.id)
    by_type = {event["type"]: event for event in stored.values()}
    for arrived in (
        by_type["identify"]["traits"],
        by_type["track"]["properties"],
        by_type["page"]["context"]["values"],
        by_type["group"]["traits"],
    ):
        assert arrived == exact_json(ARRIVED)
    assert (by_type["identify"]["userId"], by_type["identify"]["anonymousId"]) == ("7", "9007199254740993")
    assert (by_type["group"]["groupId"], by_type["alias"]["previousId"]) == ("100000000000000000000", "1.5")
    assert by_type["screen"]["messageId"] == "5"
    assert {request.headers["content-encoding"] for request in recorder.posts} == {"gzip" if gzip else None}


@pytest.fixture
async def catalog(source: Source) -> AsyncIterator[Catalog]:
    """Open the catalog of the running system from another process."""
    url = sqlite_url(source.system.data_dir / "catalog.db")
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as catalog:
        yield catalog


@pytest.mark.parametrize("prefix", ["pk_us_", "sk_eu_"])
async def test_keys_of_the_newer_form_are_sent_as_bearer(
    prefix: str, source: Source, recorder: Recorder, catalog: Catalog
) -> None:
    """Headwater does not create such keys; users who migrate may have them."""
    key = f"{prefix}{source.write_key}"
    async with catalog.change() as change:
        connection = next(found for found in catalog.connections(catalog.workspaces()[0].id) if found.id == source.id)
        change.add_event_write_key(connection, key)
    python.send("customerio-cdp-analytics", key, recorder.address, [{"type": "track", "userId": "u1", "event": "E"}])
    [request] = recorder.posts
    assert request.headers["authorization"] == f"Bearer {key}"
    [event] = sent_events([request])
    assert_arrived(event, stored_events(source, 1)[event.message_id], source.id)
