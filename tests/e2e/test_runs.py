"""Runs of imports: their life in real processes, and the deaths of these processes."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from headwater.state.runs import LEASE_SECONDS
from tests.e2e.source import get, post
from tests.e2e.test_operations import call, headwater, make_other
from tests.system import HEADWATER, RunningSystem, child_ids, fork_server, start, wait_until
from tests.tenants import add_tenant

SECONDS: Final = 90.0
"""Time limit of a run that is taken over: a lease, and the start of two processes on a busy machine."""
IN_SCHEMA: Final = {"kind": "object", "properties": [{"name": "email", "type": {"kind": "string"}}]}
OUT_SCHEMA: Final = {
    "kind": "object",
    "properties": [{"name": "email", "type": {"kind": "string"}, "readOptional": True}],
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start a separate system, whose processes the tests kill."""
    system = start(tmp_path_factory.mktemp("runs") / "data")
    try:
        yield system
    finally:
        assert system.stop() == 0, system.errors
    assert "Traceback" not in system.errors


def make_import(system: RunningSystem, delay: str = "", workspace: int | None = None) -> tuple[int, int]:
    """Create an import of the ten customers of the dummy, which waits for a time; return connection and pipeline."""

    def create(path: str, body: Any) -> int:
        response = call(system, "POST", path, workspace, body)
        assert response.status_code == 200, response.text
        return int(response.json()["id"])

    connection = create(
        "/v1/connections",
        {"name": "CRM", "role": "Source", "connector": "dummy", "settings": {"operationDelay": delay}},
    )
    pipeline = {
        "connection": connection,
        "target": "User",
        "name": "Import",
        "enabled": True,
        "inSchema": IN_SCHEMA,
        "outSchema": OUT_SCHEMA,
        "transformation": {"mapping": {"email": "email"}, "function": None},
    }
    return connection, create("/v1/pipelines", pipeline)


def start_run(system: RunningSystem, pipeline: int) -> int:
    return int(post(system, f"/v1/pipelines/{pipeline}/runs", {})["id"])


def find_run(system: RunningSystem, run: int) -> dict[str, Any]:
    found: dict[str, Any] = get(system, f"/v1/pipelines/runs/{run}")
    return found


def wait_for(system: RunningSystem, run: int, status: str) -> dict[str, Any]:
    def has_status() -> bool:
        found = find_run(system, run)
        assert "endTime" not in found or found["status"] == status, found
        return bool(found["status"] == status)

    wait_until(has_status, SECONDS)
    return find_run(system, run)


def processes(system: RunningSystem, run: int) -> list[int]:
    """Return the process ids of the run."""
    found = []
    scheduler = system.children().get("scheduler")
    for pid in [] if scheduler is None else child_ids(scheduler):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(run) in arguments:
            found.append(pid)
    return found


def fence(system: RunningSystem, run: int) -> int:
    with closing(sqlite3.connect(system.data_dir / "runs.db")) as database:
        return int(database.execute("SELECT fence FROM runs WHERE id = ?", (run,)).fetchone()[0])


def has_begun(system: RunningSystem, run: int) -> Callable[[], bool]:
    """Return a condition: the process of the run has its folder, and its lease is that of a running process."""

    def has() -> bool:
        with closing(sqlite3.connect(system.data_dir / "runs.db")) as database:
            query = "SELECT fence, lease_until FROM runs WHERE id = ?"
            fence, lease_until = database.execute(query, (run,)).fetchone()
        is_renewed = 0 < lease_until <= (time.time() + LEASE_SECONDS) * 1e6
        return is_renewed and (system.data_dir / "scratch" / f"run-{run}-{fence}").exists()

    return has


def test_a_run_succeeds_and_is_shown_everywhere(system: RunningSystem) -> None:
    connection, pipeline = make_import(system)
    run = start_run(system, pipeline)
    assert (
        headwater(system, "runs", "watch", str(run)) == f"Run {run} is succeeded: 10 rows read, 10 passed, 0 failed\n"
    )
    found = wait_for(system, run, "Succeeded")
    assert (found["passed"], found["failed"], found["error"]) == ([10] * 6, [0] * 6, "")
    assert (found["progress"]["rows"], found["trigger"], found["cancelRequested"]) == ("10", "Request", False)
    assert found["createTime"] <= found["startTime"] <= found["endTime"]
    assert [each["id"] for each in get(system, f"/v1/pipelines/runs?pipeline={pipeline}")["runs"]] == [run]
    assert get(system, f"/v1/connections/{connection}/identities")["total"] == 10
    counted = get(system, f"/v1/pipelines/metrics/hours/2?pipelines={pipeline}")
    assert [sum(step) for step in zip(*counted["passed"], strict=True)] == [10] * 6
    assert not get(system, f"/v1/pipelines/{pipeline}")["running"]
    wait_until(lambda: not processes(system, run), SECONDS)
    assert not list((system.data_dir / "scratch").glob(f"run-{run}-*"))


def test_a_cancel_ends_a_run_within_seconds(system: RunningSystem) -> None:
    connection, pipeline = make_import(system, "1h")
    run = start_run(system, pipeline)
    assert call(system, "POST", f"/v1/pipelines/{pipeline}/runs", None, {}).json()["error"]["code"] == "RunInProgress"
    wait_until(has_begun(system, run), SECONDS)
    assert get(system, f"/v1/pipelines/{pipeline}")["running"]
    [shown] = [each for each in get(system, "/v1/connections")["connections"] if each["id"] == connection]
    assert shown["pipelines"][0]["running"]
    cancelled = post(system, f"/v1/pipelines/runs/{run}/cancel", {})["run"]
    assert cancelled["cancelRequested"]
    assert wait_until(lambda: find_run(system, run)["status"] == "Cancelled", SECONDS) < 10
    watched = subprocess.run(
        [*HEADWATER, "runs", "watch", str(run)],
        env={**os.environ, "HEADWATER_DATA_DIR": str(system.data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert watched.returncode == 1 and f"Run {run} is cancelled" in watched.stderr
    assert get(system, f"/v1/connections/{connection}/identities")["total"] == 0


def test_a_run_whose_process_is_killed_continues(system: RunningSystem) -> None:
    connection, pipeline = make_import(system, "2s")
    run = start_run(system, pipeline)
    wait_until(has_begun(system, run), SECONDS)
    [process] = processes(system, run)
    os.kill(process, signal.SIGKILL)
    found = wait_for(system, run, "Succeeded")
    assert found["passed"] == [10] * 6
    assert fence(system, run) == 2
    assert get(system, f"/v1/connections/{connection}/identities")["total"] == 10


def test_a_run_whose_processes_are_killed_fails(system: RunningSystem) -> None:
    _, pipeline = make_import(system, "1h")
    run = start_run(system, pipeline)
    killed: list[int] = []
    while len(killed) < 3:
        wait_until(lambda: processes(system, run) not in ([], killed[-1:]), SECONDS)
        [process] = processes(system, run)
        os.kill(process, signal.SIGKILL)
        killed.append(process)
    assert wait_for(system, run, "Failed")["error"] == (
        "the run process ended unexpectedly 3 times; the last time: it was killed by SIGKILL: "
        "is the machine out of memory?"
    )


def test_a_run_continues_when_the_scheduler_is_killed(system: RunningSystem) -> None:
    _, pipeline = make_import(system, "2s")
    run = start_run(system, pipeline)
    wait_until(has_begun(system, run), SECONDS)
    [process] = processes(system, run)
    os.kill(system.children()["scheduler"], signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{process}").exists(), SECONDS)
    assert wait_for(system, run, "Succeeded")["passed"] == [10] * 6
    assert fence(system, run) == 2


def test_runs_continue_and_start_when_the_fork_server_of_the_scheduler_is_killed(system: RunningSystem) -> None:
    _, pipeline = make_import(system, "1h")
    running = start_run(system, pipeline)
    wait_until(has_begun(system, running), SECONDS)
    [process] = processes(system, running)
    killed = fork_server(system.children()["scheduler"])
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    run = start_run(system, make_import(system)[1])
    assert wait_for(system, run, "Succeeded")["passed"] == [10] * 6
    assert processes(system, running) == [process]
    post(system, f"/v1/pipelines/runs/{running}/cancel", {})
    wait_for(system, running, "Cancelled")


def test_a_run_of_a_deleted_pipeline_ends(system: RunningSystem) -> None:
    _, pipeline = make_import(system, "1h")
    run = start_run(system, pipeline)
    wait_until(has_begun(system, run), SECONDS)
    assert call(system, "DELETE", f"/v1/pipelines/{pipeline}").status_code == 200
    wait_until(lambda: not processes(system, run), SECONDS)


def test_another_workspace_notices_nothing(system: RunningSystem) -> None:
    other = make_other(system)
    pipelines = [make_import(system, "1h")[1] for _ in range(5)]
    runs = [start_run(system, pipeline) for pipeline in pipelines]
    for method, path in (("GET", ""), ("GET", "/errors"), ("POST", "/cancel")):
        body: Any = {} if method == "POST" else None
        assert call(system, method, f"/v1/pipelines/runs/{runs[0]}{path}", other, body).status_code == 404
    assert call(system, "POST", f"/v1/pipelines/{pipelines[0]}/runs", other, {}).status_code == 404
    _, pipeline = make_import(system, workspace=other)
    own = call(system, "POST", f"/v1/pipelines/{pipeline}/runs", other, {}).json()["id"]
    page = f"/v1/pipelines/runs/{own}"
    wait_until(lambda: call(system, "GET", page, other).json()["status"] == "Succeeded", SECONDS)
    assert [each["id"] for each in call(system, "GET", "/v1/pipelines/runs", other).json()["runs"]] == [own]
    assert {find_run(system, run)["status"] for run in runs} <= {"Queued", "Running"}
    for run in runs:
        post(system, f"/v1/pipelines/runs/{run}/cancel", {})
    for run in runs:
        wait_for(system, run, "Cancelled")


def test_a_run_and_a_schedule_survive_a_restart(tmp_path: Path) -> None:
    first = start(tmp_path / "data")
    _, pipeline = make_import(first, "2s")
    _, scheduled = make_import(first)
    period = call(first, "PUT", f"/v1/pipelines/{scheduled}/schedule", None, {"period": "24h"})
    assert period.status_code == 200
    run = start_run(first, pipeline)
    wait_until(has_begun(first, run), SECONDS)
    assert first.stop() == 0, first.errors
    with closing(sqlite3.connect(first.data_dir / "runs.db")) as database:
        assert database.execute("SELECT status, ended_at, lease_until FROM runs").fetchall() == [("Running", None, 0)]
        with database:  # as if the system had stood still for two days
            database.execute("UPDATE schedules SET since = since - ?", (2 * 86_400 * 1_000_000,))
    second = start(first.data_dir)
    try:
        assert wait_for(second, run, "Succeeded")["passed"] == [10] * 6
        wait_until(lambda: bool(get(second, f"/v1/pipelines/runs?pipeline={scheduled}")["runs"]), SECONDS)
        [due] = get(second, f"/v1/pipelines/runs?pipeline={scheduled}")["runs"]
        assert due["trigger"] == "Schedule"
        wait_for(second, due["id"], "Succeeded")
        assert len(get(second, f"/v1/pipelines/runs?pipeline={scheduled}")["runs"]) == 1
    finally:
        assert second.stop() == 0, second.errors
    assert "Traceback" not in second.errors


def test_exported_customers_are_those_of_the_application(system: RunningSystem) -> None:
    """In a workspace of its own, because the other tests import the same customers, whose profiles would match too."""
    system = add_tenant(system, "Export")
    assert call(system, "PUT", "/v1/profiles/schema", None, {"schema": OUT_SCHEMA}).status_code == 200
    connection, imported = make_import(system)
    wait_for(system, start_run(system, imported), "Succeeded")
    wait_until(lambda: int(get(system, "/v1/profiles")["total"]) >= 10, SECONDS)
    destination = post(system, "/v1/connections", {"name": "CRM", "role": "Destination", "connector": "dummy"})["id"]
    names = ("email", "firstName")
    schema = {"kind": "object", "properties": [{"name": name, "type": {"kind": "string"}} for name in names]}
    pipeline = {
        "connection": destination,
        "target": "User",
        "name": "Export",
        "enabled": True,
        "exportMode": "CreateOrUpdate",
        "matching": {"in": "email", "out": "email"},
        "inSchema": OUT_SCHEMA,
        "outSchema": schema,
        "transformation": {"mapping": {"firstName": "email"}, "function": None},
    }
    exported = wait_for(system, start_run(system, post(system, "/v1/pipelines", pipeline)["id"]), "Succeeded")
    assert exported["failed"] == [0] * 6
    for each in (connection, destination):
        users = get(system, f"/v1/connections/{each}/users?schema={json.dumps(schema)}")["users"]
        assert [user["firstName"] for user in users] == [user["email"] for user in users]
        assert len(users) >= 10
