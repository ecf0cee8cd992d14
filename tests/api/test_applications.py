"""Applications over both faces: the schemas in the documented JSON, users as they are, filters not yet."""

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


async def create(api: Api, role: str = "Destination", **values: Any) -> int:
    request = connections_pb2.CreateConnectionRequest(name="Dummy", role=role, connector="dummy", **values)
    return int((await api.call("ConnectionService/CreateConnection", request)).id)


def typed(schema: str) -> schemas_pb2.Type:
    return json_format.Parse(schema, schemas_pb2.Type())


async def test_users_are_the_same_over_both_faces(api: Api) -> None:
    id_ = await create(api)
    raw = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=id_, schema=EMAIL))
    assert raw.content_type == "application/json"
    page = json.loads(raw.data)
    assert (len(page["users"]), page["users"][0], page["cursor"]) == (10, {"email": "ada@example.com"}, "")
    answer = await api.call(USERS, pb.ListApplicationUsersRequest(id=id_, schema=typed(EMAIL)))
    assert [json.loads(user) for user in answer.users_json] == page["users"]
    assert answer.cursor == ""


@pytest.mark.parametrize(
    ("values", "reason", "field"),
    [
        ({}, "BadRequest", "schema"),
        ({"schema": "null"}, "BadRequest", "schema"),
        ({"schema": EMAIL, "cursor": "x"}, "BadRequest", "cursor"),
        ({"schema": EMAIL.replace("email", "phone")}, "SchemaNotAligned", "schema"),
        ({"schema": EMAIL, "filter": "{}"}, "NotImplemented", "filter"),
    ],
)
async def test_refused_listings(api: Api, values: dict[str, str], reason: str, field: str | None) -> None:
    id_ = await create(api)
    refused = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=id_, **values))
    assert (refused.reason, dict(refused.metadata).get("field")) == (reason, field)


@pytest.mark.parametrize(
    "schema", ["{", '{"kind":"string"}', '{"kind":"object"}', '{"kind":"object","properties":[{}]}']
)
async def test_what_is_no_schema(api: Api, schema: str) -> None:
    refused = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=await create(api), schema=schema))
    assert refused.reason == "BadRequest"


async def test_an_unknown_connection_comes_before_its_schema(api: Api) -> None:
    refused = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=1, schema="{"))
    assert refused.reason == "NotFound"


async def test_a_filter_is_not_built_for_typed_callers_either(api: Api) -> None:
    request = pb.ListApplicationUsersRequest(id=await create(api), schema=typed(EMAIL), filter=filters_pb2.Filter())
    assert (await api.call(USERS, request)).reason == "NotImplemented"


async def test_user_schemas(api: Api) -> None:
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


async def test_schemas_that_are_answered_can_be_asked_for(api: Api) -> None:
    id_ = await create(api)
    source = (await api.call(USER_SCHEMAS, pb.GetUserSchemasRequest(id=id_))).schemas.source
    answer = await api.call(USERS, pb.ListApplicationUsersRequest(id=id_, schema=source))
    assert json.loads(answer.users_json[9])["favourite_movie"] == "Algiers"
    text = serialise(parse_schema(json_format.MessageToJson(source))).decode()
    raw = await api.call(USERS_JSON, rest_pb.ListApplicationUsersRequest(id=id_, schema=text))
    assert json.loads(raw.data)["users"] == [json.loads(user) for user in answer.users_json]


async def test_event_type_schemas(api: Api) -> None:
    id_ = await create(api)
    answer = await api.call(EVENT_SCHEMA, pb.GetEventTypeSchemaRequest(id=id_, type="send_add_to_cart"))
    assert [(each.name, each.create_required) for each in answer.schema.properties] == [
        ("email", True),
        ("itemName", False),
        ("itemId", False),
    ]
    answer = await api.call(EVENT_SCHEMA, pb.GetEventTypeSchemaRequest(id=id_, type="send_event_with_no_schema"))
    assert not answer.HasField("schema")
    for type_, reason in (("", "BadRequest"), ("x", "NotFound")):
        refused = await api.call(EVENT_SCHEMA, pb.GetEventTypeSchemaRequest(id=id_, type=type_))
        assert (refused.reason, refused.metadata) == (reason, (("field", "type"),))
