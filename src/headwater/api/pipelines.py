"""PipelineService: the pipelines of connections."""

from typing import Final

from google.protobuf.message import Message

from headwater.api.access import workspace_of
from headwater.api.call import Context
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.management import pipelines
from headwater.v1 import pipelines_pb2 as pb
from headwater.v1 import pipelines_pb2_grpc

_SETTABLE: Final = frozenset(("id", "connection", "target", "name", "enabled"))
"""The members of a request that every pipeline has."""


class PipelineServicer(pipelines_pb2_grpc.PipelineServiceServicer):
    """Create, read, replace, enable, disable and delete pipelines."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def CreatePipeline(self, request: pb.CreatePipelineRequest, context: Context) -> pb.CreatePipelineResponse:
        workspace = await workspace_of(self._catalog, context)
        created = await pipelines.create_pipeline(
            self._catalog,
            workspace,
            pipelines.CreatePipeline(
                connection=request.connection,
                target=request.target,
                name=request.name,
                enabled=request.enabled,
                others=_others(request),
            ),
        )
        return pb.CreatePipelineResponse(id=created.id)

    async def GetPipeline(self, request: pb.GetPipelineRequest, context: Context) -> pb.Pipeline:
        workspace = await workspace_of(self._catalog, context)
        pipeline = await pipelines.get_pipeline(self._catalog, workspace, request.id)
        connection = self._catalog.connection(workspace, pipeline.connection)
        assert connection is not None, "a pipeline goes with its connection"
        return pipeline_message(pipeline, connection, self._catalog.connectors[connection.connector].type)

    async def UpdatePipeline(self, request: pb.UpdatePipelineRequest, context: Context) -> pb.UpdatePipelineResponse:
        workspace = await workspace_of(self._catalog, context)
        update = pipelines.UpdatePipeline(name=request.name, enabled=request.enabled, others=_others(request))
        await pipelines.update_pipeline(self._catalog, workspace, request.id, update)
        return pb.UpdatePipelineResponse()

    async def SetPipelineStatus(
        self, request: pb.SetPipelineStatusRequest, context: Context
    ) -> pb.SetPipelineStatusResponse:
        workspace = await workspace_of(self._catalog, context)
        await pipelines.set_pipeline_status(self._catalog, workspace, request.id, enabled=request.enabled)
        return pb.SetPipelineStatusResponse()

    async def DeletePipeline(self, request: pb.DeletePipelineRequest, context: Context) -> pb.DeletePipelineResponse:
        workspace = await workspace_of(self._catalog, context)
        await pipelines.delete_pipeline(self._catalog, workspace, request.id)
        return pb.DeletePipelineResponse()


def pipeline_message(pipeline: Pipeline, connection: Connection, connector_type: str) -> pb.Pipeline:
    """The pipeline as it is shown, alone or inside its connection."""
    return pb.Pipeline(
        id=pipeline.id,
        name=pipeline.name,
        connector=connection.connector,
        connector_type=connector_type,
        connection=connection.id,
        connection_role=connection.role,
        target=pipeline.target,
        enabled=pipeline.enabled,
    )


def _others(request: Message) -> frozenset[str]:
    """The documented names of the members that were given beside `_SETTABLE`; an empty text or false is not given."""
    return frozenset(
        field.json_name
        for field, value in request.ListFields()
        if field.name not in _SETTABLE and value not in ("", False)
    )
