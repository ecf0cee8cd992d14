"""The profile schema over gRPC: read, changed, previewed; what changes with it, and when it cannot change."""

import asyncio
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from headwater.catalog import Definition, Identifier, ProfileSchema, ResolutionSettings, TransformationDefinition
from headwater.management.connections import CreateConnection, create_connection, delete_connection
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.management.workspaces import find_workspace
from headwater.state.operations import Operation
from headwater.v1 import profiles_pb2 as pb
from headwater.v1 import workspaces_pb2
from tests.api.conftest import UNRESTRICTED, Api, CallError
from tests.harness import Harness, add_source, add_workspace
from tests.management.profiles.schemas import profile

GET, UPDATE, PREVIEW, LATEST, SUITABLE = (
    f"ProfileService/{name}"
    for name in (
        "GetProfileSchema",
        "UpdateProfileSchema",
        "PreviewProfileSchemaUpdate",
        "GetLatestProfileSchemaUpdate",
        "GetIdentifierSchema",
    )
)
MESSAGES = {
    GET: pb.GetProfileSchemaRequest,
    UPDATE: pb.UpdateProfileSchemaRequest,
    PREVIEW: pb.PreviewProfileSchemaUpdateRequest,
    LATEST: pb.GetLatestProfileSchemaUpdateRequest,
    SUITABLE: pb.GetIdentifierSchemaRequest,
}
EMAIL = {"name": "email", "type": {"kind": "string"}, "readOptional": True}
AGE = {"name": "age", "type": {"kind": "int", "bitSize": 32}, "readOptional": True}
TAGS = {"name": "tags", "type": {"kind": "array", "elementType": {"kind": "string"}}, "readOptional": True}
OWNER = "a worker"


def renamed(property_: dict[str, Any], name: str) -> dict[str, Any]:
    return {**property_, "name": name}


def schema(*properties: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "object", "properties": list(properties)}


async def call(api: Api, method: str, **members: Any) -> Any:
    return await api.call(method, json_format.ParseDict(members, MESSAGES[method]()))


async def update(api: Api, *properties: dict[str, Any], **members: Any) -> Any:
    return await call(api, UPDATE, schema=schema(*properties), **members)


async def shown(api: Api, method: str = GET) -> Any:
    return json_format.MessageToDict(await call(api, method))


async def end(api: Api, error: str = "") -> Operation:
    """End the operation that waits, as the worker does."""
    operations = api.harness.operations
    operation = await operations.claim(OWNER, kinds=("ProfileSchemaUpdate", "IdentityResolution"))
    assert operation is not None
    profiles = stored(api.harness)
    if profiles is not None and not error:
        async with api.harness.state.transaction() as transaction:
            version = profiles.version
            transaction.on_profiles_later(lambda rows: rows.set_schema_version(api.harness.workspace, version))
    await operations.finish(operation.id, OWNER, "Failed" if error else "Completed", error)
    return operation


def stored(harness: Harness) -> ProfileSchema | None:
    return find_workspace(harness.catalog, harness.workspace).profile_schema


async def with_identity(api: Api) -> None:
    """Give the workspace an identity."""
    source = await add_source(api.harness.catalog, api.harness.workspace)
    await api.harness.send(source, b'{"batch":[{"type":"identify","userId":"u","messageId":"m"}]}')
    await api.harness.process_log()


async def test_a_workspace_without_a_schema(api: Api) -> None:
    assert await shown(api) == await shown(api, SUITABLE) == {"kind": "object"}
    assert await shown(api, LATEST) == {}


async def test_a_schema_is_stored_and_shown(api: Api) -> None:
    described = {**EMAIL, "description": "é"}
    assert await update(api, described, AGE, TAGS) == pb.UpdateProfileSchemaResponse()
    properties = [described, AGE, TAGS]
    assert await shown(api) == schema(*properties)
    assert await shown(api, SUITABLE) == schema(described, AGE)
    assert stored(api.harness) == ProfileSchema(
        schema=stored(api.harness).schema,  # type: ignore[union-attr]  # compared above
        version=1,
    )
    workspace = await api.call("WorkspaceService/GetCurrentWorkspace", workspaces_pb2.GetCurrentWorkspaceRequest())
    assert json_format.MessageToDict(workspace.profile_schema) == schema(*properties)
    assert (workspace.identifiers, dict(workspace.primary_sources)) == ([], {})
    stranger = await add_workspace(api.harness.catalog)
    other = await api.call(
        GET, pb.GetProfileSchemaRequest(), ("headwater-workspace", str(stranger.id)), key=UNRESTRICTED
    )
    assert other.properties == []


async def test_the_latest_change_has_its_times_and_its_error(api: Api) -> None:
    clock = api.harness.clock
    await update(api, EMAIL)
    latest = await shown(api, LATEST)
    assert latest == {"startTime": clock.now().isoformat().replace("+00:00", "Z").replace("500000Z", "500Z")}
    clock.advance(2)
    assert (await end(api)).parameters.version == 1  # type: ignore[union-attr]  # it is one of a schema
    latest = await shown(api, LATEST)
    assert list(latest) == ["startTime", "endTime"] and latest["endTime"] > latest["startTime"]
    clock.advance(1)
    await update(api, EMAIL, AGE)
    await end(api, "the disk is full")
    assert (await shown(api, LATEST))["error"] == "the disk is full"
    clock.advance(1)
    await update(api, EMAIL, AGE)
    assert list(await shown(api, LATEST)) == ["startTime"]


async def test_one_change_at_a_time(api: Api) -> None:
    await update(api, EMAIL)
    before = stored(api.harness)
    failed = await update(api, EMAIL, AGE)
    assert (failed.reason, stored(api.harness)) == ("OperationAlreadyExecuting", before)
    await end(api)
    both = await asyncio.gather(update(api, EMAIL, AGE), update(api, EMAIL, TAGS))
    assert [each.reason for each in both if isinstance(each, CallError)] == ["OperationAlreadyExecuting"]
    found = stored(api.harness)
    assert found is not None and found.version == 2, "the change that was refused changed nothing"


@pytest.mark.parametrize(
    ("members", "reason", "field"),
    [
        ({}, "BadRequest", "schema"),
        ({"schema": {"kind": "string"}}, "BadRequest", "schema.kind"),
        ({"schema": {}}, "BadRequest", "schema.kind"),
        ({"schema": schema()}, "BadRequest", "schema.properties"),
        ({"schema": schema(EMAIL, EMAIL)}, "BadRequest", "schema.properties[1].name"),
        ({"schema": schema({**EMAIL, "readOptional": False})}, "BadRequest", "schema.email"),
        ({"schema": schema(EMAIL, renamed(AGE, "Email"))}, "BadRequest", "schema.Email"),
        ({"schema": schema(EMAIL), "rePaths": {"mail": "email"}}, "BadRequest", "rePaths.mail"),
        ({"schema": schema(EMAIL), "rePaths": {"email": 3}}, "BadRequest", "rePaths.email"),
        ({"schema": schema(EMAIL), "primarySources": {"email": 0}}, "BadRequest", "primarySources.email"),
        ({"schema": schema(EMAIL), "primarySources": {"mail": 1}}, "BadRequest", "primarySources"),
        ({"schema": schema(EMAIL), "primarySources": {"email": 1}}, "ConnectionNotExist", "primarySources.email"),
        ({"schema": schema(renamed(AGE, "email"))}, "InvalidAlterSchema", "schema.email"),
        ({"schema": schema(renamed(EMAIL, "x")), "rePaths": {"x": "y"}}, "InvalidAlterSchema", "rePaths.x"),
    ],
)
async def test_invalid_changes(api: Api, members: dict[str, Any], reason: str, field: str) -> None:
    await update(api, EMAIL, AGE)
    await end(api)
    before = stored(api.harness)
    failed = await call(api, UPDATE, **members)
    assert (failed.reason, dict(failed.metadata)["field"]) == (reason, field)
    assert stored(api.harness) == before
    assert await api.harness.operations.unfinished(api.harness.workspace, ["ProfileSchemaUpdate"]) == []
    if "primarySources" not in members:
        preview = await call(api, PREVIEW, **members)
        assert (preview.reason, preview.message) == (failed.reason, failed.message)


async def test_primary_sources(api: Api) -> None:
    catalog, workspace = api.harness.catalog, api.harness.workspace
    source = await add_source(catalog, workspace)
    destination = await create_connection(
        catalog, workspace, CreateConnection(name="D", role="Destination", connector="dummy")
    )
    failed = await update(api, EMAIL, primarySources={"email": destination.id})
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "primarySources.email")
    stranger = await add_source(catalog, (await add_workspace(catalog)).id)
    failed = await update(api, EMAIL, primarySources={"email": stranger.id})
    assert failed.reason == "ConnectionNotExist"
    await update(api, EMAIL, primarySources={"email": source.id})
    get = "WorkspaceService/GetCurrentWorkspace", workspaces_pb2.GetCurrentWorkspaceRequest()
    assert dict((await api.call(*get)).primary_sources) == {"email": source.id}
    await delete_connection(catalog, workspace, source.id)
    assert dict((await api.call(*get)).primary_sources) == {}


async def test_values_are_not_lost_unless_that_is_confirmed(api: Api) -> None:
    await update(api, EMAIL, AGE)
    await end(api)
    # Without identities there is nothing to lose.
    await update(api, EMAIL)
    await end(api)
    await update(api, EMAIL, AGE)
    await end(api)
    await with_identity(api)
    for members in ({}, {"rePaths": {"age": None}}):
        given = [EMAIL] if not members else [EMAIL, AGE]
        failed = await update(api, *given, **members)
        assert (failed.reason, dict(failed.metadata)["field"]) == ("InvalidAlterSchema", "allowDataLoss")
        assert "property age" in failed.message
        preview = await call(api, PREVIEW, schema=schema(*given), **members)
        assert preview.queries[0] == "DROP age"
    # A rename loses nothing.
    await update(api, EMAIL, renamed(AGE, "years"), rePaths={"years": "age"})
    await end(api)
    assert await update(api, EMAIL, allowDataLoss=True) == pb.UpdateProfileSchemaResponse()
    assert [(each.old, each.new) for each in stored(api.harness).renames] == [("years", None)]  # type: ignore[union-attr]


async def test_a_rename_reaches_everything_in_one_change(api: Api) -> None:
    catalog, workspace = api.harness.catalog, api.harness.workspace
    await update(api, EMAIL, AGE)
    await end(api)
    source = await add_source(catalog, workspace, users=())
    request = CreatePipeline(
        connection=source.id,
        target="User",
        name="People",
        enabled=True,
        out_schema=profile(email="string"),
        definition=Definition(transformation=TransformationDefinition(mapping={"email": "traits.email"})),
    )
    pipeline = await create_pipeline(catalog, workspace, request)
    settings = ResolutionSettings(identifiers=(Identifier(path="email", max_identities=3),))
    async with catalog.change() as change:
        change.update_workspace(msgspec.structs.replace(find_workspace(catalog, workspace), resolution=settings))
    version = catalog._view.version
    body = {"schema": schema(renamed(EMAIL, "mail"), AGE), "rePaths": {"mail": "email"}}
    steps = (await call(api, PREVIEW, **body)).queries
    assert steps == [
        "RENAME email TO mail",
        "RENAME IDENTIFIER email TO mail",
        f"UPDATE PIPELINE {pipeline.id}",
        "RESOLVE IDENTITIES",
    ]
    assert catalog._view.version == version, "a preview changes nothing"
    assert await call(api, UPDATE, **body) == pb.UpdateProfileSchemaResponse()
    assert catalog._view.version == version + 1
    found = catalog.pipeline(workspace, pipeline.id)
    assert found is not None
    assert found.definition.transformation == TransformationDefinition(mapping={"mail": "traits.email"})
    identifiers = find_workspace(catalog, workspace).resolution.identifiers
    assert identifiers == (Identifier(path="mail", max_identities=3),)
    await end(api)
    failed = await update(api, AGE)
    assert (failed.reason, dict(failed.metadata)["field"]) == ("InvalidAlterSchema", "schema.mail")


async def test_re_paths_of_typed_callers_may_be_null(api: Api) -> None:
    await update(api, EMAIL)
    await end(api)
    re_paths = Struct()
    re_paths["email"] = None
    request = json_format.ParseDict({"schema": schema(renamed(AGE, "email"))}, pb.UpdateProfileSchemaRequest())
    request.re_paths.CopyFrom(re_paths)
    assert await api.call(UPDATE, request) == pb.UpdateProfileSchemaResponse()
    assert [(each.old, each.new) for each in stored(api.harness).renames] == [("email", None)]  # type: ignore[union-attr]


async def test_a_large_schema(api: Api) -> None:
    properties = [renamed(AGE, f"p{number}") for number in range(2_000)]
    assert await update(api, *properties) == pb.UpdateProfileSchemaResponse()
    assert await shown(api) == schema(*properties)
    assert await shown(api, SUITABLE) == schema(*properties)
    failed = await update(api, *properties, EMAIL)
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "schema")


async def test_a_name_that_is_too_long_to_show(api: Api) -> None:
    failed = await update(api, renamed(EMAIL, "_" + "x" * 100_000))
    assert (failed.reason, len(failed.message), len(dict(failed.metadata)["field"])) == ("BadRequest", 1_500, 500)


async def test_a_workspace_is_created_with_a_schema(api: Api) -> None:
    create = "WorkspaceService/CreateWorkspace"
    members = {"name": "New", "profileSchema": schema(EMAIL)}
    request = json_format.ParseDict(members, workspaces_pb2.CreateWorkspaceRequest())
    created = await api.call(create, request, key=UNRESTRICTED)
    found = await api.call(
        GET, pb.GetProfileSchemaRequest(), ("headwater-workspace", str(created.id)), key=UNRESTRICTED
    )
    assert json_format.MessageToDict(found) == schema(EMAIL)
    listed = await api.call("WorkspaceService/ListWorkspaces", workspaces_pb2.ListWorkspacesRequest(), key=UNRESTRICTED)
    assert [len(each.profile_schema.properties) for each in listed.workspaces if each.id == created.id] == [1]
    for invalid, field in (
        (schema(renamed(EMAIL, "_email")), "profileSchema._email"),
        (schema(), "profileSchema.properties"),
    ):
        request = json_format.ParseDict(
            {"name": "x", "profileSchema": invalid}, workspaces_pb2.CreateWorkspaceRequest()
        )
        failed = await api.call(create, request, key=UNRESTRICTED)
        assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", field)
