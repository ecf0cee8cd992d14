"""The errors and the counts of pipelines, for the services of both packages."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Final, Literal, cast

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Struct

from headwater.api.messages.eventquery import split_names
from headwater.api.messages.times import time_text
from headwater.api.request import Context, require_caller, require_workspace
from headwater.base.clock import Clock, microseconds
from headwater.base.errors import BadRequest, NotFound
from headwater.base.identifiers import MAX_ID
from headwater.catalog import Catalog
from headwater.observe.pipelinecounts import (
    PipelineMetrics,
    Range,
    Unit,
    dates,
    latest_units,
    pipeline_errors,
    pipeline_metrics,
)
from headwater.rest.v1 import pipelines_pb2 as rest_pb
from headwater.rest.v1 import pipelines_pb2_grpc as rest_grpc
from headwater.state import PipelineError, StateStore
from headwater.state.counts import STEPS
from headwater.state.lanestore import LaneStore
from headwater.v1 import pipelines_pb2 as pb

MAX_PIPELINES: Final = 1_000
"""Maximum number of pipelines whose counts are added."""
MAX_ERROR_PIPELINES: Final = 100
"""Maximum number of pipelines whose errors are listed."""
MAX_FIRST: Final = 9_999
MAX_LIMIT: Final = 100

_UNITS: Final[tuple[Unit, ...]] = ("minutes", "hours", "days")
_IDENTIFIER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_encode: Final = msgspec.json.Encoder().encode

ErrorsRequest = pb.ListPipelineErrorsRequest | rest_pb.ListPipelineErrorsRequest


class MetricsSelection(Struct, frozen=True):
    """The values of a request for counts: texts over REST, where a wrong one is 404."""

    pipelines: Sequence[int]
    units: Sequence[tuple[Unit, int | str]]
    start: str | None
    end: str | None
    start_field: Literal["start", "startDate"]
    end_field: Literal["end", "endDate"]


class PipelineCountReader:
    """Reads errors and counts of the pipelines that the caller may see."""

    def __init__(self, catalog: Catalog, state: StateStore, lanes: LaneStore, clock: Clock) -> None:
        self._catalog = catalog
        self._state = state
        self._lanes = lanes
        self._clock = clock

    async def errors(self, request: pb.ListPipelineErrorsRequest, context: Context) -> list[PipelineError]:
        """Return the errors that a typed request selects."""
        workspace = await require_workspace(self._catalog, context)
        for field, name in (("start_time", "startTime"), ("end_time", "endTime")):
            if not request.HasField(cast(Literal["start_time", "end_time"], field)):
                raise BadRequest(f"{name} is required", field=name)
        try:
            start, end = (microseconds(time.ToDatetime(UTC)) for time in (request.start_time, request.end_time))
        except (ValueError, OverflowError):
            raise NotFound("startTime and endTime must be in the years 1 to 9999") from None
        return await self._errors(request, workspace, start, end, request.pipelines, "endTime")

    async def errors_of_path(self, request: rest_pb.ListPipelineErrorsRequest, context: Context) -> list[PipelineError]:
        """Return the errors that a REST request selects."""
        workspace = await require_workspace(self._catalog, context)
        start, end = _path_time(request.start, "start"), _path_time(request.end, "end")
        return await self._errors(request, workspace, start, end, _identifiers(request.pipelines), "end")

    async def metrics(self, wanted: MetricsSelection, context: Context) -> PipelineMetrics:
        """Return the counts that a request selects."""
        workspace = (await require_caller(self._catalog, context)).workspace
        has_dates = wanted.start is not None or wanted.end is not None
        if len(wanted.units) + has_dates != 1:
            raise BadRequest("exactly one of minutes, hours, days and dates is required")
        over = None if has_dates else self._latest(*wanted.units[0])
        days = _dates(wanted) if has_dates else None
        present = self._present(_checked(wanted.pipelines, MAX_PIPELINES), workspace)
        if over is None:
            assert days is not None, "one of both is given"
            over = dates(*days, pipelines=len(set(wanted.pipelines)))
        return await pipeline_metrics(present, over, self._state, self._lanes)

    def _latest(self, unit: Unit, number: int | str) -> Range:
        if isinstance(number, str):
            if not _IDENTIFIER.fullmatch(number):
                raise NotFound(f"{unit} must be an integer", field=unit)
            number = int(number)
        return latest_units(unit, number, now=microseconds(self._clock.now()))

    async def _errors(
        self,
        request: ErrorsRequest,
        workspace: int,
        start: int,
        end: int,
        pipelines: Sequence[int],
        end_field: Literal["end", "endTime"],
    ) -> list[PipelineError]:
        if end < start:
            raise NotFound("the period ends before it starts", field=end_field)
        wanted = _checked(pipelines, MAX_ERROR_PIPELINES)
        step = request.step if request.HasField("step") else None
        if step is not None and step not in STEPS:
            raise BadRequest(f"step must be one of {', '.join(STEPS)}", field="step")
        first = request.first if request.HasField("first") else 0
        if not 0 <= first <= MAX_FIRST:
            raise BadRequest(f"first must be in the range from 0 to {MAX_FIRST}", field="first")
        limit = request.limit if request.HasField("limit") else MAX_LIMIT
        if not 1 <= limit <= MAX_LIMIT:
            raise BadRequest(f"limit must be in the range from 1 to {MAX_LIMIT}", field="limit")
        return await pipeline_errors(
            self._present(wanted, workspace),
            self._state,
            self._lanes,
            start=start,
            end=end,
            step=step,
            first=first,
            limit=limit,
        )

    def _present(self, ids: Iterable[int], workspace: int | None) -> list[int]:
        """Return the pipelines that exist in the workspace; None: in any."""
        return [id_ for id_ in ids if self._catalog.pipeline(workspace, id_) is not None]


class PipelineRestServicer(rest_grpc.PipelineServiceServicer):
    """Returns errors and counts for REST callers, who get numbers as JSON numbers."""

    def __init__(self, reader: PipelineCountReader) -> None:
        self._reader = reader

    async def ListPipelineErrors(self, request: rest_pb.ListPipelineErrorsRequest, context: Context) -> HttpBody:
        errors = [
            {
                "pipeline": error.pipeline,
                "step": STEPS.index(error.step),
                "count": error.count,
                "message": error.message,
                "lastOccurred": time_text(error.last_at),
            }
            for error in await self._reader.errors_of_path(request, context)
        ]
        return HttpBody(content_type="application/json", data=_encode({"errors": errors}))

    async def GetPipelineMetrics(self, request: rest_pb.GetPipelineMetricsRequest, context: Context) -> HttpBody:
        wanted = MetricsSelection(
            _identifiers(request.pipelines),
            [(unit, getattr(request, unit)) for unit in _UNITS if request.HasField(unit)],
            request.start if request.HasField("start") else None,
            request.end if request.HasField("end") else None,
            "start",
            "end",
        )
        metrics = await self._reader.metrics(wanted, context)
        document = {
            "start": time_text(metrics.range.start),
            "end": time_text(metrics.range.end),
            "passed": metrics.passed,
            "failed": metrics.failed,
        }
        return HttpBody(content_type="application/json", data=_encode(document))


def typed_metrics(request: pb.GetPipelineMetricsRequest) -> MetricsSelection:
    """Return the values of a typed request for counts."""
    return MetricsSelection(
        request.pipelines,
        [(unit, getattr(request, unit)) for unit in _UNITS if request.HasField(unit)],
        request.start_date if request.HasField("start_date") else None,
        request.end_date if request.HasField("end_date") else None,
        "startDate",
        "endDate",
    )


def error_message(error: PipelineError) -> pb.PipelineError:
    """Return an error as a message."""
    message = pb.PipelineError(pipeline=error.pipeline, step=error.step, count=error.count, message=error.message)
    message.last_occurred.FromMicroseconds(error.last_at)
    return message


def metrics_message(metrics: PipelineMetrics) -> pb.PipelineMetrics:
    """Return counts as a message."""
    units = zip(metrics.passed, metrics.failed, strict=True)
    message = pb.PipelineMetrics(
        units=[pb.PipelineMetricsUnit(passed=passed, failed=failed) for passed, failed in units]
    )
    message.start_time.FromMicroseconds(metrics.range.start)
    message.end_time.FromMicroseconds(metrics.range.end)
    return message


def _checked(pipelines: Sequence[int], maximum: int) -> list[int]:
    """Return the distinct ids. Raises BadRequest."""
    if not 1 <= len(pipelines) <= maximum:
        raise BadRequest(f"pipelines must name from 1 to {maximum} pipelines", field="pipelines")
    for id_ in pipelines:
        if not 1 <= id_ <= MAX_ID:
            raise BadRequest(f"pipeline identifier {id_} is not an integer between 1 and {MAX_ID}", field="pipelines")
    return [*dict.fromkeys(pipelines)]


def _identifiers(texts: Iterable[str]) -> list[int]:
    """Return the ids in a repeated parameter. Raises BadRequest for a text that is no integer."""
    found = []
    for text in split_names(texts):
        if not _IDENTIFIER.fullmatch(text):
            raise BadRequest(f"pipeline identifier {text[:60]!r} is not an integer", field="pipelines")
        found.append(int(text))
    return found


def _path_time(text: str, field: str) -> int:
    """Return the time in a path, in microseconds since the epoch; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return microseconds(moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC))
    except (ValueError, OverflowError):
        raise NotFound(f"{field} must be a time such as 2026-01-31T10:00:00Z", field=field) from None


def _dates(wanted: MetricsSelection) -> tuple[date, date]:
    return _date(wanted.start, wanted.start_field), _date(wanted.end, wanted.end_field)


def _date(text: str | None, field: str) -> date:
    try:
        if text is not None and _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise NotFound(f"{field} must be a date such as 2026-01-31", field=field)
