"""EventService: accepts typed events, and lists stored and rejected events."""

from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Struct
from msgspec.structs import replace

from headwater.api.messages.eventquery import Request, count_interval, count_keys, event_query, split_names
from headwater.api.messages.events import (
    batch_body,
    check_event_properties,
    event_messages,
    only_members,
    wire_event,
    wire_time,
)
from headwater.api.messages.times import set_time
from headwater.api.offloop import compute
from headwater.api.pages import MAX_LIMIT, Page
from headwater.api.request import Context, incoming_call, read_metadata, require_caller, require_workspace, send_headers
from headwater.api.services.eventstream import EventStream, event_rejection
from headwater.api.services.watching import EventObserver, outcome_message, sample_body, sent_events
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, Unimplemented
from headwater.catalog import Catalog
from headwater.events import MAX_REJECTED_BYTES
from headwater.intake import IncomingCall, Intake, Receipt
from headwater.observe.deliverysteps import TracedStep
from headwater.observe.trace import TracedArrival, Tracer
from headwater.rest.v1 import events_pb2 as rest_pb
from headwater.rest.v1 import events_pb2_grpc as rest_grpc
from headwater.state import RejectedEvent, RejectionCount, RejectionCountCursor, StateStore
from headwater.v1 import events_pb2 as pb
from headwater.v1 import events_pb2_grpc
from headwater.warehouse import EventCount, EventCursor, EventQuery, Warehouse

MAX_REJECTED_PAGE: Final = 8 * 1024 * 1024
"""Bytes of rejected bodies in a response. In JSON a byte takes up to 7.4 characters: 6 as text and 1.4 as base64.
The gateway's limit is 64 MiB."""
_encode = msgspec.json.Encoder().encode
_SERVICE: Final = f"/{pb.DESCRIPTOR.services_by_name['EventService'].full_name}"
_REST_SERVICE: Final = f"/{rest_pb.DESCRIPTOR.services_by_name['EventService'].full_name}"


class EventPlace(Struct, frozen=True, array_like=True):
    """A place in a list of events: `EventPage.cursor` and `EventPage.offset`."""

    cursor: EventCursor
    offset: int


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Sends and lists events."""

    def __init__(
        self,
        catalog: Catalog,
        intake: Intake,
        state: StateStore,
        reader: "EventReader",
        tracer: Tracer,
        observer: EventObserver,
    ) -> None:
        self._catalog = catalog
        self._intake = intake
        self._state = state
        self._reader = reader
        self._tracer = tracer
        self._observer = observer

    async def SendEvents(self, request: pb.SendEventsRequest, context: Context) -> pb.SendEventsResponse:
        sent_at = wire_time(request.sent_at) if request.HasField("sent_at") else None
        body = batch_body((wire_event(event) for event in request.events), sent_at)
        receipt = await self._intake.accept(_batch(read_metadata(context), body))
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
        metadata = read_metadata(context)

        async def accept(body: bytes) -> Receipt:
            return await self._intake.accept(_batch(metadata, body))

        await accept(batch_body([]))  # a key that is not known is refused before the first event
        await EventStream(accept, group_bytes=self._intake.limits.batch_bytes).acknowledge(requests, context.write)

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        documents, token = await self._reader.list(request, context)
        return pb.ListEventsResponse(events=event_messages(documents), next_page_token=token)

    async def CountEvents(self, request: pb.CountEventsRequest, context: Context) -> pb.CountEventsResponse:
        return await self._reader.count(request, context)

    async def ListRejectedEvents(
        self, request: pb.ListRejectedEventsRequest, context: Context
    ) -> pb.ListRejectedEventsResponse:
        workspace = await self._workspace_or_unknown(context)
        page = Page(request, int)
        events, _ = await self._state.rejected(
            workspace,
            connection_id=request.connection if request.HasField("connection") else None,
            protocol=request.protocol if request.HasField("protocol") else None,
            first=page.first,
            limit=page.limit + 1,
            after=page.after,
        )
        found, token = page.cut(events, lambda event: event.position)
        shown = list(_within(MAX_REJECTED_PAGE, found))
        if len(shown) < len(found):
            token = page.token(shown[-1].position)
        return pb.ListRejectedEventsResponse(events=[_rejected(event) for event in shown], next_page_token=token)

    async def CountRejectedEvents(
        self, request: pb.CountRejectedEventsRequest, context: Context
    ) -> pb.CountRejectedEventsResponse:
        workspace = await self._workspace_or_unknown(context)
        source = request.connection if request.HasField("connection") else None
        page = Page(request, RejectionCountCursor, default_limit=MAX_LIMIT)
        counts = await self._state.rejection_counts(
            workspace, connection_id=source, limit=page.limit + 1, after=page.after
        )
        shown, token = page.cut(counts, _count_cursor)
        return pb.CountRejectedEventsResponse(counts=[_count(row) for row in shown], next_page_token=token)

    async def TraceEvent(self, request: pb.TraceEventRequest, context: Context) -> pb.TraceEventResponse:
        workspace = await require_workspace(self._catalog, context)
        arrived = await self._tracer.trace(workspace, request.message_id, self._catalog)
        return pb.TraceEventResponse(traces=[_trace(each) for each in arrived])

    async def CreateEventListener(
        self, request: pb.CreateEventListenerRequest, context: Context
    ) -> pb.CreateEventListenerResponse:
        method = f"{_SERVICE}/CreateEventListener"
        answered = await self._observer.pass_on(method, request, pb.CreateEventListenerResponse, context)
        return answered or pb.CreateEventListenerResponse(id=await self._observer.create_listener(request, context))

    async def GetEventListener(
        self, request: pb.GetEventListenerRequest, context: Context
    ) -> pb.GetEventListenerResponse:
        method = f"{_SERVICE}/GetEventListener"
        answered = await self._observer.pass_on(method, request, pb.GetEventListenerResponse, context)
        if answered is not None:
            return answered
        sample = await self._observer.read_listener(request.id, context)
        return pb.GetEventListenerResponse(events=event_messages(sample.documents), omitted=sample.omitted)

    async def DeleteEventListener(
        self, request: pb.DeleteEventListenerRequest, context: Context
    ) -> pb.DeleteEventListenerResponse:
        method = f"{_SERVICE}/DeleteEventListener"
        answered = await self._observer.pass_on(method, request, pb.DeleteEventListenerResponse, context)
        if answered is None:
            await self._observer.delete_listener(request.id, context)
        return pb.DeleteEventListenerResponse()

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        async with aclosing(self._observer.watch(request, context)) as watching:
            async for watched in watching:
                yield pb.WatchEventsResponse(
                    events=event_messages(watched.documents),
                    deliveries=map(outcome_message, watched.outcomes),
                    omitted_events=watched.omitted_events,
                    omitted_deliveries=watched.omitted_outcomes,
                )

    async def _workspace_or_unknown(self, context: Context) -> int:
        """The workspace of the call; 0, that of calls without a known key, for an unrestricted key that names none."""
        return (await require_caller(self._catalog, context)).workspace or 0


class EventRestServicer(rest_grpc.EventServiceServicer):
    """Lists, counts and watches events for REST callers, who get them as the JSON that was received."""

    def __init__(self, reader: "EventReader", observer: EventObserver) -> None:
        self._reader = reader
        self._observer = observer

    async def ListEvents(self, request: rest_pb.ListEventsRequest, context: Context) -> HttpBody:
        documents, token = await self._reader.list(request, context)
        body = b'{"events":[' + b",".join(documents) + b'],"nextPageToken":' + _encode(token) + b"}"
        return HttpBody(content_type="application/json", data=body)

    async def CountEvents(self, request: rest_pb.CountEventsRequest, context: Context) -> pb.CountEventsResponse:
        return await self._reader.count(request, context)

    async def GetEventListener(self, request: rest_pb.GetEventListenerRequest, context: Context) -> HttpBody:
        answered = await self._observer.pass_on(f"{_REST_SERVICE}/GetEventListener", request, HttpBody, context)
        if answered is not None:
            return answered
        sample = await self._observer.read_listener(request.id, context)
        return HttpBody(content_type="application/json", data=sample_body(sample))

    async def WatchEvents(self, request: rest_pb.WatchEventsRequest, context: Context) -> AsyncIterator[HttpBody]:
        async with aclosing(self._observer.watch(request, context)) as watching:
            async for watched in watching:
                yield HttpBody(content_type="text/event-stream", data=sent_events(watched))


class EventReader:
    """Reads stored events for the services of both packages."""

    def __init__(self, catalog: Catalog, warehouse: Warehouse, computing: Computing) -> None:
        self._catalog = catalog
        self._warehouse = warehouse
        self._computing = computing

    async def list(
        self, request: pb.ListEventsRequest | rest_pb.ListEventsRequest, context: Context
    ) -> tuple[list[bytes], str]:
        """Return the documents of a page, with the members that were asked for, and the token of the next page."""
        workspace = await require_workspace(self._catalog, context)
        names = split_names(request.properties)
        check_event_properties(names)
        page = Page(request, EventPlace)
        query = await self._query(request, workspace)
        found = await self._warehouse.events(
            query,
            ascending=request.ascending,
            after=None if page.after is None else page.after.cursor,
            offset=page.first if page.after is None else page.after.offset,
            limit=page.limit,
        )
        token = "" if found.cursor is None else page.token(EventPlace(found.cursor, found.offset))
        return [only_members(document, names) for document in found.documents], token

    async def count(
        self, request: pb.CountEventsRequest | rest_pb.CountEventsRequest, context: Context
    ) -> pb.CountEventsResponse:
        """Return the counts of the events that meet all conditions."""
        workspace = await require_workspace(self._catalog, context)
        limit = request.limit if request.HasField("limit") else MAX_LIMIT
        if not 1 <= limit <= MAX_LIMIT:
            raise BadRequest(f"limit must be in the range from 1 to {MAX_LIMIT}", field="limit")
        if not self._warehouse.capabilities.counts:
            raise Unimplemented("the warehouse of this installation does not count events")
        by, interval = count_keys(request), count_interval(request)
        query = await self._query(request, workspace)
        counts = await self._warehouse.counts(query, by=by, interval=interval, limit=limit)
        return pb.CountEventsResponse(counts=[_event_count(each) for each in counts])

    async def _query(self, request: Request, workspace: int) -> EventQuery:
        query = await compute(self._computing, f"workspace {workspace}", event_query, request, workspace)
        if query.filter is not None and not self._warehouse.capabilities.filters:
            raise Unimplemented("the warehouse of this installation does not filter events", field="filter")
        return query


def _event_count(row: EventCount) -> pb.EventCount:
    message = pb.EventCount(count=row.count, event=row.event, type=row.type, connection_id=row.connection)
    if row.start is not None:
        message.start_time.FromMicroseconds(row.start)
    return message


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


def _within(size: int, events: Sequence[RejectedEvent]) -> Iterator[RejectedEvent]:
    """The first of the events: those whose bodies are together not larger than `size`, but at least one."""
    for number, event in enumerate(events):
        size -= len(event.body)
        if number and size < 0:
            return
        yield event


def _count_cursor(row: RejectionCount) -> RejectionCountCursor:
    return RejectionCountCursor(row.count, row.connection, row.protocol, row.code, row.path)


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
    message.steps.extend(map(_trace_step, arrived.steps))
    return message


def _trace_step(step: TracedStep) -> pb.EventTraceStep:
    message = pb.EventTraceStep(
        pipeline=step.pipeline,
        connection=step.connection,
        step=step.step,
        outcome=step.outcome,
        attempts=step.attempt_count,
        reason=step.reason,
        message=step.message,
        operation=step.operation,
    )
    message.at.FromMicroseconds(step.at)
    set_time(message, "next_attempt_at", step.next_attempt_at)
    for attempt in step.attempts:
        added = message.requests.add(
            number=attempt.number,
            outcome=attempt.outcome,
            status=attempt.status or None,
            milliseconds=attempt.milliseconds,
            message=attempt.message,
        )
        added.at.FromMicroseconds(attempt.at)
    return message
