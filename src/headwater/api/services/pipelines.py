"""PipelineService: the pipelines of connections."""

from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from headwater.api.messages.pipelines import (
    Request,
    create_header,
    pipeline_message,
    read_create,
    read_update,
    suggestion_message,
    update_header,
)
from headwater.api.offloop import SMALL_DEFINITION_BYTES, compute
from headwater.api.request import Context, require_workspace
from headwater.api.services.pipelinecounts import (
    PipelineCountReader,
    error_message,
    metrics_message,
    typed_metrics,
)
from headwater.api.services.runs import PipelineRuns
from headwater.api.services.trials import PipelineTrials, read_limit
from headwater.base.clock import Clock
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, HeadwaterError, Unavailable
from headwater.catalog import Catalog, Connection, Definition, Pipeline
from headwater.connectors.connector import Target
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.management import pipelines
from headwater.management.quotas import Quotas, definition_size
from headwater.observe.lanestatus import lane_status
from headwater.state import StateStore
from headwater.state.lanestore import LaneStore
from headwater.state.runs import RunStore
from headwater.transforms.functions import Runner
from headwater.v1 import pipelines_pb2 as pb
from headwater.v1 import pipelines_pb2_grpc

_UNNAMED: Final = "Draft"
"""The name of a draft without one."""


class PipelineServicer(pipelines_pb2_grpc.PipelineServiceServicer):
    """Create, read, replace, enable, schedule, run, delete and try pipelines."""

    def __init__(
        self,
        catalog: Catalog,
        functions: Runner,
        state: StateStore,
        lanes: LaneStore,
        clock: Clock,
        computing: Computing,
        quotas: Quotas,
        environment: ConnectorEnvironment,
        trials: PipelineTrials,
        counts: PipelineCountReader,
        runs: RunStore,
    ) -> None:
        self._catalog = catalog
        self._functions = functions
        self._state = state
        self._lanes = lanes
        self._clock = clock
        self._computing = computing
        self._quotas = quotas
        self._environment = environment
        self._trials = trials
        self._counts = counts
        self._run_store = runs
        self._runs = PipelineRuns(catalog, runs, clock)

    async def CreatePipeline(self, request: pb.CreatePipelineRequest, context: Context) -> pb.CreatePipelineResponse:
        workspace = await require_workspace(self._catalog, context)
        created = await pipelines.create_pipeline(
            self._catalog,
            workspace,
            create_header(request),
            functions=self._functions,
            computing=self._computing,
            define=partial(self._define, workspace, request),
            quotas=self._quotas,
            environment=self._environment,
        )
        return pb.CreatePipelineResponse(id=created.id)

    async def GetPipelineSuggestion(
        self, request: pb.GetPipelineSuggestionRequest, context: Context
    ) -> pb.PipelineSuggestion:
        workspace = await require_workspace(self._catalog, context)
        suggested = await pipelines.suggest_pipeline(
            self._catalog, workspace, request.connection, request.target, request.event_type, self._environment
        )
        return suggestion_message(suggested)

    async def GetPipeline(self, request: pb.GetPipelineRequest, context: Context) -> pb.Pipeline:
        workspace = await require_workspace(self._catalog, context)
        pipeline = await pipelines.get_pipeline(self._catalog, workspace, request.id)
        connection = self._catalog.connection(workspace, pipeline.connection)
        assert connection is not None, "a pipeline goes with its connection"
        bare = _bare(connection)
        if definition_size(pipeline.definition) <= SMALL_DEFINITION_BYTES:
            message = _message(pipeline, bare)
        else:
            message = await self._computing.run(f"workspace {workspace}", _message, pipeline, bare)
        if message.HasField("running"):
            message.running = bool(await self._run_store.running([pipeline.id]))
        return message

    async def UpdatePipeline(self, request: pb.UpdatePipelineRequest, context: Context) -> pb.UpdatePipelineResponse:
        workspace = await require_workspace(self._catalog, context)
        await pipelines.get_pipeline(self._catalog, workspace, request.id)  # before the body is looked into
        await pipelines.update_pipeline(
            self._catalog,
            workspace,
            request.id,
            update_header(request),
            functions=self._functions,
            computing=self._computing,
            define=partial(self._define, workspace, request),
            quotas=self._quotas,
            environment=self._environment,
        )
        return pb.UpdatePipelineResponse()

    async def SetPipelineStatus(
        self, request: pb.SetPipelineStatusRequest, context: Context
    ) -> pb.SetPipelineStatusResponse:
        workspace = await require_workspace(self._catalog, context)
        await pipelines.set_pipeline_status(
            self._catalog,
            workspace,
            request.id,
            enabled=request.enabled,
            functions=self._functions,
            computing=self._computing,
        )
        return pb.SetPipelineStatusResponse()

    async def SetPipelineSchedule(
        self, request: pb.SetPipelineScheduleRequest, context: Context
    ) -> pb.SetPipelineScheduleResponse:
        workspace = await require_workspace(self._catalog, context)
        period = request.period if request.HasField("period") else None
        await pipelines.set_pipeline_schedule(self._catalog, workspace, request.id, period)
        return pb.SetPipelineScheduleResponse()

    async def GetPipelineLane(self, request: pb.GetPipelineLaneRequest, context: Context) -> pb.PipelineLane:
        workspace = await require_workspace(self._catalog, context)
        pipeline = await pipelines.get_pipeline(self._catalog, workspace, request.id)
        status = await lane_status(pipeline, self._state, self._lanes, self._clock)
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

    async def RunPipeline(self, request: pb.RunPipelineRequest, context: Context) -> pb.RunPipelineResponse:
        return await self._runs.start(request, context)

    async def ListPipelineRuns(
        self, request: pb.ListPipelineRunsRequest, context: Context
    ) -> pb.ListPipelineRunsResponse:
        return await self._runs.page(request, context)

    async def GetPipelineRun(self, request: pb.GetPipelineRunRequest, context: Context) -> pb.PipelineRun:
        return await self._runs.get(request, context)

    async def CancelPipelineRun(
        self, request: pb.CancelPipelineRunRequest, context: Context
    ) -> pb.CancelPipelineRunResponse:
        return await self._runs.cancel(request, context)

    async def ListPipelineRunErrors(
        self, request: pb.ListPipelineRunErrorsRequest, context: Context
    ) -> pb.ListPipelineRunErrorsResponse:
        return await self._runs.errors(request, context)

    async def ListPipelineErrors(
        self, request: pb.ListPipelineErrorsRequest, context: Context
    ) -> pb.ListPipelineErrorsResponse:
        errors = await self._counts.errors(request, context)
        return pb.ListPipelineErrorsResponse(errors=map(error_message, errors))

    async def GetPipelineMetrics(self, request: pb.GetPipelineMetricsRequest, context: Context) -> pb.PipelineMetrics:
        return metrics_message(await self._counts.metrics(typed_metrics(request), context))

    async def DeletePipeline(self, request: pb.DeletePipelineRequest, context: Context) -> pb.DeletePipelineResponse:
        workspace = await require_workspace(self._catalog, context)
        await pipelines.delete_pipeline(self._catalog, workspace, request.id)
        with suppress(Unavailable):  # the scheduler deletes the runs that are left
            await self._run_store.remove_pipeline(request.id)
        return pb.DeletePipelineResponse()

    async def TryPipeline(self, request: pb.TryPipelineRequest, context: Context) -> pb.TryPipelineResponse:
        workspace = await require_workspace(self._catalog, context)
        if not request.HasField("draft"):
            raise BadRequest("draft is required", field="draft")
        read_limit(request)  # before the draft is looked into
        request.draft.name = request.draft.name or _UNNAMED
        try:
            draft = await pipelines.draft_pipeline(
                self._catalog,
                workspace,
                create_header(request.draft),
                request.pipeline if request.HasField("pipeline") else None,
                functions=self._functions,
                computing=self._computing,
                define=partial(self._define, workspace, request.draft),
                environment=self._environment,
            )
        except HeadwaterError as error:
            if error.field is not None and error.field != "pipeline":
                error.field = f"draft.{error.field}"
            raise
        return await self._trials.run(draft, request)

    async def _define(
        self, workspace: int, request: Request, connection: Connection, target: Target, event_type: str
    ) -> Definition:
        owner = f"workspace {workspace}"
        return await compute(self._computing, owner, _definition, request, _bare(connection), target, event_type)


def _definition(request: Request, connection: Connection, target: Target, event_type: str) -> Definition:
    asked = read_create(request) if isinstance(request, pb.CreatePipelineRequest) else read_update(request)
    return pipelines.build_definition(CONNECTORS, connection, target, event_type, asked)


def _message(pipeline: Pipeline, connection: Connection) -> pb.Pipeline:
    return pipeline_message(pipeline, connection, CONNECTORS)


def _bare(connection: Connection) -> Connection:
    """The connection without what is large or secret, and what no rule of pipelines looks at."""
    return msgspec.structs.replace(
        connection, pipelines=(), event_write_keys=(), linked_connections=(), sealed_settings=None
    )
