"""The client API through Envoy: the exact bytes of its SDKs, the documented responses, and the stored data."""

import gzip
from typing import Any

import httpx
import pytest

from tests.e2e.source import Source, get, make_source
from tests.system import HTTP, RunningSystem, wait_until

IOS = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "Shop/1 CFNetwork/1474"}
ANDROID = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "okhttp/4.10.0", "Accept-Encoding": "gzip"}
JAVASCRIPT = {"content-type": "application/json", "origin": "https://shop.example", "user-agent": "Mozilla/5.0"}

UNAUTHORIZED = b'{"status": "error", "error": "Authorization error.", "code": 1000}'


@pytest.fixture
def source(system: RunningSystem) -> Source:
    return make_source(system, connector="client")


def send(source: Source, path: str, body: bytes, key: str | None = None, **headers: str) -> httpx.Response:
    """Send a call. `key` None is the source's own key, and an empty one is no key."""
    key = source.write_key if key is None else key
    authorization = {"Authorization": f"Bearer {key}"} if key else {}
    return HTTP.post(f"{source.system.base_url}{path}", content=body, headers={**authorization, **headers}, timeout=15)


def assert_accepted(response: httpx.Response) -> None:
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers
    assert not {name for name in response.headers if name.startswith(("x-http", "grpc"))}


def pick(event: dict[str, Any], *members: str) -> list[Any]:
    return [event.get(member) for member in members]


def test_the_ios_sdk(source: Source) -> None:
    calls = [
        ("events", b'[{"name":"App Opened","anonymous_id":"2F1A","data":{"screen":"Home"}}]'),
        (
            "devices",
            b'{"anonymous_id":"2F1A","device_id":"5e356e66","token":"45d2e0c7","os":"iOS","os_version":"17.2",'
            b'"model":"iPhone15,2","app_build":"465","app_version":"1.2.4"}',
        ),
        ("alias", b'{"anonymous_id":"2F1A","external_id":"ada"}'),
        (
            "identify",
            b'{"anonymous_id":"2F1A","external_id":"ada","email":"ada@example.com","data":{"first_name":"Ada"}}',
        ),
    ]
    for path, body in calls:
        assert_accepted(send(source, f"/api/client/{path}", body, **IOS))
    opened, device, alias, identify = source.wait_for(4)
    assert pick(opened, "type", "event", "anonymousId", "userId") == ["track", "App Opened", "2F1A", None]
    assert opened["properties"] == {"screen": "Home"}
    assert device["context"]["device"] == {"id": "5e356e66", "token": "45d2e0c7", "model": "iPhone15,2", "type": "ios"}
    assert pick(alias, "type", "previousId", "userId") == ["alias", "2F1A", "ada"]
    assert identify["traits"] == {"first_name": "Ada", "email": "ada@example.com"}
    (identity,) = source.identities()
    assert pick(identity, "userId", "anonymousIds") == ["ada", ["2F1A"]]
    result = get(source.system, f"/v1/devices?connection={source.id}&userId=ada")
    (listed,) = result["devices"]
    assert result["total"] == 1
    assert listed.pop("updatedAt") == device["timestamp"]
    assert listed == {
        "deviceId": "5e356e66",
        "connection": source.id,
        "anonymousId": "2F1A",
        "token": "45d2e0c7",
        "os": "iOS",
        "osVersion": "17.2",
        "model": "iPhone15,2",
        "appBuild": "465",
        "appVersion": "1.2.4",
    }


def test_the_android_sdk(source: Source) -> None:
    calls = [
        ("identify", b'{"anonymous_id":"a1","external_id":null,"email":null,"phone":null,"data":{"plan":"pro"}}'),
        ("events", b'[{"name":"Bought","anonymous_id":"a1","external_id":"bob","properties":{"price":49.90}}]'),
        (
            "devices",
            b'{"anonymous_id":"a1","external_id":"bob","device_id":"d1","token":null,"os":"Android","os_version":"14",'
            b'"model":"Pixel 8","app_build":"12","app_version":"3.0","sdk_version":"1.0.0"}',
        ),
    ]
    for path, body in calls:
        assert_accepted(
            send(source, f"/api/client/{path}", gzip.compress(body), **ANDROID, **{"Content-Encoding": "gzip"})
        )
    identify, bought, device = source.wait_for(3)
    assert pick(identify, "anonymousId", "userId") == ["a1", None]
    assert identify["traits"] == {"plan": "pro", "email": None, "phone": None}
    assert pick(bought, "event", "userId", "properties") == ["Bought", "bob", {"price": 49.90}]
    assert device["properties"]["sdk_version"] == "1.0.0"


def test_the_javascript_sdk_in_a_web_page(source: Source) -> None:
    preflight = httpx.options(
        f"{source.system.base_url}/api/client/track",
        headers={
            "origin": "https://shop.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert preflight.status_code in (200, 204)
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    for path, body in (
        ("track", b'{"event":"Viewed","anonymous_id":"w1","data":{"page":"/"}}'),
        ("identify", b'{"external_id":"cleo","anonymous_id":"w1","data":{"plan":"free"}}'),
    ):
        response = send(source, f"/api/client/{path}", body, **JAVASCRIPT)
        assert_accepted(response)
        assert response.headers["access-control-allow-origin"] in ("*", "https://shop.example")
    viewed, _ = source.wait_for(2)
    assert pick(viewed, "event", "properties") == ["Viewed", {"page": "/"}]


def test_the_examples_of_the_documentation_at_the_paths_that_it_prints(source: Source) -> None:
    device = (
        b'{"external_id":"E","device_id":"d","token":"t","os":"iOS 16.3","model":"m","app_build":"1","app_version":"1"}'
    )
    assert_accepted(send(source, "/devices", device))
    assert_accepted(send(source, "/events", b'[{"external_id":"E","name":"Product Purchased","data":{"quantity":4}}]'))
    assert [event["event"] for event in source.wait_for(2)] == ["Device Created or Updated", "Product Purchased"]


def test_a_call_that_breaks_a_rule_is_rejected_as_a_whole(source: Source, system: RunningSystem) -> None:
    good = b'{"anonymous_id":"A","external_id":"E"}'
    for key in ("", "unknown", "pk_dbf68c87-e579-4dac-b083-77fed0294e67"):
        failed = send(source, "/api/client/alias", good, key)
        assert (failed.status_code, failed.content) == (401, UNAUTHORIZED)
        assert failed.headers["content-type"] == "application/json"
    events = b'[{"external_id":"E","name":"kept from being stored"},{"name":"nobody"}]'
    for path, body, status, error in [
        ("/api/client/alias", b"{}", 422, "Must have required property 'external_id'"),
        ("/api/client/events", events, 422, "Must have required property 'anonymous_id'"),
        ("/api/client/events", b"{", 400, "An error occurred with this request."),
        ("/events", b" " * 1_048_577, 413, "the body is larger than 1048576 bytes"),
    ]:
        failed = send(source, path, body)
        assert (failed.status_code, failed.json()) == (status, {"status": "error", "error": error})
    too_large = send(source, "/devices", b" " * (5 << 20))
    assert too_large.status_code == 413
    assert too_large.json()["status"] == "error"

    def kept() -> list[str]:
        listed = get(system, f"/v1/events/rejected?connection={source.id}")["events"]
        return sorted(event["code"] for event in listed if event["protocol"] == "client")

    wait_until(lambda: len(kept()) == 4, 60)
    assert kept() == ["BadRequest", "PayloadTooLarge", "ValidationError", "ValidationError"]
    assert source.events() == []


def test_devices_of_the_track_api_are_in_the_same_registry(system: RunningSystem) -> None:
    source = make_source(system)
    context = {"device": {"token": "push", "type": "android"}}
    source.send("track", {"userId": "dora", "event": "Device Created or Updated", "context": context})

    def tokens() -> list[str]:
        return [each["token"] for each in get(system, f"/v1/devices?connection={source.id}")["devices"]]

    wait_until(lambda: tokens() == ["push"], 60)
    source.send("track", {"userId": "dora", "event": "Device Deleted", "context": context})
    wait_until(lambda: tokens() == [], 60)
