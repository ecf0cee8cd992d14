"""The webhook sources receive what Segment, RudderStack and any other system forward, through real Envoy."""

import gzip
import hashlib
import hmac
import json
import uuid
from typing import Any

import httpx
import pytest

from tests.e2e.source import Source, get, make_source
from tests.system import HTTP, RunningSystem

SHARED_SECRET = b"a secret that only the sender and the receiver know"

TRACK_OF_SEGMENT: dict[str, Any] = {
    "_metadata": {"bundled": ["Segment.io"], "unbundled": [], "bundledIds": []},
    "anonymousId": "507f191e-810c-4197-9de8-60ea00000000",
    "channel": "client",
    "context": {
        "ip": "8.8.8.8",
        "library": {"name": "analytics.js", "version": "next-1.70.0"},
        "locale": "en-US",
        "page": {
            "path": "/basket",
            "referrer": "",
            "search": "",
            "title": "Basket",
            "url": "https://shop.example/basket",
        },
        "timezone": "Europe/Rome",
        "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/125.0.0.0 Safari/537.36",
    },
    "event": "Order Completed",
    "integrations": {"Segment.io": True},
    "originalTimestamp": "2026-05-04T11:59:57.100Z",
    "projectId": "sRWSvzwxqeLkMf3d6aJVcZ",
    "properties": {"revenue": 39.95, "products": [{"sku": "A-1", "price": 19.90}]},
    "receivedAt": "2026-05-04T12:00:00.400Z",
    "sentAt": "2026-05-04T11:59:58.000Z",
    "timestamp": "2026-05-04T11:59:59.500Z",
    "type": "track",
    "userId": "97980cfea0067",
    "version": 2,
}
IDENTIFY_OF_RUDDERSTACK: dict[str, Any] = {
    "anonymousId": "a-of-rudderstack",
    "channel": "mobile",
    "context": {
        "app": {"build": "1", "name": "Shop", "namespace": "example.shop", "version": "1.0"},
        "device": {
            "id": "49e4bdd1c280bc00",
            "manufacturer": "Google",
            "model": "Pixel",
            "name": "px",
            "type": "Android",
        },
        "library": {"name": "com.rudderstack.android.sdk.core", "version": "1.20.0"},
        "locale": "de_DE",
        "network": {"bluetooth": False, "carrier": "Android", "cellular": True, "wifi": True},
        "os": {"name": "Android", "version": "14"},
        "screen": {"density": 420, "height": 1794, "width": 1080},
        "sessionId": 1714823990,
        "traits": {"email": "ada@example.com", "plan": "pro"},
    },
    "event": "identify",
    "integrations": {"All": True},
    "originalTimestamp": "2026-05-04T11:59:57.100Z",
    "receivedAt": "2026-05-04T14:00:00.400+02:00",
    "request_ip": "[::1]:53708",
    "rudderId": "6e8c3f0c-3fd9-4b0f-a1d6-6f3b4c1b5b3f",
    "sentAt": "2026-05-04T11:59:58.000Z",
    "timestamp": "2026-05-04T11:59:59.500Z",
    "type": "identify",
    "userId": 4711,
}


def forward(source: Source, body: Any, *, path: str = "/v1/batch", **headers: str) -> httpx.Response:
    """Send a body as Segment's webhooks do: signed with SHA-1 by a shared secret, with a header that people set."""
    content = json.dumps(body).encode()
    signature = hmac.new(SHARED_SECRET, content, hashlib.sha1).hexdigest()
    all_headers = {
        "user-agent": "Segment.io/1.0",
        "content-type": "application/json",
        "x-signature": signature,
        "authorization": f"Bearer {source.write_key}",
        **headers,
    }
    if all_headers.get("content-encoding") == "gzip":
        content = gzip.compress(content)
    return HTTP.post(f"{source.system.base_url}{path}", content=content, headers=all_headers, timeout=30)


def new(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "messageId": str(uuid.uuid4())}


@pytest.mark.parametrize("connector", ["webhook", "segment", "rudderstack"])
def test_a_source_receives_with_a_key_of_its_own(system: RunningSystem, connector: str) -> None:
    source = make_source(system, connector=connector)
    connection = get(system, f"/v1/connections/{source.id}")
    assert (connection["connectorType"], connection.get("strategy"), connection["role"]) == ("Webhook", None, "Source")
    assert len(source.write_key) == 32
    event = new(TRACK_OF_SEGMENT)
    assert forward(source, event).json() == {}
    [stored] = source.wait_for(1)
    assert (stored["messageId"], stored["connectionId"]) == (event["messageId"], source.id)


def test_an_event_of_segment_is_stored_as_it_happened(system: RunningSystem) -> None:
    source = make_source(system, connector="segment")
    event = new(TRACK_OF_SEGMENT)
    for _ in range(2):  # Segment repeats a call after five seconds without a response
        assert forward(source, event).status_code == 200
    assert forward(source, {"type": "page", "userId": "u"}).status_code == 200
    stored, _ = source.wait_for(2)
    assert (stored["timestamp"], stored["originalTimestamp"]) == (
        "2026-05-04T11:59:59.500000Z",
        "2026-05-04T11:59:57.100000Z",
    )
    assert stored["properties"] == event["properties"] and stored["userId"] == event["userId"]
    assert stored["context"]["ip"] == "8.8.8.8", "that of the person, and not of the caller"
    assert stored["receivedAt"] > "2026-05-05" and stored["version"] == 2
    assert len(source.events()) == 2


def test_an_event_of_rudderstack_is_stored_although_some_values_do_not_fit(system: RunningSystem) -> None:
    source = make_source(system, connector="rudderstack")
    assert forward(source, new(IDENTIFY_OF_RUDDERSTACK), **{"user-agent": "RudderLabs"}).json() == {}
    [stored] = source.wait_for(1)
    assert (stored["userId"], stored["traits"]["plan"]) == ("4711", "pro")
    assert stored["context"]["screen"]["density"] == 420 and stored["context"]["locale"] == "de-DE"
    assert stored["rudderId"] == IDENTIFY_OF_RUDDERSTACK["rudderId"]


def test_batches_of_webhooks_are_arrays(system: RunningSystem) -> None:
    source = make_source(system, connector="segment")
    events = [new(TRACK_OF_SEGMENT) for _ in range(20)]
    assert forward(source, events, **{"content-encoding": "gzip"}).json() == {}
    assert forward(source, [5, {"type": "track"}, new(TRACK_OF_SEGMENT)]).json() == {}
    assert [event["messageId"] for event in source.wait_for(21)][:20] == [event["messageId"] for event in events]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/batch", {"batch": [TRACK_OF_SEGMENT]}),
        ("/v1/track", TRACK_OF_SEGMENT),
        ("/v1/events", TRACK_OF_SEGMENT),
        ("/v1/events", [TRACK_OF_SEGMENT]),
        ("/v1/events/track", TRACK_OF_SEGMENT),
    ],
)
def test_the_calls_of_sdks_are_accepted_too(system: RunningSystem, path: str, body: Any) -> None:
    source = make_source(system, connector="webhook")
    assert forward(source, body, path=path).status_code == 200
    [stored] = source.wait_for(1)
    assert stored["event"] == "Order Completed"


def test_a_key_can_be_the_user_of_basic_authentication(system: RunningSystem) -> None:
    source = make_source(system, connector="webhook")
    url = f"{system.base_url}/v1/batch"
    assert HTTP.post(url, json=new(TRACK_OF_SEGMENT), auth=(source.write_key, ""), timeout=30).status_code == 200
    assert len(source.wait_for(1)) == 1


def test_errors_are_reported_in_strict_mode_only(system: RunningSystem) -> None:
    """A sender repeats a call that failed, and would do so with an invalid one for hours."""
    source = make_source(system, connector="webhook")
    strict = {"x-strict-mode": "1"}
    assert forward(source, {"type": "track"}).status_code == 200
    assert forward(source, {"type": "track"}, **strict).status_code == 400
    assert forward(source, new(TRACK_OF_SEGMENT), authorization="Bearer no-such-key", **strict).status_code == 401
    assert forward(source, "text", **strict).status_code == 400
