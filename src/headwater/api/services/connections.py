"""ConnectionService: connections and their event write keys."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any, Final

from google.api.httpbody_pb2 import HttpBody
from msgspec import Struct

from headwater.api.connectioncache import ConnectionCache
from headwater.api.messages.connections import ListInPieces, to_document, with_running
from headwater.api.messages.pipelines import pipeline_message
from headwater.api.messages.schema import read_object
from headwater.api.pages import NO_LIMIT, Page
from headwater.api.request import Context, require_caller, require_workspace
from headwater.base.computing import Computing
from headwater.catalog import Catalog, Connection
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.management import applications, authorization, connections, event_write_keys, links
from headwater.management.quotas import Quotas
from headwater.rest.v1 import connections_pb2 as rest_pb
from headwater.rest.v1 import connections_pb2_grpc as rest_grpc
from headwater.state import StateStore
from headwater.state.runs import RunStore
from headwater.v1 import connections_pb2 as pb
from headwater.v1 import connections_pb2_grpc

_NO_PIPELINE: Final = (
    "the source has no enabled pipeline: its events are accepted, but neither stored nor used. "
    "Create and enable one with POST /v1/pipelines"
)


class ConnectionCursor(Struct, frozen=True, array_like=True, order=True):
    """A place in a list of connections: after this name and id."""

    name: str
    id: int


class ConnectionServicer(connections_pb2_grpc.ConnectionServiceServicer):
    """Create, read, replace, link and delete connections; list, make and delete their event write keys."""

    def __init__(
        self,
        catalog: Catalog,
        state: StateStore,
        computing: Computing,
        quotas: Quotas,
        environment: ConnectorEnvironment,
        runs: RunStore,
        allowed_redirect_uris: tuple[str, ...] = (),
    ) -> None:
        self._catalog = catalog
        self._allowed_redirect_uris = allowed_redirect_uris
        self._state = state
        self._quotas = quotas
        self._environment = environment
        self._runs = runs
        self._shown: ConnectionCache[pb.Connection] = ConnectionCache(computing, _message)

    async def CreateConnection(
        self, request: pb.CreateConnectionRequest, context: Context
    ) -> pb.CreateConnectionResponse:
        workspace = await require_workspace(self._catalog, context)
        created = await connections.create_connection(
            self._catalog,
            workspace,
            connections.CreateConnection(
                name=request.name,
                role=request.role,
                connector=request.connector,
                strategy=request.strategy if request.HasField("strategy") else None,
                sending_mode=request.sending_mode if request.HasField("sending_mode") else None,
                linked_connections=tuple(request.linked_connections),
                settings=read_object(request.settings) if request.HasField("settings") else None,
                auth_token=request.auth_token,
            ),
            self._quotas,
        )
        return pb.CreateConnectionResponse(id=created.id)

    async def UpdateConnection(
        self, request: pb.UpdateConnectionRequest, context: Context
    ) -> pb.UpdateConnectionResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.update_connection(
            self._catalog,
            workspace,
            request.id,
            connections.UpdateConnection(
                name=request.name,
                strategy=request.strategy if request.HasField("strategy") else None,
                sending_mode=request.sending_mode if request.HasField("sending_mode") else None,
                settings=read_object(request.settings) if request.HasField("settings") else None,
                auth_token=request.auth_token,
            ),
        )
        return pb.UpdateConnectionResponse()

    async def GetAuthorizationUrl(
        self, request: pb.GetAuthorizationUrlRequest, context: Context
    ) -> pb.GetAuthorizationUrlResponse:
        caller = await require_caller(self._catalog, context)
        url = await authorization.authorization_url(
            self._catalog,
            self._environment,
            caller,
            request.connector,
            request.role,
            request.redirect_uri,
            allowed_redirect_uris=self._allowed_redirect_uris,
            pkce=request.pkce,
        )
        return pb.GetAuthorizationUrlResponse(auth_url=url)

    async def GetAuthorizationToken(
        self, request: pb.GetAuthorizationTokenRequest, context: Context
    ) -> pb.GetAuthorizationTokenResponse:
        caller = await require_caller(self._catalog, context)
        token = await authorization.authorization_token(
            self._catalog,
            self._environment,
            caller,
            request.connector,
            request.redirect_uri,
            request.auth_code,
            request.state if request.HasField("state") else None,
        )
        return pb.GetAuthorizationTokenResponse(auth_token=token)

    async def ListConnections(self, request: pb.ListConnectionsRequest, context: Context) -> pb.ListConnectionsResponse:
        workspace = await require_workspace(self._catalog, context)
        found, token = _page(request, await connections.list_connections(self._catalog, workspace))
        response = pb.ListConnectionsResponse(next_page_token=token)
        running = await _running(self._runs, found)
        for connection in found:
            response.connections.append(await self._shown.get(connection))
            _set_running(response.connections[-1], running)
            await asyncio.sleep(0)  # others go on
        return response

    async def GetConnection(self, request: pb.GetConnectionRequest, context: Context) -> pb.Connection:
        workspace = await require_workspace(self._catalog, context)
        connection = await connections.get_connection(self._catalog, workspace, request.id)
        event_types = await applications.find_event_types(self._catalog, connection, self._environment)
        message = pb.Connection()
        message.CopyFrom(await self._shown.get(connection))
        _set_running(message, await _running(self._runs, [connection]))
        for event_type in event_types:
            message.event_types.add(
                id=event_type.id, name=event_type.name, description=event_type.description, filter=event_type.filter
            )
        return message

    async def DeleteConnection(
        self, request: pb.DeleteConnectionRequest, context: Context
    ) -> pb.DeleteConnectionResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.delete_connection(self._catalog, workspace, request.id)
        return pb.DeleteConnectionResponse()

    async def LinkConnections(self, request: pb.LinkConnectionsRequest, context: Context) -> pb.LinkConnectionsResponse:
        workspace = await require_workspace(self._catalog, context)
        await links.link_connections(self._catalog, workspace, request.source, request.destination)
        return pb.LinkConnectionsResponse()

    async def UnlinkConnections(
        self, request: pb.UnlinkConnectionsRequest, context: Context
    ) -> pb.UnlinkConnectionsResponse:
        workspace = await require_workspace(self._catalog, context)
        await links.unlink_connections(self._catalog, workspace, request.source, request.destination)
        return pb.UnlinkConnectionsResponse()

    async def ListEventWriteKeys(
        self, request: pb.ListEventWriteKeysRequest, context: Context
    ) -> pb.ListEventWriteKeysResponse:
        workspace = await require_workspace(self._catalog, context)
        keys = await event_write_keys.list_event_write_keys(self._catalog, workspace, request.id)
        return pb.ListEventWriteKeysResponse(keys=keys)

    async def CreateEventWriteKey(
        self, request: pb.CreateEventWriteKeyRequest, context: Context
    ) -> pb.CreateEventWriteKeyResponse:
        workspace = await require_workspace(self._catalog, context)
        key = await event_write_keys.create_event_write_key(self._catalog, workspace, request.id)
        return pb.CreateEventWriteKeyResponse(key=key)

    async def DeleteEventWriteKey(
        self, request: pb.DeleteEventWriteKeyRequest, context: Context
    ) -> pb.DeleteEventWriteKeyResponse:
        workspace = await require_workspace(self._catalog, context)
        await event_write_keys.delete_event_write_key(self._catalog, workspace, request.id, request.key)
        return pb.DeleteEventWriteKeyResponse()

    async def TestConnection(self, request: pb.TestConnectionRequest, context: Context) -> pb.TestConnectionResponse:
        workspace = await require_workspace(self._catalog, context)
        await event_write_keys.list_event_write_keys(self._catalog, workspace, request.id)  # refuses what has none
        connection = await connections.get_connection(self._catalog, workspace, request.id)
        call = await self._state.latest_call(request.id)
        message = pb.TestConnectionResponse(received=call is not None)
        if call is not None:
            message.protocol = call.protocol
            message.last_received_at.FromDatetime(call.received_at)
        if not any(pipeline.enabled for pipeline in connection.pipelines):
            message.warnings.add(code="NoPipeline", message=_NO_PIPELINE)
        return message


class ConnectionRestServicer(rest_grpc.ConnectionServiceServicer):
    """Lists connections as JSON."""

    def __init__(self, catalog: Catalog, computing: Computing, runs: RunStore) -> None:
        self._catalog = catalog
        self._runs = runs
        self._documents: ConnectionCache[dict[str, Any]] = ConnectionCache(computing, _document)

    async def ListConnections(
        self, request: rest_pb.ListConnectionsRequest, context: Context
    ) -> AsyncIterator[HttpBody]:
        workspace = await require_workspace(self._catalog, context)
        found, token = _page(request, await connections.list_connections(self._catalog, workspace))
        pieces = ListInPieces(next_page_token=token)
        running = await _running(self._runs, found)
        for connection in found:
            for piece in pieces.add(with_running(await self._documents.get(connection), running)):
                yield HttpBody(content_type="application/json", data=piece)
            await asyncio.sleep(0)  # others go on
        for piece in pieces.end():
            yield HttpBody(content_type="application/json", data=piece)


def _page(
    request: pb.ListConnectionsRequest | rest_pb.ListConnectionsRequest, found: list[Connection]
) -> tuple[Sequence[Connection], str]:
    page = Page(request, ConnectionCursor, default_limit=NO_LIMIT)
    return page.select(found, lambda connection: ConnectionCursor(connection.name, connection.id))


async def _running(runs: RunStore, connections: Iterable[Connection]) -> frozenset[int]:
    """Return the pipelines of connections that have a run that has not ended."""
    batch = [
        pipeline.id
        for connection in connections
        for pipeline in connection.pipelines
        if pipeline.schedule_start is not None
    ]
    return await runs.running(batch) if batch else frozenset()


def _set_running(message: pb.Connection, running: Collection[int]) -> None:
    for pipeline in message.pipelines:
        if pipeline.id in running:
            pipeline.running = True


def _message(connection: Connection) -> pb.Connection:
    return pb.Connection(
        id=connection.id,
        name=connection.name,
        connector=connection.connector,
        connector_type=CONNECTORS[connection.connector].type,
        role=connection.role,
        strategy=connection.strategy,
        sending_mode=connection.sending_mode,
        linked_connections=connection.linked_connections,
        pipelines=[pipeline_message(pipeline, connection, CONNECTORS) for pipeline in connection.pipelines],
    )


def _document(connection: Connection) -> dict[str, Any]:
    return to_document(_message(connection))
