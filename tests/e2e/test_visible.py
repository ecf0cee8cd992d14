"""Every rejected event can be found, and every error names one cause, in the running system."""

import json
from typing import Any

import httpx
import pytest

from tests.e2e.source import Source, get, make_source, post
from tests.e2e.test_management import command
from tests.system import HTTP, RunningSystem, wait_until

EVENT = {"userId": "u", "event": "E", "messageId": "m"}
INTEGER = "must be an integer from -2147483648 to 2147483647"


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


def track(
    system: RunningSystem, key: str | None, *, query: str = "", content: bytes | None = None, **headers: str
) -> httpx.Response:
    body = json.dumps(EVENT).encode() if content is None else content
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return HTTP.post(f"{system.base_url}/v1/track{query}", content=body, headers=headers)


def test_a_call_with_an_unknown_key_is_listed_counted_and_logged(system: RunningSystem) -> None:
    key = command(system, "keys", "create", "Everything", "--every-workspace")
    everything = {"authorization": f"Bearer {key}"}

    def listed(path: str = "/v1/events/rejected?limit=1000", **headers: str) -> Any:
        return HTTP.get(f"{system.base_url}{path}", headers=everything | headers)

    wait_until(lambda: listed().status_code == 200, 10)
    body = json.dumps({**EVENT, "event": "Zoë's"}, ensure_ascii=False)
    assert track(system, "nobody-has-this-key", content=body.encode()).json() == {}

    def found() -> list[dict[str, Any]]:
        return [event for event in listed().json()["events"] if event.get("bodyText") == body]

    wait_until(lambda: bool(found()), 30)
    (event,) = found()
    assert (event["code"], event["message"]) == ("Unauthorized", "the write key is not known")
    assert "connection" not in event
    counts = listed("/v1/events/rejected/counts").json()["counts"]
    assert any((row["connection"], row["code"]) == (0, "Unauthorized") and int(row["count"]) > 0 for row in counts)
    restricted = get(system, "/v1/events/rejected?limit=1000")["events"]
    assert all(event.get("bodyText") != body for event in restricted)
    assert listed(**{"headwater-workspace": "7"}).status_code == 404
    lines = [line for line in system.errors.splitlines() if "calls with an unknown write key" in line]
    assert lines
    assert all("nobody-has" not in line for line in system.errors.splitlines())


@pytest.mark.parametrize(
    ("with_key", "content", "code", "message"),
    [
        (False, None, "Unauthorized", "the write key is not known"),
        (None, None, "Unauthorized",
         "a write key is required: as Basic user, as Bearer token, in X-Write-Key, or as writeKey in the body"),
        (True, b"{", "BadRequest", "the body is not JSON: it ends too early"),
        (True, b"", "BadRequest", "the body is empty: it must be JSON"),
        (True, b" " * 40_000, "PayloadTooLarge", "the body is larger than 32768 bytes"),
    ],
)  # fmt: skip
def test_a_verbose_response_states_why_a_call_is_rejected(
    system: RunningSystem, source: Source, with_key: bool | None, content: bytes | None, code: str, message: str
) -> None:
    key = None if with_key is None else source.write_key if with_key else "unknown"
    assert (track(system, key, content=content).json()) == {}
    verbose = track(system, key, query="?verbose=true", content=content)
    assert verbose.status_code == 200
    assert verbose.json() == {"success": False, "code": code, "path": "", "message": message, "events": []}
    strict = track(system, key, query="?verbose=true", content=content, **{"x-strict-mode": "1"})
    assert strict.status_code in (400, 401, 413)
    assert (strict.json()["code"], strict.json()["message"]) == (code, message)


def test_a_source_without_a_pipeline_has_that_outcome(system: RunningSystem) -> None:
    id_ = post(system, "/v1/connections", {"name": "Bare", "role": "Source", "connector": "http"})["id"]
    key = get(system, f"/v1/connections/{id_}/event-write-keys")["keys"][0]
    assert [warning["code"] for warning in get(system, f"/v1/connections/{id_}/test")["warnings"]] == ["NoPipeline"]
    body = json.dumps({**EVENT, "messageId": "bare"}).encode()

    def outcomes() -> list[str]:
        response = track(system, key, query="?verbose=true", content=body).json()
        return [event["outcome"] for event in response["events"]]

    assert outcomes() in (["NoPipeline"], ["Pending"])
    wait_until(lambda: get(system, "/v1/events/bare/trace")["traces"][0]["outcome"] != "Pending", 30)
    (trace,) = get(system, "/v1/events/bare/trace")["traces"]
    assert (trace["outcome"], trace["steps"]) == ("NoPipeline", [])
    assert trace["message"].startswith("no enabled pipeline of the source took this event")
    pipeline = {"connection": id_, "target": "Event", "name": "E", "enabled": True}
    post(system, "/v1/pipelines", pipeline)
    assert get(system, f"/v1/connections/{id_}/test")["warnings"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("GET", "/v1/connections/seven", None, f"id {INTEGER}"),
        ("GET", "/v1/connections/99999999999999", None, f"id {INTEGER}"),
        ("DELETE", "/v1/connections/1.5", None, f"id {INTEGER}"),
        ("GET", "/v1/connections/%22x%5C%22%0a", None, f"id {INTEGER}"),
        ("GET", "/v1/events?limit=x", None, f"limit {INTEGER}"),
        ("GET", "/v1/events?limit=1&limit=2", None, "limit must not be repeated"),
        ("GET", "/v1/events?ascending=maybe", None, "ascending must be true or false"),
        ("GET", "/v1/events/rejected?connection=x", None, f"connection {INTEGER}"),
        ("POST", "/v1/pipelines", b'{"connection":"x"}', f"connection {INTEGER}"),
        ("POST", "/v1/pipelines", b'{"enabled":"x"}', "enabled must be true or false"),
        ("POST", "/v1/pipelines", b'{"transformation":{"mapping":7}}', "transformation.mapping must be an object"),
        ("POST", "/v1/pipelines", b'{"transformation":[]}', "the body has an array where its member is not an array"),
        ("POST", "/v1/pipelines", b"[]", "the body must be a JSON object"),
        ("POST", "/v1/connections", b'{"name":7}', "name must be a string"),
        ("POST", "/v1/connections", b'{"settings":7}', "settings must be an object"),
        ("POST", "/v1/connections", b'{"linkedConnections":["x"]}', f"linkedConnections[0] {INTEGER}"),
        ("POST", "/v1/connections", b'{"linkedConnections":[{}]}', "linkedConnections must not be an object"),
        ("POST", "/v1/connections", b"{",
         "the body is not JSON: Unexpected end of string. Expected an object key or }."),
        ("POST", "/v1/connections", b'{"name":"\xff"}', "the body is not JSON: Encountered non UTF-8 code points."),
    ],
)  # fmt: skip
def test_errors_of_the_gateway_have_their_reason(
    system: RunningSystem, method: str, path: str, body: bytes | None, message: str
) -> None:
    response = HTTP.request(method, system.base_url + path, content=body, headers=system.authorization)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["message"]) == (400, "BadRequest", message)
    named = None if message.startswith("the body") else message.partition(" ")[0]
    assert error.get("field") == named


@pytest.mark.parametrize(
    ("language", "source", "message"),
    [
        ("JavaScript", "const transform = () => ({ v: [{ a: 1 / 0 }] })",
         "«v[0].a» must be JSON, which has neither NaN nor infinities"),
        ("Python", "def transform(r): return {'v': [{'a': float('nan')}]}",
         "«v» must be JSON, which has neither NaN nor infinities"),
        ("JavaScript", "const transform = () => { throw new Error('half \\ud83d') }", "JavaScript: Error: half \ufffd"),
    ],
)  # fmt: skip
def test_a_trial_of_a_function_returns_its_error(
    system: RunningSystem, language: str, source: str, message: str
) -> None:
    schema = {"kind": "object", "properties": [{"name": "v", "type": {"kind": "json"}, "readOptional": True}]}
    function = {
        "language": language,
        "source": source,
        "preserveJSON": False,
        "inPaths": ["v"],
        "outPaths": ["v"],
    }
    response = HTTP.post(
        f"{system.base_url}/v1/transformations",
        json={"data": {"v": 1}, "inSchema": schema, "outSchema": schema, "transformation": {"function": function}},
        headers=system.authorization,
    )
    assert response.status_code == 422, response.text
    assert message in response.json()["error"]["message"]
