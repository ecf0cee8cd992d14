"""TrackService: the HTTP calls of the Segment family of SDKs, with raw JSON.

As the documented API prescribes, a rejected call returns 200, because most SDKs would send it again and again.
`X-Strict-Mode: 1` asks for the true status. Rejected events are stored with their reason.
"""

from functools import partial
from typing import Final

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Struct

from headwater.api.errors import field_member
from headwater.api.ingest import IngestHandler, IngestRequest, IngestResponse, handle_rpc
from headwater.api.request import Context, incoming_call, parse_query, read_metadata
from headwater.api.services.sdksettings import read_address, send_settings
from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge, Unauthorized
from headwater.base.steps import EventOutcome
from headwater.catalog import Catalog
from headwater.events import Rejection
from headwater.intake import Intake, Receipt, project_settings
from headwater.observe.trace import wait_for_outcomes
from headwater.rest.v1 import track_pb2 as pb
from headwater.rest.v1 import track_pb2_grpc
from headwater.state import StateStore

SERVICE: Final = pb.DESCRIPTOR.services_by_name["TrackService"].full_name


class EventsRejected(BadRequest):
    """Some events of a strict call were rejected; the others are stored."""

    def __init__(self, rejections: list[Rejection | None]) -> None:
        found = [(index, rejection) for index, rejection in enumerate(rejections) if rejection is not None]
        index, first = found[0]
        places = [first.path] if len(rejections) == 1 else [f"batch[{index}]", first.path]
        super().__init__(first.message, field=".".join(filter(None, places)) or None)
        self.messages = [
            rejection.message if len(rejections) == 1 else f"batch[{index}]: {rejection.message}"
            for index, rejection in found
        ]


class VerboseOutcome(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The outcome of one event in a verbose response."""

    outcome: EventOutcome
    message_id: str | None = None
    code: str = ""
    path: str = ""
    message: str = ""


_encode = msgspec.json.Encoder().encode

MAX_LISTED = 20
"""Maximum number of rejections in an error body."""


def error_body(error: HeadwaterError) -> dict[str, object]:
    """Return the protocol's error body. Without `code` and `message` at the top some SDKs repeat a 400 forever."""
    messages = error.messages if isinstance(error, EventsRejected) else [error.message]
    return {
        "success": False,
        "code": error.code,
        "message": error.message,
        **field_member(error),
        "meta": {"errors": [message[:200] for message in messages[:MAX_LISTED]]},
    }


class TrackServicer(track_pb2_grpc.TrackServiceServicer):
    """Accepts identify, track, page, screen, group, alias, and batches of them."""

    def __init__(self, catalog: Catalog, intake: Intake, state: StateStore) -> None:
        self._catalog = catalog
        self._intake = intake
        self._state = state
        self.handlers: Final[dict[str, IngestHandler]] = {
            "Identify": partial(self._accept, "identify"),
            "Track": partial(self._accept, "track"),
            "Page": partial(self._accept, "page"),
            "Screen": partial(self._accept, "screen"),
            "Group": partial(self._accept, "group"),
            "Alias": partial(self._accept, "alias"),
            "Batch": partial(self._accept, "batch"),
        }
        """The handlers by the name of their RPC."""

    async def Identify(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Identify"], request, context)

    async def Track(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Track"], request, context)

    async def Page(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Page"], request, context)

    async def Screen(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Screen"], request, context)

    async def Group(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Group"], request, context)

    async def Alias(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Alias"], request, context)

    async def Batch(self, request: HttpBody, context: Context) -> HttpBody:
        return await handle_rpc(self.handlers["Batch"], request, context)

    async def GetProjectSettings(self, request: pb.GetProjectSettingsRequest, context: Context) -> HttpBody:
        scheme, authority = read_address(read_metadata(context))
        settings = await project_settings(self._catalog, request.write_key, scheme=scheme, authority=authority)
        return await send_settings(context, settings)

    async def _accept(self, call: str, request: IngestRequest) -> IngestResponse:
        metadata = request.metadata
        strict = metadata.get("x-strict-mode") == "1"
        try:
            receipt = await self._intake.accept(incoming_call("track", call, request.body, metadata))
        except (BadRequest, Unauthorized, PayloadTooLarge) as error:
            if strict:
                raise
            return IngestResponse(_rejected_call(error) if _is_verbose(request) else b"{}", headers=error.headers)
        if strict and receipt.accepted < len(receipt.rejections):
            rejected = EventsRejected(receipt.rejections)
            rejected.headers |= receipt.headers
            raise rejected
        body = await self._outcomes(receipt) if _is_verbose(request) else b"{}"
        return IngestResponse(body, headers=receipt.headers)

    async def _outcomes(self, receipt: Receipt) -> bytes:
        """Wait for the worker, and return the outcome of each event of a call."""
        ids = [receipt.message_id(index) for index in range(len(receipt.checked))]
        found = await wait_for_outcomes(receipt.connection, receipt.position, ids, self._state)
        events = [
            VerboseOutcome("Rejected", None, rejection.code, rejection.path, rejection.message)
            if rejection is not None
            else VerboseOutcome(outcome or "Pending", id_)
            for rejection, outcome, id_ in zip(receipt.rejections, found, ids, strict=True)
        ]
        return _encode({"success": True, "events": events})


def _is_verbose(request: IngestRequest) -> bool:
    return parse_query(request.query).get("verbose") == "true"


def _rejected_call(error: HeadwaterError) -> bytes:
    """Return the verbose response for a call that was rejected as a whole, so that no event of it is stored."""
    return _encode(
        {"success": False, "code": error.code, "path": error.field or "", "message": error.message, "events": []}
    )
