"""Runs over the API: pages, progress, errors, and what another workspace sees."""

from typing import Any

import pytest
from google.protobuf import json_format

from headwater.rest.v1 import connections_pb2 as rest_connections_pb2
from headwater.state.runs import Run, RunError, RunErrorSample, RunProgress, RunRequest
from headwater.v1 import connections_pb2, pipelines_pb2
from tests.api.conftest import UNRESTRICTED, Api, CallError
from tests.harness import add_workspace
from tests.runs.test_scheduling import add_pipeline, replace

pytestmark = pytest.mark.both_databases

MESSAGES = {
    f"PipelineService/{name}": getattr(pipelines_pb2, f"{name}Request")
    for name in (
        *("RunPipeline", "ListPipelineRuns", "GetPipelineRun", "CancelPipelineRun", "ListPipelineRunErrors"),
        *("GetPipeline", "DeletePipeline"),
    )
}


async def call(api: Api, name: str, workspace: int | None = None, **members: Any) -> Any:
    """Call a method of the pipelines with the JSON members of its request; return the JSON of its response, or the
    error."""
    method = f"PipelineService/{name}"
    request = json_format.ParseDict(members, MESSAGES[method]())
    if workspace is None:
        response = await api.call(method, request)
    else:
        response = await api.call(method, request, ("headwater-workspace", str(workspace)), key=UNRESTRICTED)
    return response if isinstance(response, CallError) else json_format.MessageToDict(response)


async def add_run(api: Api, pipeline: int, workspace: int | None = None) -> Run:
    """Add a run that has ended to the store."""
    request = RunRequest(workspace=workspace or api.harness.workspace, pipeline=pipeline, connection=1)
    run = await api.harness.runs.create(request)
    await api.harness.runs.cancel(run.id)
    api.harness.clock.advance(1)
    return run


async def test_runs_are_listed_in_pages_the_newest_first(api: Api) -> None:
    created = [(await add_run(api, 1 + number % 2)).id for number in range(7)]
    other = await add_workspace(api.harness.catalog)
    await add_run(api, 9, other.id)
    for selection, expected in (({}, created[::-1]), ({"pipeline": 1}, created[::-2])):
        found: list[int] = []
        token = ""
        while True:
            page = await call(api, "ListPipelineRuns", limit=2, pageToken=token, **selection)
            found += [run["id"] for run in page.get("runs", ())]
            if not (token := page.get("nextPageToken", "")):
                break
        assert found == expected
    assert len((await call(api, "ListPipelineRuns", other.id))["runs"]) == 1
    assert (await call(api, "ListPipelineRuns", pageToken="x")).reason == "BadRequest"
    assert (await call(api, "ListPipelineRuns", limit=1001)).reason == "BadRequest"
    assert (await call(api, "ListPipelineRuns", pipeline=0)).reason == "BadRequest"


async def test_a_run_is_shown_with_its_progress_while_it_goes_on(api: Api) -> None:
    harness = api.harness
    pipeline = await add_pipeline(harness.catalog, harness.workspace)
    id_ = (await call(api, "RunPipeline", id=pipeline.id, incremental=True))["id"]
    queued = await call(api, "GetPipelineRun", id=id_)
    assert (queued["status"], queued["trigger"], queued["incremental"]) == ("Queued", "Request", True)
    assert not queued.keys() & {"startTime", "endTime", "errorStep", "error"}
    assert (await call(api, "RunPipeline", id=pipeline.id)).reason == "RunInProgress"
    run = await harness.runs.claim(harness.workspace)
    assert run is not None
    harness.clock.advance(2)
    progress = RunProgress(
        rows=50, passed=(50, 50, 50, 40, 40, 2**40), failed=(0, 0, 10, 0, 0, 0), bytes=25, total_bytes=100, unchanged=3
    )
    await harness.runs.save(id_, run.fence, progress)
    shown = await call(api, "GetPipelineRun", id=id_)
    assert shown["status"] == "Running" and shown["startTime"] >= shown["createTime"]
    assert shown["passed"] == [50, 50, 50, 40, 40, 2**31 - 1] and shown["failed"] == [0, 0, 10, 0, 0, 0]
    assert shown["progress"] == {
        "rows": "50",
        "bytes": "25",
        "totalBytes": "100",
        "unchanged": "3",
        "rowsPerSecond": 25.0,
        "percentage": 25.0,
    }
    await harness.runs.finish(id_, run.fence, "Failed", error="the file is empty", step="Receive")
    failed = await call(api, "GetPipelineRun", id=id_)
    assert (failed["status"], failed["error"], failed["errorStep"]) == ("Failed", "the file is empty", "Receive")
    assert failed["endTime"] > failed["startTime"]


async def test_errors_are_listed_in_pages(api: Api) -> None:
    harness = api.harness
    run = await harness.runs.create(RunRequest(workspace=harness.workspace, pipeline=1, connection=1))
    claimed = await harness.runs.claim(harness.workspace)
    assert claimed is not None
    samples = (RunErrorSample(7, "u1", "email"), RunErrorSample(None, "", ""))
    errors = [
        RunError(
            run=run.id, step="Filter", message=f"m{n}", count=n, first_at=1_000_000, last_at=2_000_000, samples=samples
        )
        for n in range(1, 6)
    ]
    await harness.runs.save(run.id, claimed.fence, RunProgress(), errors)
    first = await call(api, "ListPipelineRunErrors", id=run.id, limit=3)
    second = await call(api, "ListPipelineRunErrors", id=run.id, limit=3, pageToken=first["nextPageToken"])
    assert [each["message"] for each in (*first["errors"], *second["errors"])] == ["m5", "m4", "m3", "m2", "m1"]
    assert first["errors"][0] == {
        "step": "Filter",
        "message": "m5",
        "count": "5",
        "samples": [{"number": "7", "recordId": "u1", "path": "email"}, {}],
        "firstOccurred": "1970-01-01T00:00:01Z",
        "lastOccurred": "1970-01-01T00:00:02Z",
    }


async def test_another_workspace_sees_and_cancels_no_run(api: Api) -> None:
    harness = api.harness
    run = await harness.runs.create(RunRequest(workspace=harness.workspace, pipeline=1, connection=1))
    other = await add_workspace(harness.catalog)
    for name in ("GetPipelineRun", "CancelPipelineRun", "ListPipelineRunErrors"):
        refused = await call(api, name, other.id, id=run.id)
        assert (refused.reason, refused.message) == ("NotFound", f"pipeline run {run.id} does not exist")
        assert (await call(api, name, id=0)).reason == "BadRequest"
    assert (await call(api, "GetPipelineRun", id=run.id))["status"] == "Queued"
    assert (await call(api, "CancelPipelineRun", id=run.id))["run"]["status"] == "Cancelled"


async def test_pipelines_show_whether_they_run(api: Api) -> None:
    harness = api.harness
    first = await add_pipeline(harness.catalog, harness.workspace)
    second = await add_pipeline(harness.catalog, harness.workspace)

    async def shown() -> list[set[int]]:
        typed = await api.call("ConnectionService/ListConnections", connections_pb2.ListConnectionsRequest())
        connections = [
            *typed.connections,
            *[
                await api.call("ConnectionService/GetConnection", connections_pb2.GetConnectionRequest(id=each.id))
                for each in typed.connections
            ],
        ]
        body = await api.call("rest.ConnectionService/ListConnections", rest_connections_pb2.ListConnectionsRequest())
        rest = connections_pb2.ListConnectionsResponse()
        json_format.Parse(body.data, rest)
        alone = [await call(api, "GetPipeline", id=each.id) for each in (first, second)]
        return [
            {pipeline.id for each in connections for pipeline in each.pipelines if pipeline.running},
            {pipeline.id for each in rest.connections for pipeline in each.pipelines if pipeline.running},
            {each["id"] for each in alone if each["running"]},
        ]

    assert await shown() == [set(), set(), set()]
    id_ = (await call(api, "RunPipeline", id=first.id))["id"]
    assert await shown() == [{first.id}] * 3
    await call(api, "CancelPipelineRun", id=id_)
    assert await shown() == [set(), set(), set()]


async def test_the_runs_of_a_deleted_pipeline_are_deleted(api: Api) -> None:
    harness = api.harness
    pipeline = await add_pipeline(harness.catalog, harness.workspace)
    await call(api, "RunPipeline", id=pipeline.id)
    await call(api, "DeletePipeline", id=pipeline.id)
    assert await call(api, "ListPipelineRuns") == {}


async def test_a_disabled_pipeline_does_not_run(api: Api) -> None:
    harness = api.harness
    pipeline = await add_pipeline(harness.catalog, harness.workspace)
    await replace(harness.catalog, pipeline, enabled=False)
    assert (await call(api, "RunPipeline", id=pipeline.id)).reason == "PipelineDisabled"
