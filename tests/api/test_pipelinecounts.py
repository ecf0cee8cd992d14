"""Errors and counts of pipelines over both packages: values, ranges, and every documented error."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from headwater.api.services.pipelinecounts import MAX_ERROR_PIPELINES, MAX_PIPELINES
from headwater.base.clock import microseconds
from headwater.base.steps import ProcessingStep, StepOutcome
from headwater.catalog import Connection
from headwater.rest.v1 import pipelines_pb2 as rest_pb
from headwater.state import PipelineCounts
from headwater.v1 import pipelines_pb2 as pb
from tests.api.conftest import REST, UNRESTRICTED, Api, CallError
from tests.harness import NOW, Harness, add_source, add_workspace

ERRORS, ERRORS_JSON = "PipelineService/ListPipelineErrors", "rest.PipelineService/ListPipelineErrors"
METRICS, METRICS_JSON = "PipelineService/GetPipelineMetrics", "rest.PipelineService/GetPipelineMetrics"
TODAY, TOMORROW = "2026-11-22", "2026-11-23"


def counted(
    pipeline: int, step: ProcessingStep, outcome: StepOutcome, records: int, message: str = ""
) -> PipelineCounts:
    counts = PipelineCounts()
    counts.add(pipeline, step, outcome, records, message=message, has_waited=step != "Filter")
    return counts


async def in_worker(harness: Harness, counts: PipelineCounts, at: datetime = NOW) -> None:
    async with harness.state.transaction() as transaction:
        await transaction.record_counts(counts, now=microseconds(at))


async def in_courier(harness: Harness, counts: PipelineCounts, at: datetime = NOW) -> None:
    await harness.store.record(counts, now=microseconds(at))


async def to_json(api: Api, method: str, request: Any, *metadata: tuple[str, str], **options: Any) -> Any:
    response = await api.call(method, request, *metadata, **options)
    assert not isinstance(response, CallError), response
    assert response.content_type == "application/json"
    return json.loads(response.data)


def moment(time: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(time)
    return found


@pytest.fixture
def pipeline(source: Connection) -> int:
    return source.pipelines[0].id


async def test_counts_of_both_processes_are_added(api: Api, source: Connection) -> None:
    harness = api.harness
    first, second = (pipeline.id for pipeline in source.pipelines)
    await in_worker(harness, counted(first, "Filter", "Filtered", 2))
    await in_courier(harness, counted(first, "Finalize", "Passed", 3))
    await in_courier(harness, counted(second, "Finalize", "Failed", 4), NOW - timedelta(minutes=1))
    request = rest_pb.GetPipelineMetricsRequest(minutes="2", pipelines=[f"{first},{second}", str(first)])
    assert await to_json(api, METRICS_JSON, request) == {
        "start": "2026-11-22T11:59:00Z",
        "end": "2026-11-22T12:01:00Z",
        "passed": [[0, 0, 0, 4, 4, 0], [2, 0, 0, 3, 3, 3]],
        "failed": [[0, 0, 0, 0, 0, 4], [0, 0, 2, 0, 0, 0]],
    }
    typed = await api.call(METRICS, pb.GetPipelineMetricsRequest(minutes=2, pipelines=[first, second]))
    assert [list(unit.passed) for unit in typed.units] == [[0, 0, 0, 4, 4, 0], [2, 0, 0, 3, 3, 3]]
    assert typed.end_time == moment(datetime(2026, 11, 22, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("path", "typed", "start", "units"),
    [
        ({"minutes": "60"}, {"minutes": 60}, "2026-11-22T11:01:00Z", 60),
        ({"hours": "1"}, {"hours": 1}, "2026-11-22T12:00:00Z", 1),
        ({"hours": "48"}, {"hours": 48}, "2026-11-20T13:00:00Z", 48),
        ({"days": "+30"}, {"days": 30}, "2026-10-24T00:00:00Z", 30),
        ({"start": TODAY, "end": TOMORROW}, {"start_date": TODAY, "end_date": TOMORROW}, f"{TODAY}T00:00:00Z", 1),
        (
            {"start": "2024-02-28", "end": "2024-03-01"},
            {"start_date": "2024-02-28", "end_date": "2024-03-01"},
            "2024-02-28T00:00:00Z",
            2,
        ),
    ],
)
async def test_ranges(api: Api, pipeline: int, path: Any, typed: Any, start: str, units: int) -> None:
    found = await to_json(api, METRICS_JSON, rest_pb.GetPipelineMetricsRequest(pipelines=[str(pipeline)], **path))
    assert found["start"] == start
    assert found["passed"] == found["failed"] == [[0] * 6] * units
    message = await api.call(METRICS, pb.GetPipelineMetricsRequest(pipelines=[pipeline], **typed))
    assert (message.start_time.ToJsonString(), len(message.units)) == (start, units)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        *(
            ({unit: text}, "NotFound")
            for unit in ("minutes", "hours", "days")
            for text in ("0", "61", "x", "1.5", "-1", "")
        ),
        ({"start": TODAY, "end": TODAY}, "NotFound"),
        ({"start": TOMORROW, "end": TODAY}, "NotFound"),
        ({"start": "2026-02-30", "end": TODAY}, "NotFound"),
        ({"start": "20261122", "end": TOMORROW}, "NotFound"),
        ({"start": TODAY}, "NotFound"),
        ({"start": "1900-01-01", "end": "2100-01-01"}, "BadRequest"),
        ({"minutes": "1", "hours": "1"}, "BadRequest"),
        ({"minutes": "1", "start": TODAY, "end": TOMORROW}, "BadRequest"),
        ({}, "BadRequest"),
    ],
)
async def test_bad_ranges(api: Api, pipeline: int, path: Any, reason: str) -> None:
    refused = await api.call(METRICS_JSON, rest_pb.GetPipelineMetricsRequest(pipelines=[str(pipeline)], **path), REST)
    assert refused.reason == "" and refused.http[1]["error"]["code"] == reason
    assert refused.http[0] == {"NotFound": 404, "BadRequest": 400}[reason]


@pytest.mark.parametrize(
    "pipelines", [[], [""], ["x"], ["0"], ["-1"], ["1,,x"], [str(2**31)], ["1"] * (MAX_PIPELINES + 1)]
)
@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (METRICS_JSON, rest_pb.GetPipelineMetricsRequest(minutes="1")),
        (ERRORS_JSON, rest_pb.ListPipelineErrorsRequest(start=TODAY, end=TOMORROW)),
    ],
)
async def test_bad_pipelines(api: Api, method: str, request_: Any, pipelines: list[str]) -> None:
    wanted = type(request_)()
    wanted.CopyFrom(request_)
    wanted.pipelines.extend(pipelines)
    refused = await api.call(method, wanted)
    assert (refused.reason, dict(refused.metadata)["field"]) == ("BadRequest", "pipelines")


async def test_pipelines_of_other_workspaces_are_ignored(api: Api, pipeline: int) -> None:
    other = await add_workspace(api.harness.catalog)
    theirs = (await add_source(api.harness.catalog, other.id)).pipelines[0].id
    for each in (pipeline, theirs, 7):
        await in_worker(api.harness, counted(each, "Filter", "Failed", 1, "no"))
    ids = [f"{pipeline},{theirs},7"]
    request = rest_pb.GetPipelineMetricsRequest(minutes="1", pipelines=ids)
    assert (await to_json(api, METRICS_JSON, request))["failed"] == [[0, 0, 1, 0, 0, 0]]
    errors = rest_pb.ListPipelineErrorsRequest(start=TODAY, end=TOMORROW, pipelines=ids)
    assert [each["pipeline"] for each in (await to_json(api, ERRORS_JSON, errors))["errors"]] == [pipeline]
    errors.pipelines[:] = [str(theirs)]
    assert await to_json(api, ERRORS_JSON, errors) == {"errors": []}
    # A key of all workspaces needs to name none for counts.
    assert (await to_json(api, METRICS_JSON, request, key=UNRESTRICTED))["failed"] == [[0, 0, 2, 0, 0, 0]]
    assert (await api.call(ERRORS_JSON, errors, key=UNRESTRICTED)).reason == "Forbidden"


async def test_errors_of_both_processes_are_merged(api: Api, pipeline: int) -> None:
    for minutes, message in enumerate(("a", "b", "c")):
        at = NOW + timedelta(minutes=minutes)
        await in_worker(api.harness, counted(pipeline, "Transformation", "Failed", 1, message), at)
        await in_courier(api.harness, counted(pipeline, "Transformation", "Failed", 2, message), at)
    await in_courier(api.harness, counted(pipeline, "Finalize", "Failed", 5, "410"), NOW + timedelta(seconds=1))
    request = rest_pb.ListPipelineErrorsRequest(
        start="2026-11-22T12:00:00Z", end="2026-11-22T14:00:00+01:00", pipelines=[str(pipeline)]
    )
    found = (await to_json(api, ERRORS_JSON, request))["errors"]
    assert [(each["message"], each["count"], each["step"]) for each in found] == [
        ("c", 3, 3), ("b", 3, 3), ("410", 5, 5), ("a", 3, 3),
    ]  # fmt: skip
    assert found[0] == {
        "pipeline": pipeline, "step": 3, "count": 3, "message": "c", "lastOccurred": "2026-11-22T12:02:10.500Z"
    }  # fmt: skip
    request.first, request.limit = 1, 2
    assert [each["message"] for each in (await to_json(api, ERRORS_JSON, request))["errors"]] == ["b", "410"]
    request.step = "Finalize"
    request.first = 0
    assert [each["message"] for each in (await to_json(api, ERRORS_JSON, request))["errors"]] == ["410"]
    typed = pb.ListPipelineErrorsRequest(
        pipelines=[pipeline], start_time=moment(NOW), end_time=moment(NOW + timedelta(hours=1)), step="Finalize"
    )
    (error,) = (await api.call(ERRORS, typed)).errors
    assert (error.pipeline, error.step, error.count, error.message) == (pipeline, "Finalize", 5, "410")
    assert error.last_occurred == moment(NOW + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"start": "yesterday"}, "NotFound"),
        ({"end": ""}, "NotFound"),
        ({"end": "99999-01-01"}, "NotFound"),
        ({"start": TOMORROW, "end": TODAY}, "NotFound"),
        ({"step": "2"}, "BadRequest"),
        ({"step": ""}, "BadRequest"),
        ({"first": -1}, "BadRequest"),
        ({"first": 10_000}, "BadRequest"),
        ({"limit": 0}, "BadRequest"),
        ({"limit": 101}, "BadRequest"),
        ({"pipelines": ["1"] * (MAX_ERROR_PIPELINES + 1)}, "BadRequest"),
    ],
)
async def test_bad_questions_about_errors(api: Api, pipeline: int, members: Any, reason: str) -> None:
    request = rest_pb.ListPipelineErrorsRequest(
        **{"start": TODAY, "end": TOMORROW, "pipelines": [str(pipeline)], **members}
    )
    assert (await api.call(ERRORS_JSON, request)).reason == reason


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.ListPipelineErrorsRequest(pipelines=[1]), "BadRequest"),
        (pb.ListPipelineErrorsRequest(pipelines=[1], start_time=moment(NOW)), "BadRequest"),
        (pb.ListPipelineErrorsRequest(start_time=moment(NOW), end_time=moment(NOW)), "BadRequest"),
        (
            pb.ListPipelineErrorsRequest(pipelines=[1], start_time=Timestamp(seconds=10**12), end_time=moment(NOW)),
            "NotFound",
        ),
    ],
)
async def test_bad_typed_questions_about_errors(api: Api, request_: Any, reason: str) -> None:
    assert (await api.call(ERRORS, request_)).reason == reason
