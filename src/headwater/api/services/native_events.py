"""NativeEventService: events as JSON in the shape in which they are stored.

200 means that the accepted events are durable and the rejected ones are stored with their reason: a single event never
changes the response.
"""

from functools import partial
from typing import Final

from google.api.httpbody_pb2 import HttpBody
from msgspec.structs import replace

from headwater.api.ingest import IngestHandler, IngestRequest, IngestResponse, handle_rpc
from headwater.api.request import Context, check_not_repeated, incoming_call
from headwater.api.services.sdksettings import send_settings
from headwater.base.errors import NotFound
from headwater.catalog import Catalog
from headwater.catalog.access import WORKSPACE_HEADER
from headwater.events import EVENT_TYPES
from headwater.events.protocols.native import EVENTS
from headwater.intake import Intake, native_settings
from headwater.rest.v1 import native_events_pb2 as pb
from headwater.rest.v1 import native_events_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["NativeEventService"].full_name


class NativeEventServicer(native_events_pb2_grpc.NativeEventServiceServicer):
    """Accepts events, and returns the settings of SDKs."""

    def __init__(self, catalog: Catalog, intake: Intake) -> None:
        self._catalog = catalog
        self._intake = intake
        self.handlers: Final[dict[str, IngestHandler]] = {
            "PostEvents": partial(self._accept, EVENTS),
            "PostEvent": self._accept_typed,
        }
        """The handlers by the name of their RPC."""

    async def PostEvents(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["PostEvents"], request, context)

    async def PostEvent(self, request: pb.PostEventRequest, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["PostEvent"], request.event, context, type=request.type)

    async def GetEventSettings(self, request: pb.GetEventSettingsRequest, context: Context) -> HttpBody:
        return await send_settings(context, await native_settings(self._catalog, request.write_key))

    async def _accept_typed(self, request: IngestRequest) -> IngestResponse:
        type_ = request.variables["type"]
        if type_ not in EVENT_TYPES:
            raise NotFound(f"there are no events of the type {type_[:40]!r}: use {', '.join(EVENT_TYPES)}")
        return await self._accept(type_, request)

    async def _accept(self, call: str, request: IngestRequest) -> IngestResponse:
        check_not_repeated(request.headers)
        incoming = incoming_call("native", call, request.body, request.metadata)
        receipt = await self._intake.accept(
            replace(incoming, content_type=request.content_type, workspace=request.metadata.get(WORKSPACE_HEADER))
        )
        return IngestResponse(content_type="text/plain", headers=receipt.headers)
