"""Bad input, through real Envoy: the envelope, the right status, and no effect. No input is a 500."""

import gzip
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.source import Source, get, make_source
from tests.system import HTTP, RunningSystem, wait_until

GIVEN = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMED = {"name": "Shop", "role": "Source", "connector": "http"}


@pytest.fixture(scope="module")
def client(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.base_url, headers=system.authorization, timeout=15) as client:
        yield client


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


@dataclass(frozen=True)
class Bad:
    """A request that must be rejected."""

    method: str
    path: str
    status: int
    code: str
    body: bytes | dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.method} {self.path} {str(self.body)[:30]}"

    def send(self, client: httpx.Client) -> httpx.Response:
        content = json.dumps(self.body).encode() if isinstance(self.body, dict) else self.body
        return client.request(self.method, self.path, content=content, headers=self.headers)


REFUSED = [
    Bad("GET", "/nowhere", 404, "NotFound"),
    Bad("GET", "/v1/nowhere", 404, "NotFound"),
    Bad("PATCH", "/v1/connections", 404, "NotFound"),
    Bad("POST", "/v1/connections", 400, "BadRequest", b'{"name":'),
    Bad("POST", "/v1/connections", 400, "BadRequest", b"[1]"),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "name": {"a": 1}}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "name": ""}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "name": "x" * 61}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "name": "a\0b"}),
    Bad("POST", "/v1/connections", 400, "BadRequest", b'{"name":"\\ud800","role":"Source","connector":"http"}'),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "role": "Both"}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "role": "Destination"}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "connector": "javascript"}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "strategy": "Fusion"}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "linkedConnections": ["x"]}),
    Bad("POST", "/v1/connections", 400, "BadRequest", {**NAMED, "settings": {"a": 1}}),
    Bad("POST", "/v1/connections", 422, "ConnectorNotExist", {**NAMED, "connector": "nosuch"}),
    Bad("POST", "/v1/connections", 422, "LinkedConnectionNotExist", {**NAMED, "linkedConnections": [7]}),
    Bad("POST", "/v1/connections", 413, "PayloadTooLarge", b'"' + b"x" * 3_000_000 + b'"'),
    Bad("GET", "/v1/connections/0", 400, "BadRequest"),
    Bad("GET", "/v1/connections/-3", 400, "BadRequest"),
    Bad("GET", "/v1/connections/x", 400, "BadRequest"),
    Bad("GET", "/v1/connections/2147483648", 400, "BadRequest"),
    Bad("GET", "/v1/connections/7", 404, "NotFound"),
    Bad("DELETE", "/v1/connections/7", 404, "NotFound"),
    Bad("GET", "/v1/connections/7/identities", 404, "NotFound"),
    Bad("GET", "/v1/connections/7/event-write-keys", 404, "NotFound"),
    Bad("POST", "/v1/pipelines", 404, "NotFound", {"connection": 7, "target": "User", "name": "P"}),
    Bad("POST", "/v1/pipelines", 400, "BadRequest", {"connection": 7, "name": "P"}),
    Bad("POST", "/v1/pipelines", 400, "BadRequest", {"connection": 7, "target": "Group", "name": "P"}),
    Bad("GET", "/v1/events?limit=0", 400, "BadRequest"),
    Bad("GET", "/v1/events?limit=1001", 400, "BadRequest"),
    Bad("GET", "/v1/events?first=-1", 400, "BadRequest"),
    Bad("GET", "/v1/events?first=x", 400, "BadRequest"),
    Bad("GET", "/v1/events?order=nosuch", 400, "BadRequest"),
    Bad("GET", "/v1/events?properties=nosuch", 400, "BadRequest"),
    Bad("GET", "/v1/events?filter={}", 400, "BadRequest"),
    Bad("GET", "/v1/connections", 401, "Unauthorized", headers={"authorization": ""}),
    Bad("GET", "/v1/connections", 401, "Unauthorized", headers={"authorization": "Bearer api_" + "x" * 43}),
    Bad("GET", "/v1/connections", 400, "BadRequest", headers={"authorization": "Bearer nonsense"}),
    Bad("GET", "/v1/connections", 400, "BadRequest", headers={"authorization": "Basic eDp5"}),
    Bad("GET", "/v1/connections", 400, "BadRequest", headers={"headwater-workspace": "x"}),
    Bad("GET", "/v1/connections", 400, "BadRequest", headers={"headwater-workspace": "007"}),
    Bad("GET", "/v1/connections", 404, "NotFound", headers={"headwater-workspace": "7"}),
]


@pytest.mark.parametrize("bad", REFUSED, ids=str)
def test_invalid_management_calls_return_the_envelope_and_change_nothing(
    client: httpx.Client, system: RunningSystem, bad: Bad
) -> None:
    before = get(system, "/v1/connections")
    response = bad.send(client)
    assert response.status_code == bad.status, response.text
    error = response.json()["error"]
    assert error["code"] == bad.code
    assert set(error) - {"field"} == {"code", "message"}
    assert error["message"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert get(system, "/v1/connections") == before


TRACK = {"userId": "u1", "event": "E"}
STRICT = {"x-strict-mode": "1"}
GZIP = {"content-encoding": "gzip"}
HUGE = {**TRACK, "properties": {"text": "x" * 40_000}}

REFUSED_CALLS = [
    Bad("POST", "/v1/track", 400, "BadRequest", b""),
    Bad("POST", "/v1/track", 400, "BadRequest", b"{"),
    Bad("POST", "/v1/track", 400, "BadRequest", b'{"event":"E"} tail'),
    Bad("POST", "/v1/track", 400, "BadRequest", b'{"event":"\xff"}'),
    Bad("POST", "/v1/track", 400, "BadRequest", b'{"event":NaN}'),
    Bad("POST", "/v1/track", 400, "BadRequest", b"[" * 100_00),
    Bad("POST", "/v1/track", 400, "BadRequest", b"[]"),
    Bad("POST", "/v1/track", 400, "BadRequest", {"userId": "u1"}),
    Bad("POST", "/v1/track", 400, "BadRequest", {**TRACK, "properties": 5}),
    Bad("POST", "/v1/track", 400, "BadRequest", rb'{"event":"E","userId":"\ud800"}'),
    Bad("POST", "/v1/batch", 400, "BadRequest", {"batch": 5}),
    Bad("POST", "/v1/batch", 400, "BadRequest", {"batch": [{"type": "nosuch"}]}),
    Bad("POST", "/v1/track", 413, "PayloadTooLarge", HUGE),
    Bad("POST", "/v1/batch", 413, "PayloadTooLarge", {"batch": [HUGE] * 20}),
    Bad("POST", "/v1/track", 413, "PayloadTooLarge", gzip.compress(b" " * 50_000_000, mtime=0), GZIP),
    Bad("POST", "/v1/track", 400, "BadRequest", b"\x1f\x8bnonsense", GZIP),
    Bad("POST", "/v1/track", 400, "BadRequest", gzip.compress(json.dumps(TRACK).encode(), mtime=0)[:-9], GZIP),
    Bad("POST", "/v1/track", 400, "BadRequest", b"x", {"content-encoding": "br"}),
    Bad("POST", "/v1/track", 401, "Unauthorized", TRACK, {"authorization": "Basic bm9zdWNoOg=="}),
    Bad("POST", "/v1/track", 401, "Unauthorized", TRACK, {"authorization": ""}),
    Bad("POST", "/v1/track", 401, "Unauthorized", TRACK, {"authorization": "Digest x"}),
]


@pytest.fixture(scope="module")
def quiet(system: RunningSystem) -> Source:
    """Create a source that stores nothing but the markers of the test below."""
    return make_source(system)


@pytest.mark.parametrize("bad", REFUSED_CALLS, ids=str)
def test_the_track_api_returns_reasons_in_strict_mode_only(quiet: Source, bad: Bad) -> None:
    source = quiet
    with httpx.Client(base_url=source.system.base_url, timeout=15) as client:
        client.headers["authorization"] = f"Bearer {source.write_key}"
        permissive = bad.send(client)
        assert (permissive.status_code, permissive.json()) == (200, {})
        client.headers.update(STRICT)
        strict = bad.send(client)
    assert strict.status_code == bad.status, strict.text
    body = strict.json()
    body.pop("field", None)
    assert body == {
        "success": False,
        "code": bad.code,
        "message": body["message"],
        "meta": {"errors": [str(message) for message in body["meta"]["errors"]]},
    }
    assert body["meta"]["errors"]
    # Everything before a stored event in the log was processed when that event can be read.
    marker = f"marker {uuid.uuid4()}"
    source.send("track", {**TRACK, "messageId": marker})
    wait_until(lambda: marker in _message_ids(source), 60)
    assert all(id_.startswith("marker ") for id_ in _message_ids(source)), "a rejected event was stored"


def _message_ids(source: Source) -> list[str]:
    return [event["messageId"] for event in source.events()]


def test_a_body_above_the_gateways_limit_is_413_for_everyone(source: Source) -> None:
    response = HTTP.post(
        f"{source.system.base_url}/v1/batch", content=b" " * 5_000_000, auth=(source.write_key, ""), timeout=15
    )
    assert response.status_code == 413
    assert response.json()["code"] == "PayloadTooLarge"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def _read_object(*names: str) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(names), JSON, max_size=len(names))


MANAGED = _read_object(
    "name", "role", "connector", "strategy", "linkedConnections", "settings", "sendingMode", "target"
)


def _is_an_answer(response: httpx.Response) -> bool:
    return response.status_code in (200, 400, 401, 404, 413, 422, 501) and isinstance(response.json(), dict)


@GIVEN
@given(path=st.sampled_from(["/v1/connections", "/v1/pipelines"]), body=MANAGED | JSON)
def test_no_management_body_is_a_500(client: httpx.Client, path: str, body: Any) -> None:
    assert _is_an_answer(client.post(path, content=json.dumps(body)))


@GIVEN
@given(path=st.sampled_from(["/v1/connections", "/v1/track", "/v1/batch", "/v1/events"]), body=st.binary(max_size=200))
def test_no_bytes_are_a_500(source: Source, client: httpx.Client, path: str, body: bytes) -> None:
    assert _is_an_answer(client.post(path, content=body, headers=STRICT))


def test_the_worker_has_survived(source: Source) -> None:
    source.send("track", {**TRACK, "messageId": "after everything"})
    assert "after everything" in [event["messageId"] for event in source.wait_for(1)]
