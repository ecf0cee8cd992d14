"""Management through real Envoy, as curl sees it: statuses, data after a restart, and the command line."""

import json
import os
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from headwater.connectors.registry import CONNECTORS
from headwater.v1 import connections_pb2 as pb
from headwater.v1.connections_pb2_grpc import ConnectionServiceStub
from tests.e2e.source import get, post
from tests.forked import run_command
from tests.system import HTTP, RunningSystem, free_port, start, wait_until
from tests.tenants import add_tenant

SCHEMA = '{"kind":"object","properties":[{"name":"email","type":{"kind":"string"}}]}'
SEEN_WITHIN_SECONDS = 15.0
"""Changes of another process apply within a second, and this machine may be busy."""


def send(system: RunningSystem, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
    headers = system.authorization if key is None else {"authorization": f"Bearer {key}"}
    return HTTP.request(method, f"{system.base_url}{path}", json=body, headers=headers, timeout=15)


def read_error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def command(system: RunningSystem, *arguments: str) -> str:
    """Return the output of `headwater …` while the server runs."""
    return run_command(*arguments, variables={**os.environ, "HEADWATER_DATA_DIR": str(system.data_dir)}).strip()


def make(system: RunningSystem, connector: str, role: str, **members: Any) -> int:
    body = {"name": connector, "role": role, "connector": connector, **members}
    return int(post(system, "/v1/connections", body)["id"])


def test_the_catalogue(system: RunningSystem) -> None:
    connectors = get(system, "/v1/connectors")["connectors"]
    listed = sorted(code for code, connector in CONNECTORS.items() if not connector.is_sample)
    assert [connector["code"] for connector in connectors] == listed
    javascript = get(system, "/v1/connectors/javascript")
    assert javascript in connectors
    assert (javascript["strategies"], javascript["available"]) == (True, True)
    assert "asDestination" not in javascript
    assert read_error(send(system, "GET", "/v1/connectors/fax")) == (404, "NotFound")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"connector": "csv"}, 400, "BadRequest"),
        ({"connector": "kafka"}, 400, "BadRequest"),
        ({"connector": "google-analytics", "role": "Source"}, 400, "BadRequest"),
        ({"connector": "webhook"}, 400, "BadRequest"),
        ({"connector": "fax"}, 422, "ConnectorNotExist"),
        ({"connector": "postgresql"}, 400, "BadRequest"),
        ({"connector": "postgresql", "settings": {"host": "h", "port": "5432"}}, 422, "InvalidSettings"),
        ({"connector": "dummy", "settings": {"operationDelay": 5}}, 422, "InvalidSettings"),
        ({"connector": "dummy", "settings": []}, 400, "BadRequest"),
        ({"connector": "dummy", "settings": "x"}, 400, "BadRequest"),
        ({"connector": "dummy", "name": "x" * 61}, 400, "BadRequest"),
        ({"connector": "dummy", "name": "a\0b"}, 400, "BadRequest"),
        ({"connector": "dummy", "authToken": "x"}, 400, "BadRequest"),
        ({"connector": "dummy", "linkedConnections": [1]}, 422, "LinkedConnectionNotExist"),
    ],
)
def test_invalid_connections_are_rejected(tenant: RunningSystem, body: dict[str, Any], status: int, code: str) -> None:
    before = get(tenant, "/v1/connections")
    response = send(tenant, "POST", "/v1/connections", {"name": "x", "role": "Destination", **body})
    assert read_error(response) == (status, code)
    assert get(tenant, "/v1/connections") == before


def test_a_dummy_from_its_creation_to_its_users(system: RunningSystem) -> None:
    source = make(system, "http", "Source")
    id_ = make(
        system,
        "dummy",
        "Destination",
        name="\N{GRINNING FACE}" * 60,
        settings={"operationDelay": "0-1ms"},
        linkedConnections=[source],
        strategy=None,
    )
    connection = get(system, f"/v1/connections/{id_}")
    assert (connection["name"], connection["connectorType"]) == ("\N{GRINNING FACE}" * 60, "Application")
    assert (connection["sendingMode"], connection["linkedConnections"]) == ("Server", [source])
    assert connection["eventTypes"][0] == {
        "id": "send_add_to_cart",
        "name": "Send Add to Cart",
        "description": "Send Add to Cart to Dummy",
        "filter": "",
    }
    assert "settings" not in connection
    assert get(system, f"/v1/connections/{source}")["linkedConnections"] == [id_]
    schemas = get(system, f"/v1/connections/{id_}/schemas/user")["schemas"]
    assert {schemas["source"]["kind"], schemas["destination"]["kind"]} == {"object"}
    page = get(system, f"/v1/connections/{id_}/users?schema={SCHEMA}")
    assert (len(page["users"]), page["users"][0], page["cursor"]) == (10, {"email": "ada@example.com"}, "")
    assert "schema" not in get(system, f"/v1/connections/{id_}/schemas/event?type=send_event_with_no_schema")
    assert read_error(send(system, "GET", f"/v1/connections/{id_}/schemas/event?type=x")) == (404, "NotFound")
    assert read_error(send(system, "GET", f"/v1/connections/{id_}/users?schema={SCHEMA}&filter={{}}")) == (
        400,
        "BadRequest",
    )


def test_a_list_has_each_connection_as_a_single_read(tenant: RunningSystem) -> None:
    """The gateway writes the single connection as JSON, and the server writes the list."""
    source = make(tenant, "javascript", "Source", strategy="Fusion")
    make(tenant, "dummy", "Destination", linkedConnections=[source], settings={"operationDelay": "1ms"})
    number = {"kind": "int", "bitSize": 64, "minimum": 0, "maximum": "9223372036854775807"}
    mapped = {
        "filter": {
            "logical": "or",
            "conditions": [{"property": "event", "operator": "is one of", "values": ["Ordered", "é"]}],
        },
        "outSchema": {"kind": "object", "properties": [{"name": "n", "type": number, "readOptional": True}]},
        "transformation": {"mapping": {"n": "traits.n"}},
    }
    for target, members in (("Event", {}), ("User", {}), ("User", mapped)):
        post(tenant, "/v1/pipelines", {"connection": source, "name": "P", "target": target, **members})
    listed = get(tenant, "/v1/connections")["connections"]
    for shown in listed:
        alone = get(tenant, f"/v1/connections/{shown['id']}")
        assert shown == {**alone, "eventTypes": []}


def test_a_list_may_be_longer_than_the_gateways_buffer(configured_system: RunningSystem) -> None:
    system = add_tenant(configured_system, "Long")
    source = make(system, "http", "Source")
    function = {"language": "Python", "source": f"def transform(event):\n    return {{}}\n#{'x' * 49_000}"}
    paths = {"inPaths": ["userId"], "outPaths": ["email"], "preserveJSON": False}
    email = {"name": "email", "type": {"kind": "string"}, "readOptional": True}
    pipeline = {
        "connection": source,
        "name": "P",
        "target": "User",
        "outSchema": {"kind": "object", "properties": [email]},
        "transformation": {"function": {**function, **paths}},
    }
    for _ in range(180):
        post(system, "/v1/pipelines", pipeline)
    result = send(system, "GET", "/v1/connections")
    assert result.headers["content-type"] == "application/json"
    assert len(result.content) > 10_000_000 > 8 << 20
    (connection,) = result.json()["connections"]
    assert [shown["transformation"]["function"]["source"] for shown in connection["pipelines"]] == [
        function["source"]
    ] * 180
    assert read_error(send(system, "GET", "/v1/connections", key="api_unknown")) == (401, "Unauthorized")
    alone = get(system, f"/v1/connections/{source}")
    assert connection == alone
    assert len(json.dumps(alone)) > 8 << 20
    with grpc.insecure_channel(f"127.0.0.1:{system.port}", [("grpc.max_receive_message_length", -1)]) as channel:
        metadata = (("authorization", f"Bearer {system.api_key}"),)
        typed = ConnectionServiceStub(channel).ListConnections(pb.ListConnectionsRequest(), metadata=metadata)
    assert typed.ByteSize() > 8 << 20


def test_connections_are_linked(system: RunningSystem) -> None:
    source, destination = make(system, "http", "Source"), make(system, "dummy", "Destination")
    path = f"/v1/connections/{source}/links/{destination}"
    for method, linked in (("POST", [destination]), ("POST", [destination]), ("DELETE", []), ("DELETE", [])):
        response = send(system, method, path)
        assert (response.status_code, response.json()) == (200, {})
        assert get(system, f"/v1/connections/{source}")["linkedConnections"] == linked
    assert read_error(send(system, "POST", f"/v1/connections/{source}/links/{source}")) == (400, "BadRequest")
    assert read_error(send(system, "POST", f"/v1/connections/{source}/links/0")) == (400, "BadRequest")
    assert read_error(send(system, "POST", f"/v1/connections/{source}/links/x")) == (400, "BadRequest")
    assert read_error(send(system, "POST", f"/v1/connections/{source}/links/1")) == (404, "NotFound")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("auth-url?connector=fax&role=Source&redirectURI=x", 404, "NotFound"),
        ("auth-url?connector=klaviyo&role=x&redirectURI=x", 400, "BadRequest"),
        ("auth-url?connector=klaviyo&role=Source&redirectURI=x", 400, "BadRequest"),
        ("auth-token?redirectURI=x&authCode=x", 400, "BadRequest"),
        ("auth-token?connector=fax&redirectURI=x&authCode=x", 422, "ConnectorNotExist"),
        ("auth-token?connector=klaviyo&redirectURI=x&authCode=x", 400, "BadRequest"),
    ],
)
def test_authorization(system: RunningSystem, path: str, status: int, code: str) -> None:
    assert read_error(send(system, "GET", f"/v1/connections/{path}")) == (status, code)


def test_keys_and_workspaces_of_the_command_line(system: RunningSystem) -> None:
    key = command(system, "keys", "create", "All", "--every-workspace")
    wait_until(lambda: send(system, "GET", "/v1/workspaces", key=key).status_code == 200, SEEN_WITHIN_SECONDS)
    assert read_error(send(system, "GET", "/v1/connections", key=key)) == (403, "Forbidden")
    second = send(system, "POST", "/v1/workspaces", {"name": "Second"}, key=key).json()["id"]
    its = send(system, "POST", "/v1/keys", {"name": "Its", "workspace": second}, key=key).json()
    assert send(system, "GET", "/v1/workspaces/current", key=its["token"]).json()["name"] == "Second"
    assert read_error(send(system, "POST", "/v1/workspaces", {"name": "x"}, key=its["token"])) == (403, "Forbidden")
    assert read_error(send(system, "POST", "/v1/keys", {"name": "x"}, key=its["token"])) == (403, "Forbidden")
    header = {"authorization": f"Bearer {its['token']}", "headwater-workspace": "1"}
    assert read_error(HTTP.get(f"{system.base_url}/v1/connections", headers=header)) == (404, "NotFound")
    assert str(second) in command(system, "workspaces", "list")
    assert its["token"] not in command(system, "keys", "list")

    assert send(system, "DELETE", f"/v1/keys/{its['id']}", key=key).status_code == 200
    assert read_error(send(system, "GET", "/v1/workspaces/current", key=its["token"])) == (401, "Unauthorized"), (
        "immediately"
    )
    command(system, "workspaces", "delete", str(second))
    wait_until(
        lambda: (
            second not in [each["id"] for each in send(system, "GET", "/v1/workspaces", key=key).json()["workspaces"]]
        ),
        SEEN_WITHIN_SECONDS,
    )
    (id_,) = [each["id"] for each in send(system, "GET", "/v1/keys", key=key).json()["keys"] if each["name"] == "All"]
    command(system, "keys", "revoke", str(id_))
    wait_until(lambda: send(system, "GET", "/v1/workspaces", key=key).status_code == 401, SEEN_WITHIN_SECONDS)


def test_settings_survive_a_restart_and_a_change_of_the_key(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    system = start(data, port)
    id_ = make(system, "dummy", "Destination", settings={"urlForDispatchingEvents": "http://pass:word@example.com/"})
    assert system.stop() == 0
    assert (data / "secret-key").stat().st_mode & 0o777 == 0o600
    for path in data.iterdir():
        assert not path.is_file() or b"pass:word" not in path.read_bytes(), path

    old = (data / "secret-key").read_text().strip()
    (data / "secret-key").unlink()
    system = start(data, port, HEADWATER_SECRET_KEY="the key of this year: 32 characters")
    assert "cannot be decrypted: their key is missing" in system.errors
    assert get(system, f"/v1/connections/{id_}")["eventTypes"] == [], "a lost key costs no more than what it opens"
    assert read_error(send(system, "GET", f"/v1/connections/{id_}/schemas/user")) == (503, "ServiceUnavailable")
    assert system.stop() == 0

    keys = {"HEADWATER_SECRET_KEY": "the key of this year: 32 characters", "HEADWATER_OLD_SECRET_KEYS": old}
    system = start(data, port, **keys)
    assert get(system, f"/v1/connections/{id_}/schemas/user")["schemas"]
    assert "those of 1 since now" in rotate(data, **keys)
    assert system.stop() == 0
    assert "pass:word" not in system.errors
    assert "those of 0 since now" in rotate(data, HEADWATER_SECRET_KEY=keys["HEADWATER_SECRET_KEY"]), (
        "the key of this year opens all"
    )


def rotate(data: Path, **keys: str) -> str:
    """Return the output of `headwater secrets rotate` with these keys."""
    return run_command("secrets", "rotate", variables={**os.environ, **keys, "HEADWATER_DATA_DIR": str(data)})


def test_a_write_key_sends_events_and_nothing_else(system: RunningSystem) -> None:
    source = make(system, "http", "Source")
    (key,) = get(system, f"/v1/connections/{source}/event-write-keys")["keys"]
    for method, path in (
        ("GET", "/v1/connections"),
        ("GET", f"/v1/connections/{source}"),
        ("DELETE", f"/v1/connections/{source}"),
        ("GET", "/v1/connectors"),
        ("GET", "/v1/keys"),
        ("POST", "/v1/workspaces"),
        ("GET", "/v1/events"),
    ):
        body = {"name": "x"} if method == "POST" else None
        assert read_error(send(system, method, path, body, key=key)) == (400, "BadRequest")
    accepted = HTTP.post(f"{system.base_url}/v1/track", json={"userId": "u", "event": "E"}, auth=(key, ""))
    assert (accepted.status_code, json.loads(accepted.text)) == (200, {})
