"""Applications over REST and gRPC: the schemas in the documented JSON, and the users that a filter selects."""

import json
from typing import Any

import pytest
from google.protobuf import json_format

from headwater.rest.v1 import applications_pb2 as rest_pb
from headwater.schemas import parse_schema, serialise
from headwater.v1 import applications_pb2 as pb
from headwater.v1 import connections_pb2, filters_pb2, schemas_pb2
from tests.api.conftest import Api

USERS, USER_SCHEMAS, EVENT_SCHEMA = (
    f"ApplicationService/{name}" for name in ("ListApplicationUsers", "GetUserSchemas", "GetEventTypeSchema")
)
USERS_JSON = "rest.ApplicationService/ListApplicationUsers"
EMAIL = '{"kind":"object","properties":[{"name":"email","type":{"kind":"string"}}]}'


def condition(property_: str, operator: str, *values: str) -> str:
    return json.dumps(
        {"logical": "and", "conditions": [{"property": property_, "operator": operator, "values": values}]}
    )


async def create(api: Api, role: str = "Destination", **values: Any) -> int:
    request = connections_pb2.CreateConnectionRequest(name="Dummy", role=role, connector="dummy", **values)
    return int((await api.call("ConnectionService/CreateConnection", request)).id)


def typed(schema: str) -> schemas_pb2.DataType:
    return json_format.Parse(schema, schemas_pb2.DataType())


async def test_users_are_equal_over_rest_and_grpc(api: Api) -> None:
    id_ = await create(api)
    raw = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=id_, schema=EMAIL))
    assert raw.content_type == "application/json"
    page = json.loads(raw.data)
    assert (len(page["users"]), page["users"][0], page["cursor"]) == (10, {"email": "ada@example.com"}, "")
    response = await api.call(USERS, pb.ListApplicationUsersRequest(id=id_, schema=typed(EMAIL)))
    assert [json.loads(user) for user in response.users_json] == page["users"]
    assert response.cursor == ""


@pytest.mark.parametrize(
    ("values", "reason", "field"),
    [
        ({}, "BadRequest", "schema"),
        ({"schema": "null"}, "BadRequest", "schema"),
        ({"schema": EMAIL, "cursor": "x"}, "BadRequest", "cursor"),
        ({"schema": EMAIL.replace("email", "phone")}, "SchemaNotAligned", "schema"),
        ({"schema": EMAIL, "filter": "{}"}, "BadRequest", "filter"),
        ({"schema": EMAIL, "filter": "{"}, "BadRequest", "filter"),
        ({"schema": EMAIL, "filter": ""}, "BadRequest", "filter"),
        ({"schema": EMAIL, "filter": "null"}, "BadRequest", "filter"),
        ({"schema": EMAIL, "filter": condition("phone", "is", "1")}, "BadRequest", "filter.conditions[0].property"),
        ({"schema": EMAIL, "filter": condition("email", "is")}, "BadRequest", "filter.conditions[0].values"),
        (
            {"schema": EMAIL, "filter": condition("phone", "is", "1"), "cursor": "x"},
            "BadRequest",
            "filter.conditions[0].property",
        ),
    ],
)
async def test_invalid_listings_are_rejected(api: Api, values: dict[str, str], reason: str, field: str | None) -> None:
    id_ = await create(api)
    failed = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=id_, **values))
    assert (failed.reason, dict(failed.metadata).get("field")) == (reason, field)


@pytest.mark.parametrize(
    "schema", ["{", '{"kind":"string"}', '{"kind":"object"}', '{"kind":"object","properties":[{}]}']
)
async def test_an_invalid_schema_is_rejected(api: Api, schema: str) -> None:
    failed = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=await create(api), schema=schema))
    assert failed.reason == "BadRequest"


async def test_an_unknown_connection_is_reported_before_an_invalid_schema(api: Api) -> None:
    failed = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=1, schema="{"))
    assert failed.reason == "NotFound"


@pytest.mark.parametrize(
    ("filter_", "emails"),
    [
        (condition("email", "is", "ada@example.com"), ["ada@example.com"]),
        (condition("email", "starts with", "nobody"), []),
        (condition("email", "is one of", "ada@example.com", "x"), ["ada@example.com"]),
    ],
)
async def test_a_filter_selects_users(api: Api, filter_: str, emails: list[str]) -> None:
    id_ = await create(api)
    raw = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=id_, schema=EMAIL, filter=filter_))
    assert json.loads(raw.data) == {"users": [{"email": email} for email in emails], "cursor": ""}
    message = json_format.Parse(filter_, filters_pb2.Filter())
    response = await api.call(USERS, pb.ListApplicationUsersRequest(id=id_, schema=typed(EMAIL), filter=message))
    assert [json.loads(user)["email"] for user in response.users_json] == emails


async def test_a_typed_filter_is_checked_too(api: Api) -> None:
    request = pb.ListApplicationUsersRequest(id=await create(api), schema=typed(EMAIL), filter=filters_pb2.Filter())
    assert (await api.call(USERS, request)).reason == "BadRequest"


async def test_user_schemas_are_returned(api: Api) -> None:
    schemas = (await api.call(USER_SCHEMAS, pb.GetUserSchemasRequest(id=await create(api)))).schemas
    source = json_format.MessageToDict(schemas.source)
    assert source["properties"][0] == {
        "name": "dummyId",
        "type": {"kind": "string"},
        "description": "Dummy Unique ID",
    }
    assert {property_["name"] for property_ in source["properties"] if property_.get("nullable")} == {
        "lastName",
        "favouriteDrink",
        "address",
    }
    assert "additionalProperties" in {property_.name for property_ in schemas.destination.properties}
    schemas = (await api.call(USER_SCHEMAS, pb.GetUserSchemasRequest(id=await create(api, "Source")))).schemas
    assert not schemas.HasField("destination")


async def test_returned_schemas_are_valid_in_requests(api: Api) -> None:
    id_ = await create(api)
    source = (await api.call(USER_SCHEMAS, pb.GetUserSchemasRequest(id=id_))).schemas.source
    response = await api.call(USERS, pb.ListApplicationUsersRequest(id=id_, schema=source))
    assert json.loads(response.users_json[9])["favourite_movie"] == "Algiers"
    text = serialise(parse_schema(json_format.MessageToJson(source))).decode()
    raw = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=id_, schema=text))
    assert json.loads(raw.data)["users"] == [json.loads(user) for user in response.users_json]


async def test_event_type_schemas_are_returned(api: Api) -> None:
    id_ = await create(api)
    response = await api.call(EVENT_SCHEMA, pb.GetEventTypeSchemaRequest(id=id_, type="send_add_to_cart"))
    assert [(each.name, each.create_required) for each in response.schema.properties] == [
        ("email", True),
        ("itemName", False),
        ("itemId", False),
    ]
    response = await api.call(EVENT_SCHEMA, pb.GetEventTypeSchemaRequest(id=id_, type="send_event_with_no_schema"))
    assert not response.HasField("schema")
    for type_, reason in (("", "BadRequest"), ("x", "NotFound")):
        failed = await api.call(EVENT_SCHEMA, pb.GetEventTypeSchemaRequest(id=id_, type=type_))
        assert (failed.reason, failed.metadata) == (reason, (("field", "type"),))
