"""Pipelines through real Envoy: the exact bodies of requests and responses of REST callers."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.source import get, post
from tests.system import HTTP, RunningSystem


@pytest.fixture(params=["system", "postgresql_system"])
def server(request: pytest.FixtureRequest) -> RunningSystem:
    """Run every test of this file on both databases."""
    running: RunningSystem = request.getfixturevalue(request.param)
    return running


TRACKS = {"logical": "and", "conditions": [{"property": "type", "operator": "is", "values": ["track"]}]}
NOTHING = {
    "eventType": "",
    "filter": None,
    "inSchema": None,
    "outSchema": None,
    "transformation": None,
    "query": None,
    "format": None,
    "path": "",
    "sheet": None,
    "compression": "",
    "formatSettings": None,
    "orderBy": None,
    "userIDColumn": None,
    "updatedAtColumn": None,
    "updatedAtFormat": None,
    "incremental": None,
    "exportMode": None,
    "matching": None,
    "updateOnDuplicates": False,
    "tableName": None,
    "tableKey": "",
    "scheduleStart": 5,
    "colour": "red",
}
"""Every member absent if it can be, and two unknown ones."""


def text(name: str, **attributes: Any) -> dict[str, Any]:
    """Return a text property in the form of requests."""
    return {"name": name, "type": {"kind": "string"}, **attributes}


def shown(*properties: dict[str, Any]) -> dict[str, Any]:
    """Return a schema in the form of responses: with every list."""
    type_ = {"kind": "string", "values": [], "properties": []}
    listed = [{**property_, "type": {**type_, **property_["type"]}, "description": ""} for property_ in properties]
    return {"kind": "object", "values": [], "properties": listed}


def schema(*properties: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "object", "properties": list(properties)}


def call(server: RunningSystem, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    response = HTTP.request(method, f"{server.base_url}{path}", json=body, headers=server.authorization, timeout=15)
    return response.status_code, response.json()


def connect(server: RunningSystem, connector: str, role: str) -> int:
    id_: int = post(server, "/v1/connections", {"name": "C", "role": role, "connector": connector})["id"]
    return id_


@pytest.fixture
def webhook(server: RunningSystem) -> Iterator[int]:
    id_ = connect(server, "http", "Source")
    yield id_
    HTTP.delete(f"{server.base_url}/v1/connections/{id_}", headers=server.authorization)


@pytest.fixture
def dummy(server: RunningSystem) -> int:
    return connect(server, "dummy", "Source")


def test_a_collector(server: RunningSystem, webhook: int) -> None:
    body = {**NOTHING, "connection": webhook, "target": "Event", "name": "Tracks", "enabled": True, "filter": TRACKS}
    created = post(server, "/v1/pipelines", body)
    id_ = created["id"]
    assert created == {"id": id_} and isinstance(id_, int)
    pipeline = {
        "id": id_,
        "name": "Tracks",
        "connector": "http",
        "connectorType": "SDK",
        "connection": webhook,
        "connectionRole": "Source",
        "target": "Event",
        "enabled": True,
        "filter": TRACKS,
    }
    assert get(server, f"/v1/pipelines/{id_}") == pipeline
    assert get(server, f"/v1/connections/{webhook}")["pipelines"] == [pipeline]
    assert [one["pipelines"] for one in get(server, "/v1/connections")["connections"] if one["id"] == webhook] == [
        [pipeline]
    ]
    # Members that cannot be changed are ignored, and absent ones are removed.
    new = {"name": "All", "connection": 5, "target": "User", "eventType": "x", "schedulePeriod": "1h"}
    assert call(server, "PUT", f"/v1/pipelines/{id_}", new) == (200, {})
    del pipeline["filter"]
    assert get(server, f"/v1/pipelines/{id_}") == {**pipeline, "name": "All", "enabled": False}
    assert call(server, "PUT", f"/v1/pipelines/{id_}/status", {"enabled": True}) == (200, {})
    assert get(server, f"/v1/pipelines/{id_}")["enabled"] is True
    assert call(server, "PUT", f"/v1/pipelines/{id_}/status", {"enabled": None}) == (200, {})
    assert get(server, f"/v1/pipelines/{id_}")["enabled"] is False
    assert call(server, "DELETE", f"/v1/pipelines/{id_}") == (200, {})
    assert call(server, "GET", f"/v1/pipelines/{id_}")[0] == 404


MISSPELT = schema(text("email", readOptionnal=True))
NESTED = schema({"name": "a", "type": schema({"name": "b", "type": {"kind": "string", "maxlength": 3}})})


@pytest.mark.parametrize("member", ["inSchema", "in_schema", "outSchema", "out_schema"])
@pytest.mark.parametrize(("found", "unknown"), [(MISSPELT, "readOptionnal"), (NESTED, "maxlength")])
def test_unknown_members_of_schemas_are_refused(system: RunningSystem, member: str, found: Any, unknown: str) -> None:
    """The gateway would leave them out, and the schema would have another meaning."""
    body = {"connection": 1, "target": "User", "name": "People", member: found}
    calls = [("POST", "/v1/pipelines", body), ("PUT", "/v1/pipelines/1", body)]
    for method, path, sent in [*calls, ("POST", "/v1/pipelines/try", {"draft": body})]:
        status, refused = call(system, method, path, sent)
        message = f"{member} has the unknown member {unknown}"
        assert (status, refused) == (400, {"error": {"code": "BadRequest", "message": message, "field": member}})


def test_members_of_other_objects_are_not_those_of_schemas(system: RunningSystem) -> None:
    """Texts and other objects of a pipeline may look like a schema with an unknown member."""
    connection = connect(system, "http", "Source")
    source = 'function transform(event) { return {"inSchema": {"nobody": event.userId}} }'
    body = {
        **NOTHING,
        "connection": connection,
        "target": "User",
        "name": '"outSchema": {"x": 1}',
        "outSchema": schema(text("email", description='{"outSchema": {"x": 1}}', readOptional=True)),
        "transformation": {
            "mapping": None,
            "function": {"source": source, "language": "JavaScript", "inPaths": ["userId"], "outPaths": ["email"]},
        },
    }
    assert call(system, "POST", "/v1/pipelines", body)[0] == 200


def test_an_import_from_events(server: RunningSystem, webhook: int) -> None:
    body = {
        **NOTHING,
        "connection": webhook,
        "target": "User",
        "name": "People",
        "outSchema": schema(text("email", readOptional=True)),
        "transformation": {"mapping": {"email": "traits.email"}, "function": None},
    }
    shown_ = get(server, f"/v1/pipelines/{post(server, '/v1/pipelines', body)['id']}")
    assert shown_["transformation"] == {"mapping": {"email": "traits.email"}}
    assert shown_["outSchema"] == shown(text("email", readOptional=True))
    events = get(server, "/v1/events/schema")["properties"]
    assert shown_["inSchema"]["properties"] == [one for one in events if one["name"] != "kpid"]
    assert shown_.keys() == {
        *("id", "name", "connector", "connectorType", "connection", "connectionRole", "target", "enabled"),
        *("transformation", "inSchema", "outSchema"),
    }


def test_an_import_from_an_application(server: RunningSystem, dummy: int) -> None:
    exists = {"property": "favourite_movie", "operator": "exists", "values": []}
    number = {"name": "n", "type": {"kind": "int", "bitSize": 64, "minimum": 5, "maximum": "9007199254740993"}}
    body: dict[str, Any] = {
        **NOTHING,
        "connection": dummy,
        "target": "User",
        "name": "Customers",
        "incremental": True,
        "filter": {"logical": "or", "conditions": [exists]},
        "inSchema": schema(text("email"), text("favourite_movie", readOptional=True), number),
        "outSchema": schema(text("email", readOptional=True), {**number, "readOptional": True}),
        "transformation": {
            "mapping": None,
            "function": {
                "language": "Python",
                "source": "def transform(user):\n    return user\n",
                "preserveJSON": True,
                "inPaths": ["email", "n"],
                "outPaths": ["email", "n"],
            },
        },
    }
    id_ = post(server, "/v1/pipelines", body)["id"]
    pipeline = get(server, f"/v1/pipelines/{id_}")
    assert pipeline == {
        "id": id_,
        "name": "Customers",
        "connector": "dummy",
        "connectorType": "Application",
        "connection": dummy,
        "connectionRole": "Source",
        "target": "User",
        "enabled": False,
        "filter": {"logical": "or", "conditions": [exists]},
        "incremental": True,
        "transformation": {"function": body["transformation"]["function"]},
        "inSchema": shown(text("email"), text("favourite_movie", readOptional=True), number),
        "outSchema": shown(text("email", readOptional=True), {**number, "readOptional": True}),
        "running": False,
    }
    # A returned schema is valid in a request.
    assert call(server, "PUT", f"/v1/pipelines/{id_}", pipeline) == (200, {})
    assert get(server, f"/v1/pipelines/{id_}") == pipeline
    assert call(server, "PUT", f"/v1/pipelines/{id_}/schedule", {"period": "24h"}) == (200, {})
    scheduled = get(server, f"/v1/pipelines/{id_}")
    assert scheduled == {**pipeline, "schedulePeriod": "24h", "scheduleStart": scheduled["scheduleStart"]}
    assert 0 <= scheduled["scheduleStart"] < 1_440
    for off in ({"period": None}, {}):
        assert call(server, "PUT", f"/v1/pipelines/{id_}/schedule", off) == (200, {})
        assert get(server, f"/v1/pipelines/{id_}") == pipeline
    assert call(server, "PUT", f"/v1/pipelines/{id_}/status", {"enabled": True}) == (200, {})
    assert get(server, f"/v1/pipelines/{id_}") == {**pipeline, "enabled": True}


def test_an_export_to_an_application_and_events_sent_to_it(server: RunningSystem) -> None:
    destination = connect(server, "dummy", "Destination")
    profile = [text(name, readOptional=True) for name in ("email", "name")]
    common = {
        "connector": "dummy",
        "connectorType": "Application",
        "connection": destination,
        "connectionRole": "Destination",
        "enabled": False,
    }
    export = {
        "name": "Profiles",
        "target": "User",
        "matching": {"in": "email", "out": "email"},
        "exportMode": "CreateOrUpdate",
        "updateOnDuplicates": True,
        "transformation": {"mapping": {"fullName": "name"}},
    }
    body = {
        "connection": destination,
        **export,
        "inSchema": schema(*profile),
        "outSchema": schema(text("email"), text("fullName")),
    }
    id_ = post(server, "/v1/pipelines", body)["id"]
    assert get(server, f"/v1/pipelines/{id_}") == {
        "id": id_,
        **common,
        **export,
        "inSchema": shown(*profile),
        "outSchema": shown(text("email"), text("fullName")),
        "running": False,
    }
    send = {"name": "Events", "target": "Event", "eventType": "send_custom_event"}
    mapped = {"transformation": {"mapping": {"email": "traits.email"}}, "outSchema": schema(text("email"))}
    id_ = post(server, "/v1/pipelines", {"connection": destination, **send, **mapped})["id"]
    sent = get(server, f"/v1/pipelines/{id_}")
    assert len(sent.pop("inSchema")["properties"]) == 18
    assert sent == {"id": id_, **common, **send, **mapped, "outSchema": shown(text("email"))}


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"target": "Event", "connection": 5}, 404, "NotFound"),
    ({"target": "Event", "connection": 0, "name": ""}, 400, "BadRequest"),
    ({"target": "Event", "name": "x" * 61}, 400, "BadRequest"),
    ({"target": "Event", "inSchema": schema(text("email"))}, 400, "BadRequest"),
    ({"target": "Event", "query": "SELECT 1"}, 400, "BadRequest"),
    ({"target": "User", "outSchema": {"kind": "string"}}, 400, "BadRequest"),
    ({"target": "User", "outSchema": schema()}, 400, "BadRequest"),
    ({"target": "User", "outSchema": schema({"name": "n", "type": {"kind": "int"}})}, 400, "BadRequest"),
    ({"target": "User", "outSchema": schema(text("email", readOptional=True))}, 400, "BadRequest"),
    ({"target": "User", "transformation": {}}, 400, "BadRequest"),
    ({"target": "User", "transformation": {"mapping": {"email": 5}}}, 400, "BadRequest"),
    ({"target": "User", "filter": {}}, 400, "BadRequest"),
    ({"target": "User", "filter": {"logical": "and", "conditions": []}}, 400, "BadRequest"),
    ({"target": "User", "formatSettings": {"a": 1}}, 400, "BadRequest"),
    ({"target": "User", "name": 5}, 400, "BadRequest"),
]


@pytest.mark.parametrize(("members", "status", "code"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_pipeline_that_breaks_a_rule_is_rejected(
    server: RunningSystem, webhook: int, members: dict[str, Any], status: int, code: str
) -> None:
    got, body = call(server, "POST", "/v1/pipelines", {"connection": webhook, "name": "P", **members})
    assert (got, body["error"]["code"]) == (status, code), body
    assert get(server, f"/v1/connections/{webhook}")["pipelines"] == []


def test_conflicts(server: RunningSystem, webhook: int) -> None:
    collector = {"connection": webhook, "target": "Event", "name": "P"}
    id_ = post(server, "/v1/pipelines", collector)["id"]
    status, body = call(server, "POST", "/v1/pipelines", collector)
    assert (status, body["error"]["code"]) == (422, "TargetExist")
    assert call(server, "PUT", f"/v1/pipelines/{id_}/schedule", {"period": "1h"})[0] == 400
    sender = {"connection": connect(server, "dummy", "Destination"), "target": "Event", "name": "P"}
    for event_type, code in (("x", "EventTypeNotExist"), ("send_identity", "SchemaNotAligned")):
        status, body = call(server, "POST", "/v1/pipelines", {**sender, "eventType": event_type})
        assert (status, body["error"]["code"]) == (422, code)
    sender_id = post(server, "/v1/pipelines", {**sender, "eventType": "send_generic_event", "enabled": True})["id"]
    assert get(server, f"/v1/pipelines/{sender_id}")["enabled"] is True
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("PUT", "/status"), ("PUT", "/schedule")):
        wrong = {"name": "", "inSchema": {"kind": "x"}} if method == "PUT" and not path else None
        given = wrong or ({} if method == "PUT" else None)
        for id_, status in (("5", 404), ("0", 400), ("2147483648", 400), ("x", 400)):
            assert call(server, method, f"/v1/pipelines/{id_}{path}", given)[0] == status, (method, path, id_)
