"""TrackService: the HTTP calls of the Segment family, raw JSON in, their own answers out.

Like the documented API this is permissive: a call that is refused is answered 200 all the same, because most SDKs
would send it again and again; `X-Strict-Mode: 1` asks for the truth. Refused or not, nothing vanishes.
"""

from typing import Final, Literal

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Struct

from headwater.api.call import Context, metadata_of, query_of, send_headers
from headwater.api.incoming import incoming_call
from headwater.api.sdksettings import address_of, send_settings
from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge, Unauthorized
from headwater.base.steps import EventOutcome
from headwater.catalog import Catalog
from headwater.events import Rejection
from headwater.intake import Intake, Receipt, project_settings
from headwater.observe.outcomes import outcomes
from headwater.state import StateStore
from headwater.v1 import track_pb2 as pb
from headwater.v1 import track_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["TrackService"].full_name
_ACCEPTED = HttpBody(content_type="application/json", data=b"{}")


class EventsRejected(BadRequest):
    """Some events of a strict call were rejected; the others are stored."""

    def __init__(self, rejections: list[Rejection | None]) -> None:
        found = [(index, rejection) for index, rejection in enumerate(rejections) if rejection is not None]
        super().__init__(found[0][1].message, field=found[0][1].path or None)
        self.messages = [
            rejection.message if len(rejections) == 1 else f"batch[{index}]: {rejection.message}"
            for index, rejection in found
        ]


class StrictOutcome(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of one event, as the answer tells it."""

    outcome: EventOutcome | Literal["Refused"]
    message_id: str | None = None
    code: str = ""
    path: str = ""
    message: str = ""


_encode = msgspec.json.Encoder().encode

MAX_LISTED = 20
"""How many rejections an error body lists."""


def error_body(error: HeadwaterError) -> dict[str, object]:
    """The dialect's error body. SDKs need `code` and `message` at its top: without them some repeat a 400 for ever."""
    messages = error.messages if isinstance(error, EventsRejected) else [error.message]
    return {
        "success": False,
        "code": error.code,
        "message": error.message,
        "meta": {"errors": [message[:200] for message in messages[:MAX_LISTED]]},
    }


class TrackServicer(track_pb2_grpc.TrackServiceServicer):
    """identify, track, page, screen, group, alias, and batches of them."""

    def __init__(self, catalog: Catalog, intake: Intake, state: StateStore) -> None:
        self._catalog = catalog
        self._intake = intake
        self._state = state

    async def Identify(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("identify", request, context)

    async def Track(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("track", request, context)

    async def Page(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("page", request, context)

    async def Screen(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("screen", request, context)

    async def Group(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("group", request, context)

    async def Alias(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("alias", request, context)

    async def Batch(self, request: HttpBody, context: Context) -> HttpBody:
        return await self._accept("batch", request, context)

    async def GetProjectSettings(self, request: pb.GetProjectSettingsRequest, context: Context) -> HttpBody:
        scheme, authority = address_of(metadata_of(context))
        settings = await project_settings(self._catalog, request.write_key, scheme=scheme, authority=authority)
        return await send_settings(context, settings)

    async def _accept(self, call: str, request: HttpBody, context: Context) -> HttpBody:
        metadata = metadata_of(context)
        strict = metadata.get("x-strict-mode") == "1"
        try:
            receipt = await self._intake.accept(incoming_call("track", call, request.data, metadata))
        except (BadRequest, Unauthorized, PayloadTooLarge) as error:
            if strict:
                raise
            await send_headers(context, error.headers)
            return _rejected_call(error) if _is_verbose(metadata) else _ACCEPTED
        if strict and receipt.accepted < len(receipt.rejections):
            refused = EventsRejected(receipt.rejections)
            refused.headers |= receipt.headers
            raise refused
        answer = await self._told(receipt) if _is_verbose(metadata) else _ACCEPTED
        await send_headers(context, receipt.headers)
        return answer

    async def _told(self, receipt: Receipt) -> HttpBody:
        """What became of each event of a call, when the worker has had them."""
        ids = [receipt.message_id(index) for index in range(len(receipt.checked))]
        fates = await outcomes(receipt.connection, receipt.position, ids, self._state)
        told = [
            StrictOutcome("Refused", None, rejection.code, rejection.path, rejection.message)
            if rejection is not None
            else StrictOutcome(outcome or "Pending", id_)
            for rejection, outcome, id_ in zip(receipt.rejections, fates, ids, strict=True)
        ]
        return HttpBody(content_type="application/json", data=_encode({"success": True, "events": told}))


def _is_verbose(metadata: dict[str, str]) -> bool:
    return query_of(metadata).get("verbose") == "true"


def _rejected_call(error: HeadwaterError) -> HttpBody:
    """The verbose response for a call that was rejected as a whole, so that no event of it is stored."""
    body = {"success": False, "code": error.code, "path": error.field or "", "message": error.message, "events": []}
    return HttpBody(content_type="application/json", data=_encode(body))
