"""Previews of users over REST and gRPC: the request that writes a user, and every documented error."""

import json
from typing import Any, Final

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from msgspec.structs import replace

from headwater.catalog import Connection, ProfileSchema
from headwater.connectors.customerio.schemas import WRITABLE_SCHEMA as CUSTOMERIO
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.settings import Settings
from headwater.connectors.slack.settings import SlackSettings
from headwater.connectors.stripe.schemas import WRITABLE_SCHEMA as STRIPE
from headwater.connectors.stripe.settings import StripeSettings
from headwater.management.userpreviews import MAX_USER_ID_CHARACTERS
from headwater.rest.v1 import applications_pb2 as rest_pb
from headwater.schemas import DecimalType, IntType, ObjectType, Property, Schema, StringType, serialise
from headwater.state import MAX_ATTRIBUTES_BYTES
from headwater.v1 import applications_pb2 as pb
from tests.api.conftest import UNRESTRICTED, Api, CallError
from tests.harness import add_source, add_workspace

PREVIEW, PREVIEW_JSON = "ApplicationService/PreviewExportUser", "rest.ApplicationService/PreviewExportUser"
KEY: Final = "rk_live_a-secret-of-stripe"
PROFILES: Final[Schema] = ObjectType(
    (
        Property("email", StringType(), read_optional=True),
        Property("name", StringType(), read_optional=True),
        Property("age", IntType(32), read_optional=True),
        Property("spent", DecimalType(30, 20), read_optional=True),
    )
)
PYTHON = 'def transform(user):\n    return {"name": user["name"].upper()}'
FUNCTION = {"source": PYTHON, "language": "Python"}


async def connect(api: Api, code: str = "stripe", settings: Settings | None = None, **changes: Any) -> int:
    """Add a connection, whose settings no vendor checks, and the profile schema of its workspace."""
    catalog = api.harness.catalog
    workspace = catalog.workspace(changes.get("workspace", api.harness.workspace))
    assert workspace is not None
    async with catalog.change() as change:
        if workspace.profile_schema is None:
            change.update_workspace(replace(workspace, profile_schema=ProfileSchema(schema=PROFILES)))
        connection = Connection(
            id=change.new_id(),
            workspace=workspace.id,
            name="Application",
            connector=code,
            role="Destination",
            strategy=None,
            sending_mode=None,
            created_at=change.now,
        )
        sealed = catalog.sealed(replace(connection, **changes), settings or StripeSettings(api_key=KEY))
        change.add_connection(sealed)
    return connection.id


def find_schema(*names: str, written: Schema = STRIPE) -> dict[str, Any]:
    """Return properties of a destination schema."""
    found: dict[str, Any] = json.loads(serialise(ObjectType(tuple(each for each in written if each.name in names))))
    return found


def preview_body(**changes: Any) -> dict[str, Any]:
    """Return a valid body with other members; `...` leaves one out."""
    body = {
        "user": {"email": "ada@example.com", "name": "Ada", "age": 36},
        "transformation": {"mapping": {"email": "email", "name": "name"}},
        "outSchema": find_schema("email", "name"),
        **changes,
    }
    return {name: value for name, value in body.items() if value is not ...}


async def preview(api: Api, id_: int, body: dict[str, Any] | str, **given: Any) -> Any:
    """Return the text of the preview, or the error."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    request = rest_pb.PreviewExportUserRequest(id=id_, body=HttpBody(data=data))
    response = await api.call(PREVIEW_JSON, request, **given)
    return response if isinstance(response, CallError) else response.preview


def typed(id_: int, body: dict[str, Any]) -> pb.PreviewExportUserRequest:
    request = pb.PreviewExportUserRequest(id=id_, user_json=json.dumps(body["user"]), user_id=body.get("userId", ""))
    json_format.ParseDict(body["transformation"], request.transformation)
    json_format.ParseDict(body["outSchema"], request.out_schema)
    json_format.ParseDict(body.get("matching", {}), request.matching)
    return request


async def test_the_request_that_creates_a_user_is_shown(api: Api) -> None:
    id_ = await connect(api)
    shown = await preview(api, id_, preview_body())
    head, _, text = shown.partition("\n\n")
    lines = [line.rstrip("\r") for line in head.splitlines()]
    assert lines[0] == "POST https://api.stripe.com/v1/customers" and "Authorization: [REDACTED]" in lines
    assert text == "email=ada%40example.com&name=Ada" and KEY not in shown
    assert (await api.call(PREVIEW, typed(id_, preview_body()))).preview == shown


async def test_the_request_that_updates_a_user_is_shown(api: Api) -> None:
    id_ = await connect(api)
    body = preview_body(userId="cus_9s6XKzkNRiz8i3", user={"name": "Ada"})
    body |= {"transformation": {"mapping": {"name": "name"}}, "outSchema": find_schema("name")}
    shown = await preview(api, id_, body)
    assert shown.startswith("POST https://api.stripe.com/v1/customers/cus_9s6XKzkNRiz8i3\n")
    assert shown.partition("\n\n")[2] == "name=Ada"
    assert (await api.call(PREVIEW, typed(id_, body))).preview == shown


@pytest.mark.process
async def test_the_property_of_the_matching_is_added_as_in_an_export(api: Api) -> None:
    id_ = await connect(api)
    matched = preview_body(matching={"in": "email", "out": "email"}, transformation={"mapping": {"name": "name"}})
    shown = await preview(api, id_, matched)
    assert shown.partition("\n\n")[2] == "email=ada%40example.com&name=Ada"
    assert (await api.call(PREVIEW, typed(id_, matched))).preview == shown
    by_function = await preview(api, id_, {**matched, "transformation": {"function": FUNCTION}})
    assert by_function.endswith("\n\nemail=ada%40example.com&name=ADA")
    nested = {"matching": {"in": "name", "out": "address.city"}, "outSchema": find_schema("email", "address")}
    mapping = {"email": "email", "address.line1": "name"}
    shown = await preview(api, id_, {**matched, **nested, "transformation": {"mapping": mapping}})
    assert shown.endswith("address[line1]=Ada&address[city]=Ada")
    updated = await preview(api, id_, {**matched, "userId": "cus_9s6XKzkNRiz8i3"})
    assert updated.endswith("\n\nname=Ada")
    matched["outSchema"]["properties"].append({"name": "id", "type": {"kind": "string"}})
    by_id = {**matched, "userId": "cus_9s6XKzkNRiz8i3", "matching": {"in": "email", "out": "id"}}
    assert (await preview(api, id_, by_id)).endswith("/cus_9s6XKzkNRiz8i3" + updated[updated.index("\n") :])


async def test_every_digit_is_kept(api: Api) -> None:
    schema, text = find_schema("name"), '{"spent": 1.50000000000000000001}'
    body = json.dumps(preview_body(user="USER", transformation={"mapping": {"name": "spent"}}, outSchema=schema))
    shown = await preview(api, await connect(api), body.replace('"USER"', text))
    assert shown.endswith("name=1.50000000000000000001")


async def test_an_application_that_cannot_be_read_takes_no_id(api: Api) -> None:
    settings = CustomerIoSettings.read({"siteID": "s" * 20, "apiKey": "k" * 20, "region": "US"})
    id_ = await connect(api, "customerio", settings)
    schema = find_schema("email", written=CUSTOMERIO)
    body = preview_body(transformation={"mapping": {"email": "email"}}, outSchema=schema)
    shown = await preview(api, id_, body)
    assert json.loads(shown.partition("\n\n")[2])["batch"][0]["identifiers"] == {"email": "ada@example.com"}
    failed = await preview(api, id_, {**body, "userId": "ada"})
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "userId")


@pytest.mark.process
async def test_a_function_receives_the_user(api: Api) -> None:
    id_, schema = await connect(api), find_schema("name")
    shown = await preview(api, id_, preview_body(transformation={"function": FUNCTION}, outSchema=schema))
    assert shown.endswith("name=ADA")
    for source, part in ((PYTHON.replace("user[", "nothing["), "nothing"), ("def f(): 1", "transform")):
        function = {"function": {**FUNCTION, "source": source}}
        failed = await preview(api, id_, preview_body(transformation=function, outSchema=schema))
        assert failed.reason == "TransformationFailed" and part in failed.message


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"user": ...}, "BadRequest", "user"),
        ({"user": None}, "BadRequest", "user"),
        ({"user": 5}, "BadRequest", "user"),
        ({"user": {"phone": "1"}}, "BadRequest", "user.phone"),
        ({"user": {"age": "old"}}, "BadRequest", "user.age"),
        ({"user": {"name": "x" * MAX_ATTRIBUTES_BYTES}}, "BadRequest", "user"),
        ({"userId": "x" * (MAX_USER_ID_CHARACTERS + 1)}, "BadRequest", "userId"),
        ({"transformation": None}, "BadRequest", "transformation"),
        ({"transformation": {"mapping": {"name": "name"}, "function": FUNCTION}}, "BadRequest", "transformation"),
        ({"transformation": {"mapping": {}}}, "BadRequest", "transformation.mapping"),
        ({"transformation": {"mapping": {"name": "nam"}}}, "BadRequest", "transformation.mapping"),
        ({"transformation": {"mapping": {"title": "name"}}}, "BadRequest", "transformation.mapping"),
        ({"transformation": {"function": {**FUNCTION, "source": ""}}}, "BadRequest", "transformation.function.source"),
        (
            {"transformation": {"function": {**FUNCTION, "language": "Go"}}},
            "BadRequest",
            "transformation.function.language",
        ),
        ({"outSchema": None}, "BadRequest", "outSchema"),
        ({"outSchema": {"kind": "string"}}, "BadRequest", "outSchema.kind"),
        (
            {"outSchema": {"kind": "object", "properties": [{"name": "email", "type": {"kind": "json"}}]}},
            "BadRequest",
            "transformation.mapping",
        ),
        (
            {
                "outSchema": {"kind": "object", "properties": [{"name": "title", "type": {"kind": "string"}}]},
                "transformation": {"mapping": {"title": "name"}},
            },
            "SchemaNotAligned",
            "outSchema",
        ),
        ({"matching": 5}, "BadRequest", "matching"),
        ({"matching": {"in": "phone", "out": "email"}}, "BadRequest", "matching.in"),
        ({"matching": {"in": "email", "out": "title"}}, "BadRequest", "matching.out"),
        ({"matching": {"in": "email"}}, "BadRequest", "matching.out"),
        ({"matching": {"in": "email", "out": "email"}, "user": {"name": "Ada"}}, "InvalidUser", "user"),
        ({"user": {"name": "x" * 1_000}}, "TransformationFailed", "name"),
        ({"user": {"email": "null", "name": "undefined"}}, "InvalidUser", "user"),
        ({"user": {}}, "InvalidUser", "user"),
    ],
)
async def test_documented_errors(api: Api, changes: dict[str, Any], reason: str, field: str | None) -> None:
    failed = await preview(api, await connect(api), preview_body(**changes))
    assert isinstance(failed, CallError), failed
    assert (failed.reason, dict(failed.metadata).get("field")) == (reason, field), failed.message


@pytest.mark.parametrize("body", ["", "{", "[]", '{"userId":5}', '{"user":{},"outSchema":{"kind":"x"}}'])
async def test_a_body_in_another_form_is_invalid(api: Api, body: str) -> None:
    assert (await preview(api, await connect(api), body)).reason == "BadRequest"


async def test_only_destinations_that_send_requests_for_users_have_previews(api: Api) -> None:
    catalog, workspace = api.harness.catalog, api.harness.workspace
    source = await add_source(catalog, workspace)
    dummy = await connect(api, "dummy", DummySettings.read({}))
    slack = await connect(
        api,
        "slack",
        SlackSettings.read({"webhookURL": "https://hooks.slack.com/services/T00000000/B00000000/" + 24 * "x"}),
    )
    reading = await connect(api, role="Source")
    for id_ in (source.id, dummy, slack, reading):
        failed = await preview(api, id_, "{")
        assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "id")
    assert (await preview(api, 2**31 - 1, "{")).reason == "NotFound"


async def test_a_connection_of_another_workspace_does_not_exist(api: Api) -> None:
    other = await add_workspace(api.harness.catalog, "Other")
    id_ = await connect(api, workspace=other.id)
    assert (await preview(api, id_, preview_body())).reason == "NotFound"
    assert (await api.call(PREVIEW, typed(id_, preview_body()))).reason == "NotFound"
    assert (await preview(api, id_, preview_body(), key=None)).reason == "Unauthorized"
    workspace = ("headwater-workspace", str(other.id))
    assert (await api.call(PREVIEW, typed(id_, preview_body()), workspace, key=UNRESTRICTED)).preview


async def test_a_workspace_without_profile_schema_has_no_user(api: Api) -> None:
    id_ = await connect(api)
    catalog = api.harness.catalog
    workspace = catalog.workspace(api.harness.workspace)
    assert workspace is not None
    async with catalog.change() as change:
        change.update_workspace(replace(workspace, profile_schema=None))
    failed = await preview(api, id_, preview_body())
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "user")
