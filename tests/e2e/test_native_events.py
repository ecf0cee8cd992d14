"""The native events API and the settings of SDKs, through real Envoy: bodies, headers, routes, CORS."""

import json
from typing import Any

import httpx
import pytest

from tests.e2e.source import Source, make_source
from tests.system import HTTP, RunningSystem

GOOD: dict[str, Any] = {"type": "track", "event": "Signed Up", "userId": "u"}
ORIGIN = {"origin": "https://shop.example"}


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system, connector="javascript", strategy="Conversion")


def post(system: RunningSystem, path: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HTTP.post(
        f"{system.base_url}{path}",
        content=content,
        headers={
            "content-type": "application/json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        },
        timeout=15,
    )


def test_an_event_a_batch_and_a_type_in_the_path_are_stored(system: RunningSystem) -> None:
    source = make_source(system)
    bearer = f"Bearer {source.write_key}"
    for path, body in (
        ("/v1/events", GOOD),
        ("/v1/events", [GOOD]),
        ("/v1/events", {"batch": [GOOD]}),
        ("/v1/events/track", {"event": "Signed Up", "userId": "u"}),
    ):
        response = post(system, path, body, authorization=bearer)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"].startswith("text/plain")
    assert [event["event"] for event in source.wait_for(4)] == ["Signed Up"] * 4


def test_calls_of_a_web_page_need_no_preflight(system: RunningSystem) -> None:
    source = make_source(system)
    body = {"batch": [GOOD], "writeKey": source.write_key}
    response = post(system, "/v1/events", body, content_type="text/plain;charset=UTF-8", **ORIGIN)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "*")
    assert len(source.wait_for(1)) == 1


def test_an_api_key_sends_for_any_source_of_its_workspace(system: RunningSystem) -> None:
    source = make_source(system)
    response = post(system, "/v1/events", {**GOOD, "connectionId": source.id}, **system.authorization)
    assert response.status_code == 200
    assert len(source.wait_for(1)) == 1
    failed = post(system, "/v1/events", {**GOOD, "connectionId": 7}, **system.authorization)
    assert (failed.status_code, failed.json()["error"]["code"]) == (422, "ConnectionNotExist")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/events", b"{", 400, "BadRequest"),
        ("/v1/events", b"", 400, "BadRequest"),
        ("/v1/events", b"x" * 600_000, 413, "PayloadTooLarge"),
        ("/v1/events", b"x" * 5_000_000, 413, "PayloadTooLarge"),
        ("/v1/events/track", b"x" * 600_000, 413, "PayloadTooLarge"),
        ("/v1/events/nonsense", GOOD, 404, "NotFound"),
        ("/v1/events/rejected", GOOD, 404, "NotFound"),
        ("/v1/events/settings", GOOD, 404, "NotFound"),
        ("/v1/events/track/more", GOOD, 404, "NotFound"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_errors_have_the_envelope(
    system: RunningSystem, source: Source, path: str, body: Any, status: int, code: str
) -> None:
    response = post(system, path, body, authorization=f"Bearer {source.write_key}")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_reading_and_sending_share_paths(system: RunningSystem) -> None:
    """Reading and sending share paths, and differ by the method."""
    for path in ("/v1/events", "/v1/events/rejected", "/v1/events/schema", "/v1/events/some-message/trace"):
        response = HTTP.get(f"{system.base_url}{path}", headers={**system.authorization, **ORIGIN}, timeout=15)
        assert response.status_code == 200, path
        assert "access-control-allow-origin" not in response.headers, path
    for path in ("/v1/events/nonsense", "/v1/events/track"):
        assert HTTP.get(f"{system.base_url}{path}", headers=system.authorization, timeout=15).status_code == 404


def preflight(system: RunningSystem, path: str, method: str) -> httpx.Response:
    headers = {**ORIGIN, "access-control-request-method": method}
    return HTTP.options(f"{system.base_url}{path}", headers=headers, timeout=15)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/events", "POST"),
        ("/v1/events/track", "POST"),
        ("/b", "POST"),
        ("/v1/events/settings/some-key", "GET"),
        ("/v1/projects/some-key/settings", "GET"),
        ("/projects/some-key/settings", "GET"),
    ],
)
def test_preflight_requests_are_allowed(system: RunningSystem, path: str, method: str) -> None:
    response = preflight(system, path, method)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert method in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-max-age"] == "86400"


def settings(system: RunningSystem, path: str, **headers: str) -> httpx.Response:
    return HTTP.get(f"{system.base_url}{path}", headers={**ORIGIN, **headers}, timeout=15)


def test_settings_of_the_native_sdk(system: RunningSystem, source: Source) -> None:
    response = settings(system, f"/v1/events/settings/{source.write_key}")
    assert response.status_code == 200
    assert response.json() == {"strategy": "Conversion", "integrations": {"Krenalis": {"apiKey": source.write_key}}}
    assert response.headers["cache-control"] == "public, max-age=3600, stale-while-revalidate=10800"
    assert response.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["/v1/projects/{}/settings", "/projects/{}/settings"])
def test_settings_of_the_segment_family_send_events_to_where_they_came_from(
    system: RunningSystem, source: Source, path: str
) -> None:
    response = settings(system, path.format(source.write_key))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"].startswith("public, max-age=3600")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "x-forwarded-proto" in response.headers["vary"]
    for name in ("Segment.io", "Customer.io Data Pipelines"):
        destination = response.json()["integrations"][name]
        assert destination["apiKey"] == source.write_key
        assert f"{destination['protocol']}://{destination['apiHost']}" == f"{system.base_url}/v1"
        sent = post(system, "/v1/b", {"batch": [GOOD], "writeKey": destination["apiKey"]})
        assert sent.json() == {}


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"host": "events.example.com"}, "http://events.example.com/v1"),
        ({"host": "events.example.com:8443", "x-forwarded-proto": "https"}, "https://events.example.com:8443/v1"),
        ({"host": "events.example.com", "x-forwarded-proto": "gopher"}, "http://events.example.com/v1"),
        ({"host": "a.b", "x-headwater-authority": "evil", "x-headwater-scheme": "https"}, "http://a.b/v1"),
    ],
    ids=str,
)
def test_the_address_is_that_of_the_request(
    system: RunningSystem, source: Source, headers: dict[str, str], address: str
) -> None:
    """If a proxy ends TLS, x-forwarded-proto states the scheme of the page."""
    response = settings(system, f"/v1/projects/{source.write_key}/settings", **headers)
    destination = response.json()["integrations"]["Segment.io"]
    assert f"{destination['protocol']}://{destination['apiHost']}" == address


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/projects/unknown/settings", 404),
        ("/projects/unknown/settings", 404),
        ("/v1/events/settings/unknown", 401),
    ],
)
def test_settings_of_an_unknown_key_are_rejected_and_not_cached(system: RunningSystem, path: str, status: int) -> None:
    response = settings(system, path)
    assert response.status_code == status
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["access-control-allow-origin"] == "*"


def test_mobile_sdks_may_omit_the_version(system: RunningSystem) -> None:
    source = make_source(system)
    assert post(system, "/b", {"batch": [GOOD], "writeKey": source.write_key}).json() == {}
    assert len(source.wait_for(1)) == 1
