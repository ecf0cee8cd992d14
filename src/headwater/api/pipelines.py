"""PipelineService: the pipelines of connections."""

from headwater.api.access import workspace_of
from headwater.api.call import Context
from headwater.api.pipelinemessage import create_of, pipeline_message, update_of
from headwater.base.clock import Clock
from headwater.catalog import Catalog
from headwater.lanestore import LaneStore
from headwater.management import pipelines
from headwater.pipelines.lanestatus import lane_status
from headwater.transforms.functions import Runner
from headwater.v1 import pipelines_pb2 as pb
from headwater.v1 import pipelines_pb2_grpc
from headwater.warehouse import Warehouse


class PipelineServicer(pipelines_pb2_grpc.PipelineServiceServicer):
    """Create, read, replace, enable, schedule and delete pipelines."""

    def __init__(
        self, catalog: Catalog, functions: Runner, warehouse: Warehouse, lanes: LaneStore, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._functions = functions
        self._warehouse = warehouse
        self._lanes = lanes
        self._clock = clock

    async def CreatePipeline(self, request: pb.CreatePipelineRequest, context: Context) -> pb.CreatePipelineResponse:
        workspace = await workspace_of(self._catalog, context)
        created = await pipelines.create_pipeline(
            self._catalog, workspace, create_of(request), functions=self._functions
        )
        return pb.CreatePipelineResponse(id=created.id)

    async def GetPipeline(self, request: pb.GetPipelineRequest, context: Context) -> pb.Pipeline:
        workspace = await workspace_of(self._catalog, context)
        pipeline = await pipelines.get_pipeline(self._catalog, workspace, request.id)
        connection = self._catalog.connection(workspace, pipeline.connection)
        assert connection is not None, "a pipeline goes with its connection"
        return pipeline_message(pipeline, connection, self._catalog.connectors)

    async def UpdatePipeline(self, request: pb.UpdatePipelineRequest, context: Context) -> pb.UpdatePipelineResponse:
        workspace = await workspace_of(self._catalog, context)
        await pipelines.get_pipeline(self._catalog, workspace, request.id)  # before the body is looked into
        await pipelines.update_pipeline(
            self._catalog, workspace, request.id, update_of(request), functions=self._functions
        )
        return pb.UpdatePipelineResponse()

    async def SetPipelineStatus(
        self, request: pb.SetPipelineStatusRequest, context: Context
    ) -> pb.SetPipelineStatusResponse:
        workspace = await workspace_of(self._catalog, context)
        await pipelines.set_pipeline_status(
            self._catalog, workspace, request.id, enabled=request.enabled, functions=self._functions
        )
        return pb.SetPipelineStatusResponse()

    async def SetPipelineSchedule(
        self, request: pb.SetPipelineScheduleRequest, context: Context
    ) -> pb.SetPipelineScheduleResponse:
        workspace = await workspace_of(self._catalog, context)
        period = request.period if request.HasField("period") else None
        await pipelines.set_pipeline_schedule(self._catalog, workspace, request.id, period)
        return pb.SetPipelineScheduleResponse()

    async def GetPipelineLane(self, request: pb.GetPipelineLaneRequest, context: Context) -> pb.PipelineLane:
        workspace = await workspace_of(self._catalog, context)
        pipeline = await pipelines.get_pipeline(self._catalog, workspace, request.id)
        status = await lane_status(pipeline, self._warehouse, self._lanes, self._clock)
        message = pb.PipelineLane(
            waiting=status.waiting,
            bytes=status.bytes,
            paused=status.paused_until is not None,
            reason=status.reason,
        )
        for name, at in (("oldest_at", status.oldest_at), ("paused_until", status.paused_until)):
            if at is not None:
                getattr(message, name).FromMicroseconds(at)
        return message

    async def DeletePipeline(self, request: pb.DeletePipelineRequest, context: Context) -> pb.DeletePipelineResponse:
        workspace = await workspace_of(self._catalog, context)
        await pipelines.delete_pipeline(self._catalog, workspace, request.id)
        return pb.DeletePipelineResponse()
