"""The commands for runs: a running server, which the test stands for, executes them at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import msgspec
import pytest

from headwater.base.clock import SystemClock, microseconds
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.cli import progress
from headwater.cli.main import main
from headwater.cli.run_commands import progress_line
from headwater.state.runs import Run, RunProgress, RunStore, open_runs
from headwater.storage.database import sqlite_url
from tests.harness import NOW, add_workspace
from tests.runs.test_scheduling import add_pipeline
from tests.sqlite import migrated_url

_Result = TypeVar("_Result")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HEADWATER_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADWATER_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(progress, "WATCH_SECONDS", 0.01)
    migrated_url(tmp_path / "catalog.db")
    migrated_url(tmp_path / "runs.db")
    return tmp_path


def use(folder: Path, action: Callable[[RunStore], Awaitable[_Result]]) -> _Result:
    """Run an action with the runs of the data directory."""

    async def run() -> _Result:
        async with open_runs(sqlite_url(folder / "runs.db"), clock=SystemClock(), identifiers=Identifiers()) as store:
            return await action(store)

    return asyncio.run(run())


@pytest.fixture
def pipeline(folder: Path) -> int:
    async def add() -> int:
        async with open_catalog(
            sqlite_url(folder / "catalog.db"), clock=SystemClock(), identifiers=Identifiers()
        ) as catalog:
            workspace = await add_workspace(catalog)
            return (await add_pipeline(catalog, workspace.id)).id

    return asyncio.run(add())


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the standard output of a command that succeeds."""
    capsys.readouterr()
    main(("runs", *arguments))
    return capsys.readouterr().out


def fails(*arguments: str) -> str:
    with pytest.raises(SystemExit) as raised:
        main(("runs", *arguments))
    assert isinstance(raised.value.code, str)
    return raised.value.code


def test_a_run_is_started_listed_and_cancelled(folder: Path, pipeline: int, capsys: pytest.CaptureFixture[str]) -> None:
    id_ = int(output(capsys, "start", str(pipeline), "--incremental"))
    assert "is running" in fails("start", str(pipeline))
    run = use(folder, lambda store: store.find(id_))
    assert run is not None and run.is_incremental and run.trigger == "Request"
    lines = output(capsys, "list").splitlines()
    assert lines[0].split()[:6] == ["ID", "WORKSPACE", "PIPELINE", "TRIGGER", "STATUS", "ROWS"]
    assert lines[1].split()[:6] == [str(id_), str(run.workspace), str(pipeline), "Request", "Queued", "0"]
    assert len(output(capsys, "list", "--pipeline", "1").splitlines()) == 1
    assert len(output(capsys, "list", "--workspace", str(run.workspace)).splitlines()) == 2
    assert output(capsys, "cancel", str(id_)).startswith(f"Run {id_} is cancelled: 0 rows read")
    running = int(output(capsys, "start", str(pipeline)))
    use(folder, lambda store: store.claim(run.workspace))
    assert output(capsys, "cancel", str(running)) == f"Run {running} ends within some seconds.\n"


def test_errors_are_of_one_line(pipeline: int) -> None:
    assert fails("start", "5") == "headwater: there is no pipeline 5"
    assert "full cannot be provided" in fails("start", str(pipeline), "--full")
    for action in ("watch", "cancel"):
        assert fails(action, "5") == "headwater: there is no run 5"


async def work(folder: Path, workspace: int, status: str) -> None:
    """Execute a run as a run process does."""
    async with open_runs(sqlite_url(folder / "runs.db"), clock=SystemClock(), identifiers=Identifiers()) as store:
        run = await store.claim(workspace)
        assert run is not None
        for rows in range(0, 11, 2):
            progress = RunProgress(rows=rows, total_rows=10, passed=(rows, 0, 0, 0, 0, rows))
            await store.save(run.id, run.fence, progress)
            await asyncio.sleep(0.02)
        if status == "Failed":
            await store.finish(run.id, run.fence, "Failed", error="why")
        else:
            await store.finish(run.id, run.fence, "Succeeded")


@pytest.mark.parametrize("status", ["Succeeded", "Failed"])
def test_a_run_is_watched_until_it_ends(
    folder: Path, pipeline: int, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    id_ = int(output(capsys, "start", str(pipeline)))
    run = use(folder, lambda store: store.find(id_))
    assert run is not None
    process = Thread(target=lambda: asyncio.run(work(folder, run.workspace, status)))
    process.start()
    try:
        if status == "Failed":
            assert fails("watch", str(id_)) == f"headwater: Run {id_} is failed: 10 rows read, 10 passed, 0 failed: why"
        else:
            found = output(capsys, "watch", str(id_))
            assert found == f"Run {id_} is succeeded: 10 rows read, 10 passed, 0 failed\n"
    finally:
        process.join()


RUN = Run(
    id=5,
    workspace=7,
    pipeline=3,
    connection=4,
    trigger="Request",
    is_incremental=False,
    status="Running",
    created_at=microseconds(NOW),
    started_at=microseconds(NOW),
)


@pytest.mark.parametrize(
    ("members", "progress", "expected"),
    [
        ({"status": "Queued", "started_at": None}, {}, "Run 5  0 rows  Queued"),
        ({}, {"rows": 20}, "Run 5  20 rows  10 rows/s  Running  2 s"),
        (
            {},
            {"rows": 20, "total_bytes": 400, "bytes": 200, "failed": (1, 0, 9, 0, 0, 2)},
            "Run 5  [###############...............]  50 %  20 rows  3 failed  10 rows/s  Running  2 s",
        ),
        (
            {},
            {"rows": 5, "total_rows": 20},
            "Run 5  [#######.......................]  25 %  5 of 20 rows  2 rows/s  Running  2 s",
        ),
        ({"is_cancelled": True}, {}, "Run 5  0 rows  Cancelling  2 s"),
        ({"status": "Failed", "ended_at": microseconds(NOW) + 1_000_000}, {}, "Run 5  0 rows  Failed  1 s"),
    ],
)
def test_the_progress_is_one_line(members: dict[str, Any], progress: dict[str, Any], expected: str) -> None:
    run = msgspec.structs.replace(RUN, **members, progress=RunProgress(**progress))
    assert progress_line(run, NOW + timedelta(seconds=2)) == expected
