"""EventService: accepts typed events, and lists stored and rejected events."""

from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Iterator
from typing import Final, cast

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Raw
from msgspec.structs import replace

from headwater.api.messages.events import batch_body, event_message, wire_event, wire_time
from headwater.api.pages import page_of
from headwater.api.request import Context, caller_of, incoming_call, metadata_of, send_headers, workspace_of
from headwater.api.services.eventstream import EventStream, event_rejection
from headwater.base.errors import BadRequest, Unimplemented
from headwater.catalog import Catalog
from headwater.events import MAX_REJECTED_BYTES
from headwater.intake import IncomingCall, Intake, Receipt
from headwater.observe.trace import TracedArrival, Tracer
from headwater.rest.v1 import events_pb2 as rest_pb
from headwater.rest.v1 import events_pb2_grpc as rest_grpc
from headwater.state import RejectedEvent, RejectionCount, StateStore
from headwater.v1 import events_pb2 as pb
from headwater.v1 import events_pb2_grpc
from headwater.warehouse import EventOrder, EventQuery, Warehouse

MAX_REJECTED_PAGE: Final = 8 * 1024 * 1024
"""Bytes of rejected bodies in a response. In JSON a byte takes up to 7.4 characters: 6 as text and 1.4 as base64.
The gateway's limit is 64 MiB."""
_ORDERS: Final = ("timestamp", "receivedAt")
_PROPERTIES: Final = frozenset(field.json_name.removesuffix("Json") for field in pb.Event.DESCRIPTOR.fields) - {"extra"}
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

Listing = pb.ListEventsRequest | rest_pb.ListEventsRequest


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Sends and lists events."""

    def __init__(
        self, catalog: Catalog, intake: Intake, state: StateStore, warehouse: Warehouse, tracer: Tracer
    ) -> None:
        self._catalog = catalog
        self._intake = intake
        self._state = state
        self._warehouse = warehouse
        self._tracer = tracer

    async def SendEvents(self, request: pb.SendEventsRequest, context: Context) -> pb.SendEventsResponse:
        sent_at = wire_time(request.sent_at) if request.HasField("sent_at") else None
        body = batch_body((wire_event(event) for event in request.events), sent_at)
        receipt = await self._intake.accept(_batch(metadata_of(context), body))
        await send_headers(context, receipt.headers)
        return pb.SendEventsResponse(
            accepted=receipt.accepted,
            rejected=[
                event_rejection(index, rejection)
                for index, rejection in enumerate(receipt.rejections)
                if rejection is not None
            ],
        )

    async def StreamEvents(  # type: ignore[override]  # the stubs know generators only; aio takes what writes, too
        self, requests: AsyncIterator[pb.StreamEventsRequest], context: Context
    ) -> None:
        metadata = metadata_of(context)

        async def accept(body: bytes) -> Receipt:
            return await self._intake.accept(_batch(metadata, body))

        await accept(batch_body([]))  # a key that is not known is refused before the first event
        await EventStream(accept, group_bytes=self._intake.limits.batch_bytes).acknowledge(requests, context.write)

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        documents = await _list(self._catalog, self._warehouse, request, context)
        return pb.ListEventsResponse(events=[event_message(_decode_members(document)) for document in documents])

    async def ListRejectedEvents(
        self, request: pb.ListRejectedEventsRequest, context: Context
    ) -> pb.ListRejectedEventsResponse:
        workspace = await self._workspace_or_unknown(context)
        first, limit = page_of(
            request.first if request.HasField("first") else None, request.limit if request.HasField("limit") else None
        )
        events, _ = await self._state.rejected(
            workspace,
            connection_id=request.connection if request.HasField("connection") else None,
            protocol=request.protocol if request.HasField("protocol") else None,
            first=first,
            limit=limit,
        )
        return pb.ListRejectedEventsResponse(events=[_rejected(event) for event in _within(MAX_REJECTED_PAGE, events)])

    async def CountRejectedEvents(
        self, request: pb.CountRejectedEventsRequest, context: Context
    ) -> pb.CountRejectedEventsResponse:
        workspace = await self._workspace_or_unknown(context)
        source = request.connection if request.HasField("connection") else None
        counts = await self._state.rejection_counts(workspace, connection_id=source)
        return pb.CountRejectedEventsResponse(counts=[_count(row) for row in counts])

    async def TraceEvent(self, request: pb.TraceEventRequest, context: Context) -> pb.TraceEventResponse:
        workspace = await workspace_of(self._catalog, context)
        arrived = await self._tracer.trace(workspace, request.message_id, self._catalog)
        return pb.TraceEventResponse(traces=[_trace(each) for each in arrived])

    async def _workspace_or_unknown(self, context: Context) -> int:
        """The workspace of the call; 0, that of calls without a known key, for an unrestricted key that names none."""
        return (await caller_of(self._catalog, context)).workspace or 0


class EventRestServicer(rest_grpc.EventServiceServicer):
    """Lists events as JSON."""

    def __init__(self, catalog: Catalog, warehouse: Warehouse) -> None:
        self._catalog = catalog
        self._warehouse = warehouse

    async def ListEvents(self, request: rest_pb.ListEventsRequest, context: Context) -> HttpBody:
        documents = await _list(self._catalog, self._warehouse, request, context)
        return HttpBody(content_type="application/json", data=b'{"events":[' + b",".join(documents) + b"]}")


async def _list(catalog: Catalog, warehouse: Warehouse, request: Listing, context: Context) -> list[bytes]:
    workspace = await workspace_of(catalog, context)
    if request.HasField("filter"):
        raise Unimplemented("filters are not built yet", field="filter")
    order = request.order if request.HasField("order") else "timestamp"
    if order not in _ORDERS:
        raise BadRequest(f"events can be ordered by {' or '.join(_ORDERS)} only", field="order")
    names = [name for text in request.properties for name in text.split(",") if name]
    for name in names:
        if name not in _PROPERTIES:
            raise BadRequest(f"events have no property {name[:60]!r}", field="properties")
    first, limit = page_of(
        request.first if request.HasField("first") else None, request.limit if request.HasField("limit") else None
    )
    query = EventQuery(workspace=workspace, order=cast(EventOrder, order))
    page = await warehouse.events(query, ascending=request.ascending, after=None, offset=first, limit=limit)
    documents = list(page.documents)
    return [_only(document, names) for document in documents] if names else documents


def _only(document: bytes, names: list[str]) -> bytes:
    members = _decode_members(document)
    return _encode({name: value for name, value in members.items() if name in names})


def _batch(metadata: dict[str, str], body: bytes) -> IncomingCall:
    incoming = incoming_call("grpc", "batch", body, metadata)
    return replace(incoming, content_encoding=None)  # the body is of our own making


def _rejected(event: RejectedEvent) -> pb.RejectedEvent:
    message = pb.RejectedEvent(
        position=event.position,
        connection=event.connection or None,
        protocol=event.protocol,
        code=event.code,
        path=event.path,
        message=event.message,
        body=event.body,
    )
    text = _text(event.body)
    if text is not None:
        message.body_text = text
    message.received_at.FromDatetime(event.received_at)
    return message


def _text(body: bytes) -> str | None:
    """The body as text, without a character that was cut in its middle; None when it is not UTF-8."""
    try:
        return getincrementaldecoder("utf-8")().decode(body, final=len(body) < MAX_REJECTED_BYTES)
    except UnicodeDecodeError:
        return None


def _within(size: int, events: list[RejectedEvent]) -> Iterator[RejectedEvent]:
    """The first of the events: those whose bodies are together not larger than `size`, but at least one."""
    for number, event in enumerate(events):
        size -= len(event.body)
        if number and size < 0:
            return
        yield event


def _count(row: RejectionCount) -> pb.RejectedEventCount:
    message = pb.RejectedEventCount(
        connection=row.connection, protocol=row.protocol, code=row.code, path=row.path, count=row.count
    )
    message.first_at.FromDatetime(row.first_at)
    message.last_at.FromDatetime(row.last_at)
    return message


def _trace(arrived: TracedArrival) -> pb.EventTrace:
    message = pb.EventTrace(
        connection=arrived.connection,
        position=arrived.position,
        outcome=arrived.outcome,
        message=arrived.message,
        duplicates=arrived.duplicates,
    )
    message.received_at.FromMicroseconds(arrived.received_at)
    for step in arrived.steps:
        told = message.steps.add(
            pipeline=step.pipeline,
            connection=step.connection,
            step=step.step,
            outcome=step.outcome,
            message=step.message,
        )
        told.at.FromMicroseconds(arrived.processed_at)
    return message
