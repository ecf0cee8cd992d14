"""The runs of pipelines, for PipelineService."""

from headwater.api.messages.times import set_time
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.base.clock import Clock, microseconds
from headwater.base.errors import NotFound
from headwater.catalog import Catalog
from headwater.management.names import check_identifier
from headwater.management.runs import run_pipeline
from headwater.state.runs import Run, RunCursor, RunError, RunErrorCursor, RunStore
from headwater.v1 import pipelines_pb2 as pb

_MAX_COUNT = 2**31 - 1
"""The highest count of a step that a message holds."""


class PipelineRuns:
    """Starts, cancels and shows runs."""

    def __init__(self, catalog: Catalog, runs: RunStore, clock: Clock) -> None:
        self._catalog = catalog
        self._runs = runs
        self._clock = clock

    async def start(self, request: pb.RunPipelineRequest, context: Context) -> pb.RunPipelineResponse:
        workspace = await require_workspace(self._catalog, context)
        incremental = request.incremental if request.HasField("incremental") else None
        created = await run_pipeline(
            self._catalog, self._runs, workspace, request.id, incremental=incremental, full=request.full
        )
        return pb.RunPipelineResponse(id=created.id)

    async def cancel(self, request: pb.CancelPipelineRunRequest, context: Context) -> pb.CancelPipelineRunResponse:
        workspace = await require_workspace(self._catalog, context)
        check_identifier(request.id, "run identifier", field="id")
        cancelled = _found(await self._runs.cancel(request.id, workspace), request.id)
        return pb.CancelPipelineRunResponse(run=self._message(cancelled))

    async def page(self, request: pb.ListPipelineRunsRequest, context: Context) -> pb.ListPipelineRunsResponse:
        workspace = await require_workspace(self._catalog, context)
        pipeline = request.pipeline if request.HasField("pipeline") else None
        if pipeline is not None:
            check_identifier(pipeline, "pipeline identifier", field="pipeline")
        page = Page(request, RunCursor)
        found = await self._runs.page(workspace, pipeline=pipeline, after=page.after, limit=page.limit + 1)
        shown, token = page.cut(found, lambda each: RunCursor(each.created_at, each.id))
        return pb.ListPipelineRunsResponse(runs=map(self._message, shown), next_page_token=token)

    async def get(self, request: pb.GetPipelineRunRequest, context: Context) -> pb.PipelineRun:
        return self._message(await self._find(request.id, context))

    async def errors(
        self, request: pb.ListPipelineRunErrorsRequest, context: Context
    ) -> pb.ListPipelineRunErrorsResponse:
        run = await self._find(request.id, context)
        page = Page(request, RunErrorCursor)
        found = await self._runs.errors(run.id, after=page.after, limit=page.limit + 1)
        shown, token = page.cut(found, lambda each: each.cursor)
        return pb.ListPipelineRunErrorsResponse(errors=map(_error_message, shown), next_page_token=token)

    async def _find(self, id_: int, context: Context) -> Run:
        workspace = await require_workspace(self._catalog, context)
        check_identifier(id_, "run identifier", field="id")
        return _found(await self._runs.find(id_, workspace), id_)

    def _message(self, run: Run) -> pb.PipelineRun:
        return run_message(run, microseconds(self._clock.now()))


def _found(run: Run | None, id_: int) -> Run:
    if run is None:
        raise NotFound(f"pipeline run {id_} does not exist", field="id")
    return run


def run_message(run: Run, now: int) -> pb.PipelineRun:
    """Return a run as a message. `now` is in microseconds since the epoch."""
    progress = run.progress
    message = pb.PipelineRun(
        id=run.id,
        pipeline=run.pipeline,
        passed=[min(each, _MAX_COUNT) for each in progress.passed],
        failed=[min(each, _MAX_COUNT) for each in progress.failed],
        error=run.error,
        status=run.status,
        trigger=run.trigger,
        incremental=run.is_incremental,
        full=run.is_full,
        error_step=run.error_step,
        cancel_requested=run.is_cancelled,
        progress=pb.PipelineRunProgress(
            rows=progress.rows,
            total_rows=progress.total_rows,
            bytes=progress.bytes,
            total_bytes=progress.total_bytes,
            unchanged=progress.unchanged,
            rows_per_second=run.rows_per_second(now),
            percentage=run.percentage,
        ),
    )
    for field, at in (
        ("create_time", run.created_at),
        ("start_time", run.started_at),
        ("end_time", run.ended_at),
    ):
        set_time(message, field, at)
    return message


def _error_message(error: RunError) -> pb.PipelineRunError:
    message = pb.PipelineRunError(
        step=error.step,
        message=error.message,
        count=error.count,
        samples=[
            pb.PipelineRunErrorSample(number=each.number, record_id=each.id, path=each.path) for each in error.samples
        ],
    )
    set_time(message, "first_occurred", error.first_at)
    set_time(message, "last_occurred", error.last_at)
    return message
