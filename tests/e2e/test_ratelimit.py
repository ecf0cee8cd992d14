"""Rate limits through real Envoy: the status and the headers of every protocol, over REST and gRPC."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from headwater.v1 import events_pb2 as pb
from headwater.v1.events_pb2_grpc import EventServiceStub
from tests.e2e.source import Source, make_source
from tests.system import HTTP, RunningSystem, start

TRACK: dict[str, Any] = {"type": "track", "event": "E", "userId": "u"}
BURST = 1000
CALL = 600
"""Two such calls exceed the burst, and the rest of the second one takes minutes to be available."""
CALLS: dict[str, tuple[str, Any, int]] = {
    "track": ("/v1/batch", {"batch": [TRACK] * CALL}, 200),
    "native": ("/v1/events", [TRACK] * CALL, 200),
    "client": ("/api/client/events", [{"name": "E", "external_id": "u"}] * CALL, 204),
}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start a system with a limit of one event a second for each key, and a burst."""
    running = start(
        tmp_path_factory.mktemp("limited") / "data",
        HEADWATER_RATE_LIMIT_KEY=f"1:{BURST}",
        HEADWATER_RATE_LIMIT_WORKSPACE="100000",
    )
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture
def source(limited: RunningSystem) -> Source:
    return make_source(limited)


def send(source: Source, path: str, body: Any, **headers: str) -> httpx.Response:
    bearer = {"authorization": f"Bearer {source.write_key}", "origin": "https://shop.example"}
    return HTTP.post(f"{source.system.base_url}{path}", json=body, headers={**bearer, **headers}, timeout=15)


def left(response: httpx.Response) -> int:
    assert response.headers["ratelimit-limit"] == str(BURST)
    assert 0 < int(response.headers["ratelimit-reset"]) <= BURST
    assert not [name for name in response.headers if name.startswith(("x-http", "grpc-"))]
    return int(response.headers["ratelimit-remaining"])


@pytest.mark.parametrize("protocol", CALLS)
def test_every_response_states_the_remaining_events_and_excess_is_429(source: Source, protocol: str) -> None:
    path, body, success = CALLS[protocol]
    first = send(source, path, body)
    assert (first.status_code, left(first)) == (success, BURST - CALL)
    refused = send(source, path, body)
    assert refused.status_code == 429
    assert left(refused) < CALL
    assert 1 <= int(refused.headers["retry-after"]) <= CALL
    assert "ratelimit-remaining" in refused.headers["access-control-expose-headers"]
    assert "TooManyRequests" in refused.text or protocol == "client"
    assert len(source.wait_for(CALL)) == CALL


def test_a_rejected_call_states_the_remaining_events(source: Source) -> None:
    assert left(send(source, "/v1/events", {"batch": []})) == BURST - 1
    permissive = send(source, "/v1/batch", {"batch": 5})
    assert (permissive.status_code, permissive.json()) == (200, {})
    assert "ratelimit-remaining" in permissive.headers
    strict = send(source, "/v1/batch", {"batch": [{}]}, **{"x-strict-mode": "1"})
    assert strict.status_code == 400
    assert "ratelimit-remaining" in strict.headers


def test_a_call_with_more_events_than_the_burst_is_413(source: Source) -> None:
    refused = send(source, "/v1/events", [TRACK] * (BURST + 1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "PayloadTooLarge")


def test_native_grpc_callers_get_the_limits_in_the_metadata(source: Source) -> None:
    request = pb.SendEventsRequest(events=[pb.Event(type="track", event="E", user_id="u")] * CALL)
    metadata = (("authorization", f"Bearer {source.write_key}"),)
    with grpc.insecure_channel(f"127.0.0.1:{source.system.port}") as channel:
        stub = EventServiceStub(channel)
        _, call = stub.SendEvents.with_call(request, metadata=metadata)
        assert dict(call.initial_metadata())["ratelimit-remaining"] == str(BURST - CALL)
        with pytest.raises(grpc.RpcError) as refused:
            stub.SendEvents(request, metadata=metadata)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert {"retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= dict(
        error.trailing_metadata()
    ).keys()


def test_without_a_limit_there_are_no_such_headers(system: RunningSystem) -> None:
    response = send(make_source(system), "/v1/events", [TRACK])
    assert not [name for name in response.headers if name.startswith("ratelimit")]


def test_management_calls_are_limited_by_key(tmp_path: Path) -> None:
    """A uses up its calls. B, which has another key, and A's events are not affected."""
    system = start(tmp_path / "data", HEADWATER_RATE_LIMIT_MANAGEMENT="1:40")
    source = make_source(system)
    url = f"{system.base_url}/v1"
    other = HTTP.post(f"{url}/keys", json={"name": "B", "workspace": None}, headers=system.authorization)
    assert other.status_code == 403, "a restricted key makes keys of its own workspace alone"
    workspace = HTTP.get(f"{url}/workspaces/current", headers=system.authorization).json()["id"]
    body = {"name": "B", "workspace": workspace, "access": "Read"}
    token = HTTP.post(f"{url}/keys", json=body, headers=system.authorization).json()["token"]
    for _ in range(60):
        result = HTTP.get(f"{url}/connections", headers=system.authorization)
        assert result.headers["ratelimit-limit"] == "40"
        if result.status_code != 200:
            break
    assert (result.status_code, result.json()["error"]["code"]) == (429, "TooManyRequests")
    assert int(result.headers["retry-after"]) >= 1
    reader = {"authorization": f"Bearer {token}"}
    assert HTTP.get(f"{url}/connections", headers=reader).status_code == 200
    missing = HTTP.get(f"{url}/connections/5", headers=reader)
    assert (missing.status_code, missing.headers["ratelimit-limit"]) == (404, "40")
    refused = HTTP.post(f"{url}/connections", json={}, headers=reader)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ReadOnlyKey")
    assert send(source, "/v1/track", TRACK).status_code == 200
    assert system.stop() == 0
