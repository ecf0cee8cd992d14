"""Devices of users over gRPC: registered through every protocol, listed in pages."""

import json
from typing import Any

import pytest

from headwater.catalog import Connection
from headwater.management.connections import delete_connection
from headwater.v1 import devices_pb2 as pb
from tests.api.conftest import UNRESTRICTED, Api
from tests.events.test_client import DEVICE
from tests.harness import add_source, add_workspace, client_call

pytestmark = pytest.mark.both_databases

LIST = "DeviceService/ListDevices"


async def register(api: Api, source: Connection, **members: Any) -> None:
    body = json.dumps({**DEVICE, **members}).encode()
    await api.harness.intake.accept(client_call(call="devices", body=body, key=source.event_write_keys[0]))
    await api.harness.process_log()
    api.harness.clock.advance(1)


async def listed(api: Api, **request: Any) -> list[str]:
    response = await api.call(LIST, pb.ListDevicesRequest(**request))
    assert response.total == len(response.devices)
    return [device.device_id for device in response.devices]


async def test_a_device_is_listed_with_everything_that_is_known_of_it(api: Api, source: Connection) -> None:
    await register(api, source, os_version="16.3.1", anonymous_id="A")
    response = await api.call(LIST, pb.ListDevicesRequest())
    expected = pb.Device(
        device_id="d1",
        connection=source.id,
        user_id="E",
        anonymous_id="A",
        token="t1",
        os="iOS 16.3",
        os_version="16.3.1",
        model="iPhone15,2",
        app_build="465",
        app_version="1.2.4",
    )
    expected.updated_at.FromJsonString("2026-11-22T12:00:10.500Z")
    assert response == pb.ListDevicesResponse(devices=[expected], total=1)


async def test_unknown_members_are_absent(api: Api, source: Connection) -> None:
    event = {"event": "Device Created or Updated", "userId": "u", "context": {"device": {"token": "t", "type": "ios"}}}
    await api.harness.send(source, json.dumps(event).encode(), call="track")
    await api.harness.process_log()
    (device,) = (await api.call(LIST, pb.ListDevicesRequest())).devices
    assert (device.device_id, device.token, device.os, device.model) == ("t", "t", "ios", "")
    assert not device.HasField("anonymous_id")
    assert not device.HasField("os_version")


async def test_the_most_recently_registered_comes_first_and_filters_choose(api: Api, source: Connection) -> None:
    other = await add_source(api.harness.catalog, api.harness.workspace)
    await register(api, source, device_id="a", token="a", external_id="E")
    await register(api, source, device_id="b", token="b", external_id="F", anonymous_id="X")
    await register(api, other, device_id="c", token="c", external_id="E")
    assert await listed(api) == ["c", "b", "a"]
    assert await listed(api, connection=source.id) == ["b", "a"]
    assert await listed(api, user_id="E") == ["c", "a"]
    assert await listed(api, connection=source.id, user_id="E") == ["a"]
    assert await listed(api, anonymous_id="X") == ["b"]
    assert await listed(api, anonymous_id="X", user_id="E") == []
    assert await listed(api, user_id="nobody") == []
    assert await listed(api, user_id="a\0b") == []
    assert await listed(api, connection=5) == []


async def test_pages_list_every_item_once(api: Api, source: Connection) -> None:
    for number in range(5):
        await register(api, source, device_id=f"d{number}", token=f"t{number}")
    found = []
    for first in range(0, 6, 2):
        page = await api.call(LIST, pb.ListDevicesRequest(first=first, limit=2))
        assert page.total == 5
        found += [device.device_id for device in page.devices]
    assert found == ["d4", "d3", "d2", "d1", "d0"]


async def test_a_user_has_the_devices_of_merged_anonymous_ids(api: Api, source: Connection) -> None:
    anonymous = {"external_id": None, "anonymous_id": "A"}
    await register(api, source, **anonymous)
    assert await listed(api, user_id="E") == []
    call = client_call(call="identify", body=b'{"anonymous_id":"A","external_id":"E"}', key=source.event_write_keys[0])
    await api.harness.intake.accept(call)
    await api.harness.process_log()
    assert await listed(api, user_id="E") == ["d1"]
    assert await listed(api, anonymous_id="A") == ["d1"]


async def test_devices_of_other_workspaces_and_deleted_connections_are_not_listed(api: Api, source: Connection) -> None:
    elsewhere = await add_workspace(api.harness.catalog)
    await register(api, source)
    other = await api.call(LIST, pb.ListDevicesRequest(), ("headwater-workspace", str(elsewhere.id)), key=UNRESTRICTED)
    assert other == pb.ListDevicesResponse()
    await delete_connection(api.harness.catalog, api.harness.workspace, source.id)
    assert await listed(api) == []


@pytest.mark.parametrize(
    ("request_", "field"), [({"first": -1}, "first"), ({"limit": 0}, "limit"), ({"limit": 1001}, "limit")]
)
async def test_bad_requests_are_rejected(api: Api, request_: dict[str, Any], field: str) -> None:
    failed = await api.call(LIST, pb.ListDevicesRequest(**request_))
    assert (failed.status, failed.reason, failed.metadata) == ("INVALID_ARGUMENT", "BadRequest", (("field", field),))


async def test_a_key_is_needed(api: Api) -> None:
    assert (await api.call(LIST, pb.ListDevicesRequest(), key=None)).status == "UNAUTHENTICATED"
