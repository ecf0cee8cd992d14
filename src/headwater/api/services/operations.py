"""OperationService: starts re-sends and replays; shows the progress of operations, and cancels them."""

import msgspec

from headwater.api.messages.schema import filter_message, to_filter
from headwater.api.messages.times import read_time, set_time
from headwater.api.offloop import compute
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.api.services.deliveries import read_selection
from headwater.base.clock import Clock, microseconds
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, NotFound, Unimplemented, Unprocessable
from headwater.catalog import Catalog, Pipeline
from headwater.delivery.replaying import replay_filter, replay_query
from headwater.delivery.resending import count_dead, dead_selection
from headwater.filters import CheckedFilter, InvalidFilter, check_filter, parse_json
from headwater.management.lookup import find_connection, find_pipeline
from headwater.management.names import check_identifier
from headwater.schemas import EVENT_SCHEMA
from headwater.state.deliveries import DeliveryStore
from headwater.state.operations import (
    Operation,
    OperationCursor,
    OperationStore,
    ReplayParameters,
    ResendParameters,
)
from headwater.v1 import operations_pb2 as pb
from headwater.v1 import operations_pb2_grpc
from headwater.warehouse import EventQuery, Warehouse


class OperationServicer(operations_pb2_grpc.OperationServiceServicer):
    """Starts re-sends and replays; shows and cancels all operations. The courier and the worker execute them."""

    def __init__(
        self,
        catalog: Catalog,
        operations: OperationStore,
        deliveries: DeliveryStore,
        warehouse: Warehouse,
        clock: Clock,
        computing: Computing,
    ) -> None:
        self._catalog = catalog
        self._operations = operations
        self._deliveries = deliveries
        self._warehouse = warehouse
        self._clock = clock
        self._computing = computing

    async def ResendDeadLetters(
        self, request: pb.ResendDeadLettersRequest, context: Context
    ) -> pb.ResendDeadLettersResponse:
        workspace = await require_workspace(self._catalog, context)
        selection = read_selection(request, workspace)
        if selection.destination is not None:
            connection = find_connection(self._catalog, workspace, selection.destination, field="destination")
            if connection.role != "Destination":
                raise BadRequest(f"connection {connection.id} is not a destination", field="destination")
        if selection.pipeline is not None:
            find_pipeline(self._catalog, workspace, selection.pipeline, field="pipeline")
        parameters = ResendParameters(
            destination=selection.destination,
            pipeline=selection.pipeline,
            reason=selection.reason,
            since=selection.since,
            until=selection.until,
        )
        dead = dead_selection(workspace, parameters, self._now())
        total = await count_dead(self._catalog, self._deliveries, dead)
        response = pb.ResendDeadLettersResponse(total=total)
        if not request.validate_only:
            response.id = (await self._operations.create(workspace, parameters, total)).id
        return response

    async def ReplayEvents(self, request: pb.ReplayEventsRequest, context: Context) -> pb.ReplayEventsResponse:
        workspace = await require_workspace(self._catalog, context)
        pipeline = self._replayed(workspace, request.pipeline)
        given = await compute(self._computing, f"workspace {workspace}", _filter, request)
        now = self._now()
        until = read_time(request, "until")
        parameters = ReplayParameters(
            destination=pipeline.connection,
            pipeline=pipeline.id,
            since=read_time(request, "since"),
            until=now if until is None else min(until, now),
            filter=given,
        )
        sources = find_connection(self._catalog, workspace, pipeline.connection).linked_connections
        filter_ = replay_filter(parameters)
        total = await self._count(
            replay_query(workspace, sources, parameters, filter_), must_know=request.validate_only
        )
        response = pb.ReplayEventsResponse(total=total)
        if not request.validate_only:
            response.id = (await self._operations.create(workspace, parameters, total)).id
        return response

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, OperationCursor)
        found = await self._operations.page(workspace, after=page.after, limit=page.limit + 1)
        shown, token = page.cut(found, lambda each: OperationCursor(each.created_at, each.id))
        return pb.ListOperationsResponse(operations=[operation_message(each) for each in shown], next_page_token=token)

    async def GetOperation(self, request: pb.GetOperationRequest, context: Context) -> pb.Operation:
        workspace = await require_workspace(self._catalog, context)
        check_identifier(request.id, "operation identifier", field="id")
        return operation_message(_found(await self._operations.find(request.id, workspace), request.id))

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Context) -> pb.CancelOperationResponse:
        workspace = await require_workspace(self._catalog, context)
        check_identifier(request.id, "operation identifier", field="id")
        cancelled = _found(await self._operations.cancel(request.id, workspace), request.id)
        return pb.CancelOperationResponse(operation=operation_message(cancelled))

    def _replayed(self, workspace: int, id_: int) -> Pipeline:
        """Return the pipeline of a replay. Raises BadRequest, NotFound, and Unprocessable with PipelineDisabled."""
        pipeline = find_pipeline(self._catalog, workspace, id_, field="pipeline")
        connection = find_connection(self._catalog, workspace, pipeline.connection)
        if pipeline.target != "Event" or connection.role != "Destination":
            raise BadRequest(f"pipeline {id_} does not send events", field="pipeline")
        if not pipeline.enabled:
            raise Unprocessable("PipelineDisabled", f"pipeline {id_} is disabled", field="pipeline")
        return pipeline

    async def _count(self, query: EventQuery, *, must_know: bool) -> int | None:
        """Return the number of events of a query; None if counting takes too much work, unless it is required."""
        if query.filter is not None and not self._warehouse.capabilities.filters:
            raise Unimplemented("the warehouse of this installation does not filter events", field="filter")
        if not query.connections:
            return 0
        if not self._warehouse.capabilities.counts:
            if must_know:
                raise Unimplemented("the warehouse of this installation does not count events", field="validateOnly")
            return None
        try:
            counts = await self._warehouse.counts(query, by=(), interval=None, limit=1)
        except Unprocessable:
            if must_know:
                raise
            return None
        return counts[0].count if counts else 0

    def _now(self) -> int:
        return microseconds(self._clock.now())


def _found(operation: Operation | None, id_: int) -> Operation:
    if operation is None:
        raise NotFound(f"operation {id_} does not exist", field="id")
    return operation


def _filter(request: pb.ReplayEventsRequest) -> str | None:
    """Return the filter of a replay in its canonical form. Raises BadRequest."""
    if not request.HasField("filter"):
        return None
    try:
        # Under the rules of pipelines that collect events, as in ListEvents.
        checked: CheckedFilter = check_filter(to_filter(request.filter), EVENT_SCHEMA, role="Source", target="Event")
    except InvalidFilter as error:
        raise BadRequest(error.message, field=f"filter.{error.field or ''}".rstrip(".")) from error
    return msgspec.json.encode(checked.normal).decode()


def operation_message(operation: Operation) -> pb.Operation:
    """Return an operation as a message."""
    parameters = operation.parameters
    message = pb.Operation(
        id=operation.id,
        kind=operation.kind,
        status=operation.status,
        cancel_requested=operation.is_cancelled,
        total=operation.total,
        done=operation.done,
        enqueued=operation.enqueued,
        error=operation.error,
    )
    if isinstance(parameters, ResendParameters | ReplayParameters):
        _set_selection(message, parameters)
    for field, at in (
        ("create_time", operation.created_at),
        ("start_time", operation.started_at),
        ("end_time", operation.ended_at),
    ):
        set_time(message, field, at)
    return message


def _set_selection(message: pb.Operation, parameters: ResendParameters | ReplayParameters) -> None:
    """Set the fields about the dead letters or events that the operation selects."""
    if parameters.destination is not None:
        message.destination = parameters.destination
    if parameters.pipeline is not None:
        message.pipeline = parameters.pipeline
    set_time(message, "since", parameters.since)
    set_time(message, "until", parameters.until)
    if isinstance(parameters, ResendParameters):
        if parameters.reason is not None:
            message.reason = parameters.reason
    elif parameters.filter is not None and (found := parse_json(parameters.filter)) is not None:
        message.filter.CopyFrom(filter_message(found))
