"""ErasureService: requests erasures of persons, and returns their receipts. The worker executes them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from google.api.httpbody_pb2 import HttpBody

from headwater.api.messages.profiles import MAX_ID_BYTES, is_id, kpid_text, read_kpid
from headwater.api.messages.times import set_time
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.api.services.exports import PersonExporter
from headwater.base.errors import BadRequest, NotFound
from headwater.catalog import Catalog
from headwater.management.names import check_identifier
from headwater.rest.v1 import erasures_pb2 as rest_pb
from headwater.rest.v1 import erasures_pb2_grpc as rest_grpc
from headwater.state import StateStore
from headwater.state.operations import (
    ERASURE_KINDS,
    ErasureParameters,
    Operation,
    OperationCursor,
    OperationStore,
    decode_receipt,
)
from headwater.state.suppressions import dropped_events
from headwater.v1 import erasures_pb2 as pb
from headwater.v1 import erasures_pb2_grpc


class ErasureServicer(erasures_pb2_grpc.ErasureServiceServicer):
    """Creates operations of the kind Erasure, shows them without the ids of persons, and exports persons."""

    def __init__(
        self, catalog: Catalog, operations: OperationStore, state: StateStore, exporter: PersonExporter
    ) -> None:
        self._catalog = catalog
        self._state = state
        self._operations = operations
        self._exporter = exporter

    async def ExportProfile(
        self, request: pb.ExportProfileRequest, context: Context
    ) -> AsyncIterator[pb.ExportProfileResponse]:
        async with aclosing(self._exporter.export(request.kpid, context)) as exporting:
            async for records in exporting:
                yield pb.ExportProfileResponse(
                    records=[pb.ExportedRecord(kind=kind, record_json=record) for kind, record in records]
                )

    async def CreateErasure(self, request: pb.CreateErasureRequest, context: Context) -> pb.CreateErasureResponse:
        workspace = await require_workspace(self._catalog, context)
        created = await self._operations.create(workspace, _parameters(request), None)
        return pb.CreateErasureResponse(id=created.id)

    async def ListErasures(self, request: pb.ListErasuresRequest, context: Context) -> pb.ListErasuresResponse:
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, OperationCursor)
        found = await self._operations.page(workspace, kinds=ERASURE_KINDS, after=page.after, limit=page.limit + 1)
        shown, token = page.cut(found, lambda each: OperationCursor(each.created_at, each.id))
        return pb.ListErasuresResponse(erasures=await self._messages(shown), next_page_token=token)

    async def GetErasure(self, request: pb.GetErasureRequest, context: Context) -> pb.Erasure:
        workspace = await require_workspace(self._catalog, context)
        check_identifier(request.id, "operation identifier", field="id")
        found = await self._operations.find(request.id, workspace)
        if found is None or not isinstance(found.parameters, ErasureParameters):
            raise NotFound(f"erasure {request.id} does not exist", field="id")
        (message,) = await self._messages([found])
        return message

    async def _messages(self, operations: Sequence[Operation]) -> list[pb.Erasure]:
        ids = [each.id for each in operations]
        dropped = await self._state.read(lambda connection: dropped_events(connection, ids))
        return [erasure_message(each, dropped.get(each.id, 0)) for each in operations]


class ErasureRestServicer(rest_grpc.ErasureServiceServicer):
    """Exports persons for REST callers."""

    def __init__(self, exporter: PersonExporter) -> None:
        self._exporter = exporter

    async def ExportProfile(self, request: rest_pb.ExportProfileRequest, context: Context) -> AsyncIterator[HttpBody]:
        async with aclosing(self._exporter.export(request.kpid, context)) as exporting:
            async for records in exporting:
                lines = "".join(f'{{"kind":"{kind}","record":{record}}}\n' for kind, record in records)
                yield HttpBody(content_type="application/x-ndjson", data=lines.encode())


def _parameters(request: pb.CreateErasureRequest) -> ErasureParameters:
    """Return the parameters of a request. Raises BadRequest."""
    names = [name for name in ("profile", "user_id", "anonymous_id") if request.HasField(name)]
    if len(names) != 1:
        raise BadRequest("name the person by exactly one of profile, userId and anonymousId")
    profile = None
    if names == ["profile"]:
        profile = kpid_text(read_kpid(request.profile, "profile"))
        if request.HasField("connection"):
            raise BadRequest("a profile has identities of all connections", field="connection")
    elif not is_id(request.user_id or request.anonymous_id):
        field = "userId" if names == ["user_id"] else "anonymousId"
        raise BadRequest(f"{field} must have 1 to {MAX_ID_BYTES} bytes without NUL", field=field)
    if request.HasField("connection"):
        check_identifier(request.connection, "connection identifier", field="connection")
    return ErasureParameters(
        profile=profile,
        user_id=request.user_id if request.HasField("user_id") else None,
        anonymous_id=request.anonymous_id if request.HasField("anonymous_id") else None,
        connection=request.connection if request.HasField("connection") else None,
        suppress=request.suppress,
        validate_only=request.validate_only,
    )


def erasure_message(operation: Operation, dropped: int) -> pb.Erasure:
    """Return an erasure as a message. `dropped` is the number of dropped events."""
    parameters = operation.parameters
    assert isinstance(parameters, ErasureParameters)
    message = pb.Erasure(
        id=operation.id,
        status=operation.status,
        validate_only=parameters.validate_only,
        suppress=parameters.suppress,
        profile=parameters.profile or "",
        error=operation.error,
        dropped_events=dropped,
    )
    set_time(message, "create_time", operation.created_at)
    set_time(message, "start_time", operation.started_at)
    set_time(message, "end_time", operation.ended_at)
    if operation.result:
        receipt = decode_receipt(operation.result)
        for each in receipt.stores:
            message.stores.add(store=each.store, removed=each.removed)
        if not parameters.validate_only:
            set_time(message, "event_log_time", receipt.log_until)
    return message
