"""The access log is part of the logs, and has the request id of each management call and of each error."""

import json
from pathlib import Path

import httpx

from tests.e2e.source import make_source
from tests.system import HTTP, start, wait_until


def test_the_access_log_has_management_calls_and_errors(tmp_path: Path) -> None:
    system = start(tmp_path / "data", HEADWATER_LOG_FORMAT="json", HEADWATER_ACCESS_LOG_SAMPLE="0")
    try:
        source = make_source(system)
        url, key = system.base_url, system.authorization

        def connect(body: bytes) -> httpx.Response:
            headers = {**key, "content-type": "application/json", "connect-protocol-version": "1"}
            return HTTP.post(f"{url}/headwater.v1.ConnectionService/GetConnection", content=body, headers=headers)

        responses = [
            (HTTP.get(f"{url}/v1/connections", headers=key), "/headwater.rest.v1.ConnectionService/ListConnections"),
            (HTTP.get(f"{url}/v1/connections"), "/headwater.rest.v1.ConnectionService/ListConnections"),
            (
                HTTP.get(f"{url}/v1/events/ada@private/trace", headers=key),
                "/headwater.v1.EventService/TraceEvent",
            ),
            (HTTP.get(f"{url}/v1/events/%ff/trace", headers=key), "/headwater.v1.EventService/TraceEvent"),
            (source.send("track", {"userId": "ada@private.example"}, **{"x-strict-mode": "1"}), "/v1/track"),
            (HTTP.get(f"{url}/v1/ada@private.example", headers=key), None),
            (connect(json.dumps({"id": source.id}).encode()), "/headwater.v1.ConnectionService/GetConnection"),
            (connect(b'{"id":7}'), "/headwater.v1.ConnectionService/GetConnection"),
        ]
        ids = {response.headers["x-request-id"]: response for response, _ in responses}
        wait_until(lambda: all(id_ in system.errors for id_ in ids), 20)
        lines = [json.loads(line) for line in system.errors.splitlines()]
        logged = {line["request_id"]: line for line in lines if line["event"] == "access"}
        found = [(logged[response.headers["x-request-id"]]) for response, _ in responses]
        assert [line.get("call") for line in found] == [call for _, call in responses]
        assert [line["status"] for line in found] == [response.status_code for response, _ in responses]
        assert [response.status_code for response, _ in responses] == [200, 401, 200, 400, 400, 404, 200, 404]

        accepted = source.send("track", {"userId": "u", "event": "E"})
        source.wait_for(1)
        assert accepted.headers["x-request-id"] not in system.errors
        assert "private" not in system.errors
        assert source.write_key not in system.errors
    finally:
        assert system.stop() == 0
