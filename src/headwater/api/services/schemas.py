"""SchemaService: the schema of events."""

from typing import Final

from headwater.api.messages.schema import type_message
from headwater.api.request import Context, authenticate
from headwater.catalog import Catalog
from headwater.schemas import EVENT_SCHEMA
from headwater.v1 import schemas_pb2 as pb
from headwater.v1 import schemas_pb2_grpc

_EVENT_SCHEMA: Final = type_message(EVENT_SCHEMA)


class SchemaServicer(schemas_pb2_grpc.SchemaServiceServicer):
    """Shows what filters and mappings of events can use."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def GetEventSchema(self, request: pb.GetEventSchemaRequest, context: Context) -> pb.DataType:
        await authenticate(self._catalog, context)
        return _EVENT_SCHEMA
