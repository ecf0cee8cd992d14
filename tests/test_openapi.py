"""The generated OpenAPI document: valid, complete, and equal to the JSON that proto3 and the decisions prescribe."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.test_protos import METHODS, route, rules

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT: dict[str, Any] = json.loads((ROOT / "gen/headwater/v1/openapi.json").read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS: dict[str, Any] = {
    f"{verb.upper()} {path}": operation for path, item in DOCUMENT["paths"].items() for verb, operation in item.items()
}


def test_it_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_of_the_protos_is_an_operation_and_there_are_no_others() -> None:
    documented = {
        (operation["x-grpc-method"], _shape(each))
        for name, operation in OPERATIONS.items()
        for each in (name, *operation.get("x-aliases", ()))
    }
    in_protos = {
        (f"{method.containing_service.full_name}/{method.name}", _shape(f"{verb} {path}"))
        for method in METHODS
        for verb, path in map(route, rules(method))
    }
    assert documented == in_protos


def _shape(name: str) -> str:
    return re.sub(r"\{\w+\}", "{}", name)


def test_operation_ids_are_plain_and_distinct() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) or name.endswith("Json")] == []


def test_a_call_has_one_operation_unless_its_routes_differ() -> None:
    calls = Counter(operation["x-grpc-method"] for operation in OPERATIONS.values() if "deprecated" not in operation)
    assert {name: count for name, count in calls.items() if count > 1} == {
        "headwater.rest.v1.PipelineService/GetPipelineMetrics": 4  # by minute, hour and day, and between dates
    }


def test_sets_of_values_are_components() -> None:
    inline = [path for path, schema in _schemas(DOCUMENT, "") if "enum" in schema and path.count("/") > 3]
    assert inline == []
    values = [tuple(schema["enum"]) for schema in SCHEMAS.values() if "enum" in schema]
    assert len(set(values)) == len(values)


def _schemas(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _schemas(each, f"{path}/{index}")
    if isinstance(value, dict):
        yield path, value
        for name, each in value.items():
            yield from _schemas(each, f"{path}/{name}")


@pytest.mark.parametrize(
    ("component", "members"),
    [
        (
            "StoredEvent",
            "connectionId messageId type traits timestamp originalTimestamp sentAt receivedAt",
        ),
        ("EventSample", ""),
    ],
)
def test_members_that_are_always_there_are_required(component: str, members: str) -> None:
    assert set(SCHEMAS[component].get("required", ())) == set(members.split())


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_a_description_and_its_errors(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["description"]
    assert operation["summary"]
    assert "503" in operation["responses"]
    assert [status for status in operation["responses"] if status.startswith("2")]
    for parameter in operation.get("parameters", ()):
        assert parameter["description"], parameter["name"]
    if "apiKey" in {scheme for security in operation["security"] for scheme in security}:
        assert {"400", "401"} <= operation["responses"].keys()


@pytest.mark.parametrize("name", SCHEMAS)
def test_members_have_descriptions_under_their_json_names(name: str) -> None:
    for member, schema in SCHEMAS[name].get("properties", {}).items():
        if name.startswith(("Client", "Error", "TrackError")):  # the client API's members are in snake case
            continue
        assert "_" not in member or member == "disallow127_0_0_1", member
        assert schema.get("description"), member


@pytest.mark.parametrize(
    ("component", "member", "expected"),
    [
        # Sent by a client: null and absent are the same, unless the member is required.
        ("CreateConnectionRequest", "name", {"type": "string", "minLength": 1, "maxLength": 60}),
        ("CreateConnectionRequest", "role", {"$ref": "#/components/schemas/ConnectionRole"}),
        (
            "CreateConnectionRequest",
            "sendingMode",
            {"anyOf": [{"$ref": "#/components/schemas/SendingMode"}, {"type": "null"}]},
        ),
        ("CreateConnectionRequest", "linkedConnections", {"type": ["array", "null"]}),
        ("CreateConnectionRequest", "settings", {"type": ["object", "null"], "additionalProperties": True}),
        ("SetPipelineStatusRequest", "enabled", {"type": ["boolean", "null"]}),
        ("CreatePipelineRequest", "userIDColumn", {"type": ["string", "null"]}),
        (
            "CreatePipelineRequest",
            "filter",
            {"anyOf": [{"$ref": "#/components/schemas/FilterInput"}, {"type": "null"}]},
        ),
        ("DataTypeInput", "maxLength", {"type": ["integer", "null"], "format": "uint32", "minimum": 1}),
        # In a response: never null.
        ("Connection", "id", {"type": "integer", "format": "int32"}),
        ("Connection", "strategy", {"$ref": "#/components/schemas/AttributionStrategy"}),
        ("Connection", "linkedConnections", {"type": "array"}),
        ("Pipeline", "filter", {"$ref": "#/components/schemas/Filter"}),
        ("Pipeline", "scheduleStart", {"type": "integer", "minimum": 0, "maximum": 1439}),
        ("TestConnectionResponse", "lastReceivedAt", {"type": "string", "format": "date-time"}),
        ("RejectedEvent", "position", {"type": "string", "format": "int64"}),
        ("RejectedEvent", "body", {"type": "string", "contentEncoding": "base64"}),
        ("Matching", "in", {"type": "string"}),
        ("Workspace", "primarySources", {"type": "object"}),
    ],
)
def test_a_member_has_the_type_of_proto3_json(component: str, member: str, expected: dict[str, Any]) -> None:
    schema = SCHEMAS[component]["properties"][member]
    assert schema.items() >= expected.items(), schema


def test_the_bounds_of_a_type_are_any_json() -> None:
    assert SCHEMAS["DataType"]["properties"]["minimum"].keys() == {"description"}


def test_members_without_presence_are_always_returned() -> None:
    assert set(SCHEMAS["Connection"]["required"]) == {
        "id", "name", "connector", "connectorType", "role", "linkedConnections", "pipelines", "eventTypes",
    }  # fmt: skip


def test_required_members_of_requests_are_those_with_that_behavior() -> None:
    assert SCHEMAS["CreateConnectionRequest"]["required"] == ["name", "role", "connector"]
    assert SCHEMAS["UpdateConnectionRequest"]["required"] == ["name"]


def test_parameters_of_the_path_are_not_in_the_body() -> None:
    assert "id" not in SCHEMAS["UpdateConnectionRequest"]["properties"]
    parameters = {p["name"]: p["in"] for p in OPERATIONS["PUT /v1/connections/{id}"]["parameters"]}
    assert parameters == {"id": "path", "Headwater-Workspace": "header"}


def test_status_422_lists_its_codes() -> None:
    text = OPERATIONS["POST /v1/connections"]["responses"]["422"]["description"]
    codes = ("ConnectorNotExist", "LinkedConnectionNotExist", "InvalidSettings", "ConnectorNotAvailable")
    assert all(f"`{code}`" in text for code in codes)


@pytest.mark.parametrize(
    ("operation", "schemes"),
    [
        ("POST /v1/connections", ["apiKey"]),
        ("POST /v1/track", ["writeKeyAsUser", "writeKey"]),
        ("POST /api/client/events", ["writeKey"]),
        ("GET /healthz", []),
        ("GET /v1/openapi.json", []),
    ],
)
def test_operations_have_their_credentials(operation: str, schemes: list[str]) -> None:
    assert [name for security in OPERATIONS[operation]["security"] for name in security] == schemes


def test_bodies_of_the_track_api_have_examples() -> None:
    for call in ("identify", "track", "page", "screen", "group", "alias", "batch"):
        assert OPERATIONS[f"POST /v1/{call}"]["requestBody"]["content"]["application/json"]["examples"]


def test_a_response_of_json_has_a_type() -> None:
    """A schema without a keyword of JSON Schema allows everything, and so hides a mistake."""
    for name, operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                assert {"type", "$ref", "anyOf"} & content["schema"].keys(), (name, status)
