"""Erasures over the API: how a person is named, and what is shown of it."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from headwater.api.services import exports
from headwater.processing.erasing import Eraser
from headwater.rest.v1 import erasures_pb2 as rest_pb
from headwater.state.operations import ERASURE_KINDS
from headwater.state.profiles.resolving import ResolutionRows
from headwater.v1 import erasures_pb2, operations_pb2, workspaces_pb2
from tests.api.conftest import RESTRICTED, UNRESTRICTED, Api, CallError, headwater_service
from tests.harness import Harness, add_source, add_workspace

CREATE, LIST, GET = (f"ErasureService/{name}" for name in ("CreateErasure", "ListErasures", "GetErasure"))


async def create(api: Api, **members: Any) -> Any:
    return await api.call(CREATE, erasures_pb2.CreateErasureRequest(**members))


async def get(api: Api, id_: int, workspace: int | None = None) -> Any:
    request = erasures_pb2.GetErasureRequest(id=id_)
    if workspace is None:
        return await api.call(GET, request)
    return await api.call(GET, request, ("headwater-workspace", str(workspace)), key=UNRESTRICTED)


async def execute(harness: Harness) -> None:
    """Execute all erasures."""
    eraser = Eraser(
        harness.log,
        harness.catalog,
        harness.state,
        harness.warehouse,
        harness.operations,
        harness.clock,
        keep=timedelta(hours=1),
        deliveries=harness.deliveries,
        store=harness.store,
        runs=harness.runs,
        updater=harness.resolver,
    )
    while True:
        operation = await harness.operations.claim(eraser._owner, kinds=ERASURE_KINDS)
        if operation is None:
            return
        await eraser.execute(operation, asyncio.Event())


@pytest.fixture
async def filled(api: Api) -> None:
    source = await add_source(api.harness.catalog, api.harness.workspace)
    events = [{"type": "track", "event": "e", "userId": user} for user in ("jane", "jane", "bob")]
    await api.harness.send(source, json.dumps({"batch": events}).encode())
    await api.harness.process_log()


async def test_a_person_is_counted_and_erased(api: Api, filled: None) -> None:
    counted = (await create(api, user_id="jane", validate_only=True)).id
    api.harness.clock.advance(1)
    erased = (await create(api, user_id="jane", suppress=True)).id
    assert (await get(api, counted)).status == "Pending"
    await execute(api.harness)
    for id_, is_erased in ((counted, False), (erased, True)):
        found = await get(api, id_)
        assert found.status == "Completed"
        assert (found.validate_only, found.suppress) == (not is_erased, is_erased)
        assert found.HasField("start_time") and found.HasField("end_time")
        assert found.HasField("event_log_time") is is_erased
        stores = {each.store: each.removed for each in found.stores}
        assert (stores["events"], stores["identities"]) == (2, 1)
        assert "jane" not in str(found)
    listed = await api.call(LIST, erasures_pb2.ListErasuresRequest(limit=1))
    assert [each.id for each in listed.erasures] in ([counted], [erased])
    rest = await api.call(LIST, erasures_pb2.ListErasuresRequest(page_token=listed.next_page_token))
    assert {each.id for each in (*listed.erasures, *rest.erasures)} == {counted, erased}
    operation = await api.call("OperationService/GetOperation", operations_pb2.GetOperationRequest(id=erased))
    assert (operation.kind, operation.status) == ("Erasure", "Completed")


async def test_dropped_events_are_counted_until_the_person_is_erased_again(api: Api, filled: None) -> None:
    """A later erasure without `suppress` accepts the person's events again."""
    source = await add_source(api.harness.catalog, api.harness.workspace)

    async def send(number: int, user: str = "jane") -> None:
        events = [{"type": "identify", "userId": user, "anonymousId": "a"}] * number
        await api.harness.send(source, json.dumps({"batch": events}).encode())
        await api.harness.process_log()

    ids = []
    for suppress in (True, False):
        ids.append((await create(api, user_id="jane", suppress=suppress)).id)
        api.harness.clock.advance(1)
        await execute(api.harness)
        assert (await get(api, ids[-1])).dropped_events == 0
        await send(3)
        await send(2, "bob")
        assert (await get(api, ids[-1])).dropped_events == (3 if suppress else 0)
        if suppress:
            listed = await api.call(LIST, erasures_pb2.ListErasuresRequest())
            assert [each.dropped_events for each in listed.erasures] == [3]
    assert (await get(api, ids[0])).dropped_events == 0
    identities, _ = await api.harness.state.identities(source.id, first=0, limit=10)
    assert {each.user_id for each in identities} == {"jane", "bob"}


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, None),
        ({"user_id": "a", "anonymous_id": "b"}, None),
        ({"profile": "5ad0a8ac-0ed2-4e3f-a1ba-6bd0b1a5ddf4", "user_id": "b"}, None),
        ({"profile": "no uuid"}, "profile"),
        ({"profile": "5ad0a8ac0ed24e3fa1ba6bd0b1a5ddf4"}, "profile"),
        ({"user_id": ""}, "userId"),
        ({"user_id": "a\0"}, "userId"),
        ({"user_id": "é" * 2_049}, "userId"),
        ({"anonymous_id": ""}, "anonymousId"),
        ({"profile": "5ad0a8ac-0ed2-4e3f-a1ba-6bd0b1a5ddf4", "connection": 5}, "connection"),
        ({"user_id": "a", "connection": 0}, "connection"),
    ],
)
async def test_a_person_is_named_in_one_way(api: Api, members: dict[str, Any], field: str | None) -> None:
    refused = await create(api, **members)
    assert isinstance(refused, CallError)
    assert refused.status == "INVALID_ARGUMENT"
    assert field is None or ("field", field) in refused.metadata


async def test_other_workspaces_and_operations_are_not_shown(api: Api, filled: None) -> None:
    erasure = (await create(api, user_id="jane")).id
    other = await add_workspace(api.harness.catalog, "Other")
    for found in (await get(api, erasure, other.id), await get(api, erasure + 1 if erasure < 2**31 - 1 else 1)):
        assert isinstance(found, CallError) and found.status == "NOT_FOUND"


async def test_a_profile_is_exported(api: Api, filled: None) -> None:
    def read(rows: ResolutionRows) -> dict[str, str]:
        profiles = rows.profiles(range(1, 100))
        return {
            member.name.identity_id: str(UUID(bytes=profile.kpid))
            for profile in profiles
            for member in rows.find_members([profile.id])
        }

    async with api.harness.state.transaction() as transaction:
        kpid = (await transaction.on_profiles(read))["jane"]
    exported = await api.call("rest.ErasureService/ExportProfile", rest_pb.ExportProfileRequest(kpid=kpid))
    assert exported.content_type == "application/x-ndjson"
    records = [json.loads(line) for line in exported.data.splitlines()]
    assert [each["kind"] for each in records] == ["profile", "identity", "event", "event"]
    assert records[0]["record"]["kpid"] == kpid
    assert {each["record"].get("userId") for each in records[1:]} == {"jane"}
    service = headwater_service("ErasureService/ExportProfile")
    stream: Any = api.channel.unary_stream(
        f"/{service.containing_service.full_name}/{service.name}",
        request_serializer=erasures_pb2.ExportProfileRequest.SerializeToString,
        response_deserializer=erasures_pb2.ExportProfileResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {RESTRICTED}"),)
    typed = [
        record
        async for page in stream(erasures_pb2.ExportProfileRequest(kpid=kpid), metadata=metadata)
        for record in page.records
    ]
    assert [(each.kind, json.loads(each.record_json)) for each in typed] == [
        (each["kind"], each["record"]) for each in records
    ]


@pytest.mark.parametrize(
    ("kpid", "status"), [("no uuid", "INVALID_ARGUMENT"), ("5ad0a8ac-0ed2-4e3f-a1ba-6bd0b1a5ddf4", "NOT_FOUND")]
)
async def test_an_unknown_profile_is_not_exported(api: Api, kpid: str, status: str) -> None:
    found = await api.call("rest.ErasureService/ExportProfile", rest_pb.ExportProfileRequest(kpid=kpid))
    assert isinstance(found, CallError) and found.status == status


async def test_the_retention_is_read_and_replaced(api: Api) -> None:
    get, update = "WorkspaceService/GetRetention", "WorkspaceService/UpdateRetention"
    assert await api.call(get, workspaces_pb2.GetRetentionRequest()) == workspaces_pb2.Retention()
    await api.call(update, workspaces_pb2.UpdateRetentionRequest(event_days=30, anonymous_identity_days=7))
    assert await api.call(get, workspaces_pb2.GetRetentionRequest()) == workspaces_pb2.Retention(
        event_days=30, anonymous_identity_days=7
    )
    refused = await api.call(update, workspaces_pb2.UpdateRetentionRequest(rejected_event_days=0))
    assert isinstance(refused, CallError) and ("field", "rejectedEventDays") in refused.metadata
    await api.call(update, workspaces_pb2.UpdateRetentionRequest())
    assert await api.call(get, workspaces_pb2.GetRetentionRequest()) == workspaces_pb2.Retention()


@pytest.mark.parametrize(
    ("sizes", "pages"), [((), []), ((5,), [1]), ((4, 4, 4), [3]), ((10, 1, 9, 3), [1, 2, 1]), ((99, 99), [1, 1])]
)
def test_an_export_is_divided_into_pages_by_size(
    sizes: tuple[int, ...], pages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE_BYTES", 10)
    records = [("event", "x" * size) for size in sizes]
    divided = list(exports._divide(records))
    assert [len(page) for page in divided] == pages
    assert [record for page in divided for record in page] == records
