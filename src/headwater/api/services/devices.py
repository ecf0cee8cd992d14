"""DeviceService: the devices of people."""

from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.base.clock import from_microseconds
from headwater.catalog import Catalog
from headwater.state import Device, DeviceCursor, StateStore
from headwater.v1 import devices_pb2 as pb
from headwater.v1 import devices_pb2_grpc


class DeviceServicer(devices_pb2_grpc.DeviceServiceServicer):
    """Lists devices."""

    def __init__(self, catalog: Catalog, state: StateStore) -> None:
        self._catalog = catalog
        self._state = state

    async def ListDevices(self, request: pb.ListDevicesRequest, context: Context) -> pb.ListDevicesResponse:
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, DeviceCursor)
        connections = [connection.id for connection in self._catalog.connections(workspace)]
        if request.HasField("connection"):
            connections = [id_ for id_ in connections if id_ == request.connection]
        devices, total = await self._state.devices(
            connections,
            user_id=request.user_id if request.HasField("user_id") else None,
            anonymous_id=request.anonymous_id if request.HasField("anonymous_id") else None,
            first=page.first,
            limit=page.limit + 1,
            after=page.after,
        )
        shown, token = page.cut(devices, _cursor)
        return pb.ListDevicesResponse(
            devices=[_message(device) for device in shown], total=total, next_page_token=token
        )


def _cursor(device: Device) -> DeviceCursor:
    return DeviceCursor(device.updated_at, device.connection, device.device_id)


def _message(device: Device) -> pb.Device:
    message = pb.Device(
        device_id=device.device_id,
        connection=device.connection,
        user_id=device.user_id,
        anonymous_id=device.anonymous_id,
        token=device.token,
        os=device.os,
        os_version=device.os_version,
        model=device.model,
        app_build=device.app_build,
        app_version=device.app_version,
    )
    message.updated_at.FromDatetime(from_microseconds(device.updated_at))
    return message
