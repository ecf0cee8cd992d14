"""NativeEventService: events as JSON in the shape in which they are stored, answered with nothing but the status.

200 says that what was accepted is durable, and that what was not is kept with its reason: one event never changes the
answer.
"""

from typing import Final

from google.api.httpbody_pb2 import HttpBody
from msgspec.structs import replace

from headwater.api.access import check_not_repeated
from headwater.api.call import Context, metadata_of, send_headers
from headwater.api.incoming import incoming_call
from headwater.api.sdksettings import send_settings
from headwater.base.errors import NotFound
from headwater.catalog import Catalog
from headwater.catalog.access import WORKSPACE_HEADER
from headwater.events import EVENT_TYPES
from headwater.events.protocols.native import EVENTS
from headwater.intake import Intake, native_settings
from headwater.v1 import native_events_pb2 as pb
from headwater.v1 import native_events_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["NativeEventService"].full_name
_ACCEPTED: Final = HttpBody(content_type="text/plain")


class NativeEventServicer(native_events_pb2_grpc.NativeEventServiceServicer):
    """Takes events, and tells SDKs their settings."""

    def __init__(self, catalog: Catalog, intake: Intake) -> None:
        self._catalog = catalog
        self._intake = intake

    async def PostEvents(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept(EVENTS, request, context)

    async def PostEvent(self, request: pb.PostEventRequest, context: Context) -> HttpBody:
        if request.type not in EVENT_TYPES:
            raise NotFound(f"there are no events of the type {request.type[:40]!r}: use {', '.join(EVENT_TYPES)}")
        return await self._accept(request.type, request.event, context)

    async def GetEventSettings(self, request: pb.GetEventSettingsRequest, context: Context) -> HttpBody:
        return await send_settings(context, await native_settings(self._catalog, request.write_key))

    async def _accept(self, call: str, body: HttpBody, context: Context) -> HttpBody:
        check_not_repeated(context)
        metadata = metadata_of(context)
        incoming = incoming_call("native", call, body.data, metadata)
        receipt = await self._intake.accept(
            replace(incoming, content_type=body.content_type, workspace=metadata.get(WORKSPACE_HEADER))
        )
        await send_headers(context, receipt.headers)
        return _ACCEPTED
