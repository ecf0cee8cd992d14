"""Erasures over the API: how a person is named, and what is shown of it."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from headwater.processing.erasing import Eraser
from headwater.v1 import erasures_pb2, operations_pb2
from tests.api.conftest import UNRESTRICTED, Api, CallError
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
    )
    while True:
        operation = await harness.operations.claim(eraser._owner, kinds=("Erasure",))
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


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, None),
        ({"user_id": "a", "anonymous_id": "b"}, None),
        ({"profile": "5ad0a8ac-0ed2-4e3f-a1ba-6bd0b1a5ddf4", "user_id": "b"}, None),
        ({"profile": "no uuid"}, "profile"),
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
