"""DatabaseService: the first rows of queries, and the columns of tables."""

import msgspec
from google.api.httpbody_pb2 import HttpBody

from headwater.api.messages.schema import type_message
from headwater.api.request import Context, require_workspace
from headwater.catalog import Catalog
from headwater.management.databases import DatabaseCalls
from headwater.rest.v1 import databases_pb2 as rest_pb
from headwater.rest.v1 import databases_pb2_grpc as rest_grpc
from headwater.schemas import serialise
from headwater.v1 import databases_pb2 as pb
from headwater.v1 import databases_pb2_grpc


class DatabaseServicer(databases_pb2_grpc.DatabaseServiceServicer):
    """Runs queries, and describes tables."""

    def __init__(self, catalog: Catalog, databases: DatabaseCalls) -> None:
        self._catalog = catalog
        self._databases = databases

    async def QueryDatabase(self, request: pb.QueryDatabaseRequest, context: Context) -> pb.QueryDatabaseResponse:
        workspace = await require_workspace(self._catalog, context)
        result = await self._databases.query(workspace, request.id, request.query, request.limit)
        return pb.QueryDatabaseResponse(
            rows_json=[row.decode() for row in result.rows],
            schema=None if result.schema is None else type_message(result.schema),
            issues=result.issues,
        )

    async def GetTableSchema(self, request: pb.GetTableSchemaRequest, context: Context) -> pb.GetTableSchemaResponse:
        workspace = await require_workspace(self._catalog, context)
        table = await self._databases.table_schema(workspace, request.id, request.name)
        return pb.GetTableSchemaResponse(
            schema=None if table.schema is None else type_message(table.schema), issues=table.issues
        )


class DatabaseRestServicer(rest_grpc.DatabaseServiceServicer):
    """Returns the rows of queries as JSON."""

    def __init__(self, catalog: Catalog, databases: DatabaseCalls) -> None:
        self._catalog = catalog
        self._databases = databases

    async def QueryDatabase(self, request: rest_pb.QueryDatabaseRequest, context: Context) -> HttpBody:
        workspace = await require_workspace(self._catalog, context)
        result = await self._databases.query(workspace, request.id, request.query, request.limit)
        schema = b"null" if result.schema is None else serialise(result.schema)
        issues = msgspec.json.encode(result.issues or None)
        body = b'{"rows":[' + b",".join(result.rows) + b'],"schema":' + schema + b',"issues":' + issues + b"}"
        return HttpBody(content_type="application/json", data=body)
