"""The settings of identity resolution over gRPC: read, replaced, and when they cannot change."""

import asyncio
import json
from typing import Any, Final

import msgspec
import pytest
from google.protobuf import json_format

from headwater.catalog import (
    Definition,
    Identifier,
    ProfileSchema,
    ResolutionSettings,
    TransformationDefinition,
)
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.management.workspaces import find_workspace
from headwater.state.operations import (
    IdentityResolutionParameters,
    OperationKind,
    OperationParameters,
    ProfileSchemaUpdateParameters,
)
from headwater.v1 import identity_resolution_pb2 as pb
from headwater.v1 import workspaces_pb2
from tests.api.conftest import Api, CallError
from tests.harness import Harness, add_source
from tests.management.profiles.schemas import profile

GET, UPDATE = (f"IdentityResolutionService/{name}IdentityResolutionSettings" for name in ("Get", "Update"))
RESOLUTION: Final[OperationKind] = "IdentityResolution"


@pytest.fixture(autouse=True)
async def schema(api: Api) -> None:
    """Give the workspace a profile schema."""
    catalog = api.harness.catalog
    profiles = ProfileSchema(schema=profile(email="string", phone="string", tags="array", n="decimal"))
    async with catalog.change() as change:
        old = find_workspace(catalog, api.harness.workspace)
        change.update_workspace(msgspec.structs.replace(old, profile_schema=profiles))


async def update(api: Api, **members: Any) -> Any:
    request = json_format.ParseDict(members, pb.UpdateIdentityResolutionSettingsRequest())
    return await api.call(UPDATE, request)


async def shown(api: Api) -> Any:
    return json_format.MessageToDict(await api.call(GET, pb.GetIdentityResolutionSettingsRequest()))


def stored(harness: Harness) -> ResolutionSettings:
    return find_workspace(harness.catalog, harness.workspace).resolution


async def waiting(api: Api) -> int:
    """Return the number of resolutions that wait."""
    return len(await api.harness.operations.unfinished(api.harness.workspace, [RESOLUTION]))


async def end(api: Api) -> None:
    operations = api.harness.operations
    operation = await operations.claim("a worker", kinds=[RESOLUTION])
    assert operation is not None
    await operations.finish(operation.id, "a worker", "Completed")


async def test_the_settings_of_a_new_workspace(api: Api) -> None:
    assert await shown(api) == {"runOnBatchImport": True}


async def test_settings_are_replaced_and_shown(api: Api) -> None:
    guards = {
        "identifier": "email",
        "blockedValues": ["x@y.org"],
        "blockedPresets": ["EmptyWords"],
        "maxIdentities": 5,
        "maxValues": 2,
        "allowBlank": True,
    }
    members = {"runOnBatchImport": True, "identifiers": ["phone", "email"], "guards": [guards]}
    assert await update(api, **members) == pb.UpdateIdentityResolutionSettingsResponse()
    assert await shown(api) == members
    workspace = await api.call("WorkspaceService/GetCurrentWorkspace", workspaces_pb2.GetCurrentWorkspaceRequest())
    assert (list(workspace.identifiers), workspace.resolve_identities_on_batch_import) == (["phone", "email"], True)
    await end(api)
    # A request as it is documented: the guards get their defaults.
    assert await update(api, identifiers=["email"]) == pb.UpdateIdentityResolutionSettingsResponse()
    assert await shown(api) == {"identifiers": ["email"]}
    assert stored(api.harness) == ResolutionSettings(run_on_batch_import=False, identifiers=(Identifier(path="email"),))


@pytest.mark.parametrize(
    ("members", "resolves"),
    [
        ({"identifiers": ["email"]}, False),
        ({"identifiers": ["email"], "runOnBatchImport": True}, False),
        ({"identifiers": ["email"], "guards": [{"identifier": "email", "maxIdentities": 1000}]}, False),
        ({"identifiers": ["email"], "guards": [{"identifier": "email", "maxIdentities": 999}]}, True),
        ({"identifiers": ["email", "phone"]}, True),
        ({}, True),
    ],
)
async def test_identities_are_resolved_if_it_matters(api: Api, members: dict[str, Any], resolves: bool) -> None:
    await update(api, identifiers=["email"])
    await end(api)
    await update(api, **members)
    assert await waiting(api) == resolves
    assert stored(api.harness).run_on_batch_import == members.get("runOnBatchImport", False)


@pytest.mark.parametrize(
    ("members", "reason", "field"),
    [
        ({"identifiers": ["email", "email"]}, "BadRequest", "identifiers[1]"),
        ({"identifiers": ["email", ""]}, "BadRequest", "identifiers[1]"),
        ({"identifiers": [f"p{number}" for number in range(11)]}, "BadRequest", "identifiers"),
        ({"identifiers": ["zip"]}, "PropertyNotExist", "identifiers[0]"),
        ({"identifiers": ["email", "tags"]}, "TypeNotAllowed", "identifiers[1]"),
        ({"identifiers": ["n"]}, "TypeNotAllowed", "identifiers[0]"),
        ({"guards": [{"identifier": "email"}]}, "BadRequest", "guards[0].identifier"),
        (
            {"identifiers": ["email"], "guards": [{"identifier": "email", "maxIdentities": 0}]},
            "BadRequest",
            "guards[0].maxIdentities",
        ),
    ],
)
@pytest.mark.parametrize("validates", [False, True])
async def test_invalid_settings(api: Api, members: dict[str, Any], reason: str, field: str, *, validates: bool) -> None:
    failed = await update(api, **members, validateOnly=validates)
    assert (failed.reason, dict(failed.metadata)["field"]) == (reason, field)
    assert (await waiting(api), stored(api.harness)) == (0, ResolutionSettings())


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (ProfileSchemaUpdateParameters(version=1), "AlterSchemaInExecution"),
        (IdentityResolutionParameters(), "IdentityResolutionInExecution"),
    ],
)
async def test_settings_stay_while_an_operation_executes(
    api: Api, parameters: OperationParameters, reason: str
) -> None:
    operations = api.harness.operations
    await operations.create(api.harness.workspace, parameters, None)
    for members in ({"identifiers": ["email"]}, {"runOnBatchImport": True}):
        failed = await update(api, **members)
        assert (failed.reason, stored(api.harness)) == (reason, ResolutionSettings())
    # Errors of the settings themselves come first.
    assert (await update(api, identifiers=["zip"])).reason == "PropertyNotExist"


async def test_of_two_changes_one_is_refused(api: Api) -> None:
    both = await asyncio.gather(update(api, identifiers=["email"]), update(api, identifiers=["phone"]))
    assert [each.reason for each in both if isinstance(each, CallError)] == ["IdentityResolutionInExecution"]
    assert len(stored(api.harness).identifiers) == await waiting(api) == 1


async def test_a_preview_changes_nothing(api: Api) -> None:
    harness = api.harness
    source = await add_source(harness.catalog, harness.workspace, users=())
    request = CreatePipeline(
        connection=source.id,
        target="User",
        name="People",
        enabled=True,
        out_schema=profile(email="string"),
        definition=Definition(transformation=TransformationDefinition(mapping={"email": "traits.email"})),
    )
    await create_pipeline(harness.catalog, harness.workspace, request)
    emails = ["a@x.org", "a@x.org", "b@x.org", "info@x.org", "info@x.org", "info@x.org"]
    events = [
        {"type": "identify", "userId": f"u{number}", "messageId": f"m{number}", "traits": {"email": email}}
        for number, email in enumerate(emails)
    ]
    await harness.send(source, json.dumps({"batch": events}).encode())
    await harness.process_log()
    version = harness.catalog._view.version
    guards = [{"identifier": "email", "maxIdentities": 2}]
    response = await update(api, identifiers=["email"], guards=guards, validateOnly=True)
    found = json_format.MessageToDict(response.preview)
    kpids = [each.pop("kpid") for each in found["largest"]]
    assert len(set(kpids)) == 5
    assert found == {
        "identities": 6,
        "profilesBefore": 6,
        "profilesAfter": 5,
        "merged": 2,
        "changed": 2,
        "largest": [{"identities": 2, "profiles": 2}, *[{"identities": 1, "profiles": 1}] * 4],
        "sharedValues": [
            {"identifier": "email", "value": "info@x.org", "identities": 3},
            {"identifier": "email", "value": "a@x.org", "identities": 2, "links": True},
        ],
    }
    assert (await waiting(api), stored(harness), harness.catalog._view.version) == (0, ResolutionSettings(), version)
    # An operation that executes is no reason to refuse it.
    await harness.operations.create(harness.workspace, IdentityResolutionParameters(), None)
    assert (await update(api, validateOnly=True)).preview.profiles_after == 6


async def test_previews_of_one_workspace_wait_for_each_other(api: Api) -> None:
    responses = await asyncio.gather(*(update(api, validateOnly=True) for _ in range(8)))
    reasons = {each.reason for each in responses if isinstance(each, CallError)}
    assert reasons <= {"TooManyRequests"}
    assert any(not isinstance(each, CallError) for each in responses)
