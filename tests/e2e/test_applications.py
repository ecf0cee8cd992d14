"""The documented examples of the application endpoints, as curl sends them through real Envoy."""

import base64
import json
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import json_format
from msgspec import Raw

from headwater.api.messages.events import event_message
from headwater.events.raw import members
from headwater.v1 import applications_pb2 as pb
from headwater.v1.applications_pb2_grpc import ApplicationServiceStub
from tests.e2e.source import get, post
from tests.previews import PRINTED_BODY, find_schema, preview_body, preview_event
from tests.system import HTTP, RunningSystem

URL = "http://127.0.0.1:9/events"
PRINTED_USERS = (
    "schema=%7b%0a%09%09%09%09%09%09%09%22kind%22%3a%20%22object%22,%0a%09%09%09%09%09%09%09%22properties%22%3a%20%5b"
    "%0a%09%09%09%09%09%09%09%09%7b%0a%09%09%09%09%09%09%09%09%09%22name%22%3a%20%22email%22,%0a%09%09%09%09%09%09%09"
    "%09%09%22type%22%3a%20%7b%20%22kind%22%3a%20%22string%22,%20%22maxLength%22%3a%20120%20%7d%0a%09%09%09%09%09%09"
    "%09%09%7d%0a%09%09%09%09%09%09%09%5d%0a%09%09%09%09%09%09%7d"
)
PRINTED_SCHEMA = {
    "kind": "object",
    "properties": [
        {"name": "eventName", "type": {"kind": "string"}},
        {"name": "attributes", "type": {"kind": "map", "elementType": {"kind": "json"}}},
    ],
}


@pytest.fixture(params=["system", "postgresql_system"])
def server(request: pytest.FixtureRequest) -> RunningSystem:
    """Run every test of this file on both databases."""
    running: RunningSystem = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def dummy(server: RunningSystem) -> int:
    return connect(server)


def connect(server: RunningSystem, role: str = "Destination", connector: str = "dummy", **settings: str) -> int:
    body = {"name": "Dummy", "role": role, "connector": connector}
    if connector == "dummy":
        body["settings"] = settings or {"urlForDispatchingEvents": URL}  # type: ignore[assignment]  # any JSON
    return int(post(server, "/v1/connections", body)["id"])


def send(server: RunningSystem, id_: object, body: str | dict[str, Any]) -> httpx.Response:
    """Send the body as `curl --json` does."""
    headers = {**server.authorization, "content-type": "application/json", "accept": "application/json"}
    content = body if isinstance(body, str) else json.dumps(body)
    path = f"/v1/connections/{id_}/preview-send-event"
    return HTTP.post(f"{server.base_url}{path}", content=content.encode(), headers=headers, timeout=30)


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def failure(server: RunningSystem, path: str) -> tuple[int, str]:
    return error(HTTP.get(f"{server.base_url}{path}", headers=server.authorization, timeout=30))


def plain(schema: Any) -> Any:
    """Return a schema without empty members, as it is printed."""
    if isinstance(schema, dict):
        return {name: plain(value) for name, value in schema.items() if value not in ([], "")}
    return [plain(each) for each in schema] if isinstance(schema, list) else schema


def test_the_printed_preview(server: RunningSystem, dummy: int) -> None:
    response = send(server, dummy, PRINTED_BODY)
    assert response.status_code == 200, response.text
    assert response.json().keys() == {"preview"}
    head, _, body = response.json()["preview"].partition("\n\n")
    assert head.startswith(f"POST {URL}\nContent-Type: application/json\r\nIdempotency-Key: ")
    [sent] = json.loads(body)["events"]
    assert sent["type"] == "addToCart"
    assert sent["values"] == {
        "eventName": "Workout Completed",
        "attributes": {
            "workout_type": "Cardio",
            "duration_minutes": 45,
            "calories_burned": 380,
            "device": "Smartwatch",
        },
    }


def test_a_typed_preview_is_the_same(server: RunningSystem, dummy: int) -> None:
    body = preview_body(event=preview_event(context={"locale": "en-US"}))
    request = pb.PreviewSendEventRequest(id=dummy, type=body["type"])
    request.event.CopyFrom(event_message(members(Raw(json.dumps(body["event"]).encode()))))
    json_format.ParseDict(body["transformation"], request.transformation)
    json_format.ParseDict(body["outSchema"], request.out_schema)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        metadata = tuple(server.authorization.items())
        typed = ApplicationServiceStub(channel).PreviewSendEvent(request, metadata=metadata, timeout=30)
    assert typed.preview == send(server, dummy, body).json()["preview"]


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
def test_a_preview_with_a_function(server: RunningSystem, dummy: int, language: str) -> None:
    source = {
        "JavaScript": "function transform(event) { return {eventName: event.event, attributes: event.properties} }",
        "Python": "def transform(event):\n"
        "    return {'eventName': event['event'], 'attributes': event['properties']}\n",
    }[language]
    body = preview_body(transformation={"function": {"source": source, "language": language, "preserveJSON": False}})
    shown = [send(server, dummy, each).json()["preview"] for each in (body, PRINTED_BODY)]
    values = [json.loads(text.partition("\n\n")[2])["events"][0]["values"] for text in shown]
    assert values[0] == values[1]
    body["transformation"]["function"]["source"] = source.replace("transform", "convert")
    assert error(send(server, dummy, body)) == (422, "TransformationFailed")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"type": "purchase"}, 422, "EventTypeNotExist"),
        ({"event": preview_event(properties={"x": "y" * 66_000})}, 422, "InvalidEvent"),
        ({"outSchema": find_schema(eventName="string", attributes="json")}, 422, "SchemaNotAligned"),
        ({"transformation": {"mapping": {"eventName": "properties"}}}, 422, "TransformationFailed"),
        ({"event": preview_event(messageId=...)}, 400, "BadRequest"),
        ({"transformation": {"mapping": {"eventName": "("}}}, 400, "BadRequest"),
        ({"transformation": {"function": {"source": "x", "language": "Perl"}}}, 400, "BadRequest"),
        ({"transformation": None}, 400, "BadRequest"),
    ],
)
def test_documented_errors_of_previews(
    server: RunningSystem, dummy: int, changes: dict[str, Any], status: int, code: str
) -> None:
    assert error(send(server, dummy, preview_body(**changes))) == (status, code)


def test_connections_without_previews(server: RunningSystem) -> None:
    for id_, status in (
        (connect(server, "Source"), 400),
        (connect(server, "Source", "http"), 400),
        (2**31 - 1, 404),
        (0, 400),
        ("x", 400),
    ):
        assert send(server, id_, PRINTED_BODY).status_code == status, id_
    assert error(send(server, connect(server, operationDelay="0"), PRINTED_BODY)) == (503, "ServiceUnavailable")


def test_a_preview_is_not_slowed_down_by_a_large_event(server: RunningSystem, dummy: int) -> None:
    event = preview_event(properties={f"p{number}": ["x" * 100] * 100 for number in range(50)})
    assert error(send(server, dummy, preview_body(event=event))) == (422, "InvalidEvent")


SIGNING_SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four bytes").decode()
WITH_SECRETS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "http-webhook": (
        {
            "url": "https://receiver.example/hook",
            "secret": SIGNING_SECRET,
            "headers": [{"key": "x-token", "value": "hunter2-hunter2"}],
        },
        {"type": "send_event", "transformation": None, "outSchema": None},
        [SIGNING_SECRET, SIGNING_SECRET.removeprefix("whsec_"), "hunter2"],
    ),
    "segment-api": (
        {"writeKey": "topsecret-write-key", "endpoint": "https://receiver.example/v1/batch"},
        {"transformation": None, "outSchema": None},
        ["topsecret", base64.b64encode(b"topsecret-write-key:").decode()[:12]],
    ),
}


@pytest.mark.parametrize("connector", WITH_SECRETS)
def test_a_preview_has_no_secrets(server: RunningSystem, connector: str) -> None:
    settings, changes, secrets = WITH_SECRETS[connector]
    body = {"name": "x", "role": "Destination", "connector": connector, "settings": settings}
    id_ = post(server, "/v1/connections", body)["id"]
    type_ = get(server, f"/v1/connections/{id_}")["eventTypes"][0]["id"]
    response = send(server, id_, preview_body(**{"type": type_, **changes}))
    assert response.status_code == 200, response.text
    shown = response.json()["preview"]
    assert shown.startswith("POST https://receiver.example/")
    assert "[REDACTED]" in shown
    assert "Workout Completed" in shown
    for secret in secrets:
        assert secret not in shown


def test_the_printed_list_of_users(server: RunningSystem, dummy: int) -> None:
    path = f"/v1/connections/{dummy}/users"
    assert failure(server, f"{path}?{PRINTED_USERS}") == (422, "SchemaNotAligned")
    query = PRINTED_USERS.replace(",%20%22maxLength%22%3a%20120", "")
    page = get(server, f"{path}?{query}")
    assert page["users"][0] == {"email": "ada@example.com"}
    assert page["cursor"] == ""
    condition = {"property": "email", "operator": "starts with", "values": ["ada"]}
    filter_ = json.dumps({"logical": "and", "conditions": [condition]})
    assert get(server, f"{path}?{query}&filter={filter_}") == {"users": [{"email": "ada@example.com"}], "cursor": ""}
    for rest in ("&filter=null", "&filter={", "&cursor=x", f"&filter={filter_.replace('email', 'phone')}"):
        assert failure(server, f"{path}?{query}{rest}") == (400, "BadRequest"), rest
    assert failure(server, path) == (400, "BadRequest")
    assert failure(server, f"/v1/connections/{2**31 - 1}/users?{query}") == (404, "NotFound")


def test_the_schemas_of_users(server: RunningSystem, dummy: int) -> None:
    both = get(server, f"/v1/connections/{dummy}/schemas/user")["schemas"]
    assert [each["name"] for each in both["source"]["properties"]][:3] == ["dummyId", "email", "firstName"]
    assert [each["name"] for each in both["destination"]["properties"]][:2] == ["email", "firstName"]
    source = get(server, f"/v1/connections/{connect(server, 'Source')}/schemas/user")["schemas"]
    assert source == {"source": both["source"]}
    assert failure(server, f"/v1/connections/{2**31 - 1}/schemas/user") == (404, "NotFound")


@pytest.mark.parametrize("type_", ["page_view", "addToCart"])
def test_the_printed_schema_of_an_event_type(server: RunningSystem, dummy: int, type_: str) -> None:
    path = f"/v1/connections/{dummy}/schemas/event"
    assert plain(get(server, f"{path}?type={type_}")) == {"schema": PRINTED_SCHEMA}
    assert failure(server, f"{path}?type=purchase") == (404, "NotFound")
    assert failure(server, path) == (400, "BadRequest")
    assert failure(server, f"/v1/connections/{2**31 - 1}/schemas/event?type={type_}") == (404, "NotFound")


def test_a_pipeline_sends_events_of_a_type(server: RunningSystem, dummy: int) -> None:
    body = {
        "connection": dummy,
        "target": "Event",
        "name": "Carts",
        "enabled": True,
        "eventType": "addToCart",
        "transformation": preview_body()["transformation"],
        "outSchema": PRINTED_SCHEMA,
    }
    id_ = post(server, "/v1/pipelines", body)["id"]
    shown = get(server, f"/v1/pipelines/{id_}")
    assert (shown["eventType"], shown["enabled"]) == ("addToCart", True)
    assert plain(shown["outSchema"]) == PRINTED_SCHEMA
    types = [each["id"] for each in get(server, f"/v1/connections/{dummy}")["eventTypes"]]
    assert {"addToCart", "page_view"} <= set(types)

    def update(**changes: Any) -> tuple[int, str]:
        response = HTTP.put(
            f"{server.base_url}/v1/pipelines/{id_}", json={**body, **changes}, headers=server.authorization, timeout=30
        )
        return (200, "") if response.status_code == 200 else error(response)

    assert update(eventType="purchase", name="Other") == (200, ""), "the event type stays"
    assert get(server, f"/v1/pipelines/{id_}")["eventType"] == "addToCart"
    other = find_schema(eventName="string", attributes="json")
    assert update(outSchema=other) == (422, "SchemaNotAligned")
    for changes, status, code in (
        ({"eventType": "purchase"}, 422, "EventTypeNotExist"),
        ({"outSchema": other}, 422, "SchemaNotAligned"),
        ({"eventType": ""}, 400, "BadRequest"),
        ({"connection": 2**31 - 1}, 404, "NotFound"),
    ):
        response = HTTP.post(
            f"{server.base_url}/v1/pipelines", json={**body, **changes}, headers=server.authorization, timeout=30
        )
        assert error(response) == (status, code), changes
