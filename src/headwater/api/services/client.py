"""ClientService: the calls of apps and web pages with a public key, in the form that their SDKs expect.

An accepted call returns 204 without a body. Nothing of a rejected call is accepted; it is stored with its reason.
"""

from functools import partial
from typing import Final

from google.api.httpbody_pb2 import HttpBody

from headwater.api.errors import short_message
from headwater.api.ingest import IngestHandler, IngestRequest, IngestResponse, handle_rpc
from headwater.api.request import Context, incoming_call
from headwater.base.errors import BadRequest, HeadwaterError, Unauthorized
from headwater.intake import Intake
from headwater.rest.v1 import client_pb2, client_pb2_grpc

SERVICE: Final = client_pb2.DESCRIPTOR.services_by_name["ClientService"].full_name


def error_body(error: HeadwaterError) -> dict[str, object]:
    """Return the protocol's error body. All 400 and all 401 are equal; the stored call has the reason."""
    match error:
        case Unauthorized():
            return {"status": "error", "error": "Authorization error.", "code": 1000}
        case BadRequest():
            return {"status": "error", "error": "An error occurred with this request."}
        case _:
            return {"status": "error", "error": short_message(error)}


class ClientServicer(client_pb2_grpc.ClientServiceServicer):
    """Accepts alias, identify, devices, events, and track, which only the JavaScript SDK sends."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.handlers: Final[dict[str, IngestHandler]] = {
            "Alias": partial(self._accept, "alias"),
            "Identify": partial(self._accept, "identify"),
            "RegisterDevice": partial(self._accept, "devices"),
            "PostEvents": partial(self._accept, "events"),
            "Track": partial(self._accept, "track"),
        }
        """The handlers by the name of their RPC."""

    async def Alias(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Alias"], request, context)

    async def Identify(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Identify"], request, context)

    async def RegisterDevice(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["RegisterDevice"], request, context)

    async def PostEvents(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["PostEvents"], request, context)

    async def Track(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Track"], request, context)

    async def _accept(self, call: str, request: IngestRequest) -> IngestResponse:
        receipt = await self._intake.accept(incoming_call("client", call, request.body, request.metadata))
        return IngestResponse(content_type="", status=204, headers=receipt.headers)
