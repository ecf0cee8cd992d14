"""ClientService: the calls of apps and web pages with a public key, answered in the words that their SDKs know.

An accepted call is answered 204 and nothing else. A refused one stores nothing, and is kept with its reason.
"""

from typing import Final

from google.api.httpbody_pb2 import HttpBody

from headwater.api.answers import message_of
from headwater.api.call import Context, is_transcoded, metadata_of, send_headers
from headwater.api.incoming import incoming_call
from headwater.base.errors import BadRequest, HeadwaterError, Unauthorized
from headwater.intake import Intake
from headwater.v1 import client_pb2, client_pb2_grpc

SERVICE: Final = client_pb2.DESCRIPTOR.services_by_name["ClientService"].full_name
_NO_CONTENT: Final = {"x-http-code": "204"}


def error_body(error: HeadwaterError) -> dict[str, object]:
    """The dialect's error body. Its 400 and 401 are the same whatever the reason; the kept call has it."""
    match error:
        case Unauthorized():
            return {"status": "error", "error": "Authorization error.", "code": 1000}
        case BadRequest():
            return {"status": "error", "error": "An error occurred with this request."}
        case _:
            return {"status": "error", "error": message_of(error)}


class ClientServicer(client_pb2_grpc.ClientServiceServicer):
    """alias, identify, devices, events; and track, as the JavaScript SDK has it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def Alias(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("alias", request, context)

    async def Identify(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("identify", request, context)

    async def RegisterDevice(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("devices", request, context)

    async def PostEvents(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("events", request, context)

    async def Track(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("track", request, context)

    async def _accept(self, call: str, request: HttpBody, context: Context) -> HttpBody:
        metadata = metadata_of(context)
        receipt = await self._intake.accept(incoming_call("client", call, request.data, metadata))
        await send_headers(context, receipt.headers | (_NO_CONTENT if is_transcoded(metadata) else {}))
        return HttpBody()
