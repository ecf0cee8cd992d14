"""The commands for operations: a running server, which the test stands for, executes them at the same time."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TypeVar

import pytest

from headwater.base.clock import SystemClock, microseconds
from headwater.base.identifiers import Identifiers
from headwater.cli import progress
from headwater.cli.main import main
from headwater.cli.operation_commands import progress_line
from headwater.state.operations import (
    DELIVERY_KINDS,
    Operation,
    OperationStore,
    ReplayParameters,
    ResendParameters,
    open_operations,
)
from headwater.storage.database import sqlite_url
from tests.harness import NOW

_Result = TypeVar("_Result")
Use = Callable[[OperationStore], Awaitable[_Result]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HEADWATER_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADWATER_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(progress, "WATCH_SECONDS", 0.01)
    (tmp_path / "catalog.db").touch()
    return tmp_path


def opened(folder: Path) -> AbstractAsyncContextManager[OperationStore]:
    return open_operations(sqlite_url(folder / "operations.db"), clock=SystemClock(), identifiers=Identifiers())


def use(folder: Path, action: Use[_Result]) -> _Result:
    """Run an action with the operations of the data directory."""

    async def run() -> _Result:
        async with opened(folder) as store:
            return await action(store)

    return asyncio.run(run())


def create(folder: Path, workspace: int = 7, total: int | None = 10) -> Operation:
    return use(folder, lambda store: store.create(workspace, ResendParameters(destination=3, reason="R"), total))


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the standard output of a command that succeeds."""
    capsys.readouterr()
    main(("operations", *arguments))
    return capsys.readouterr().out


def fails(*arguments: str) -> str:
    with pytest.raises(SystemExit) as raised:
        main(("operations", *arguments))
    assert isinstance(raised.value.code, str)
    return raised.value.code


def test_operations_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = create(folder), create(folder, workspace=8, total=None)
    lines = output(capsys, "list").splitlines()
    assert lines[0].split() == ["ID", "WORKSPACE", "KIND", "STATUS", "DONE", "CREATED", "(UTC)", "ERROR"]
    assert [line.split()[:2] for line in lines[1:]] == [[str(second.id), "8"], [str(first.id), "7"]]
    assert "0 of 10" in lines[2]
    assert str(second.id) not in output(capsys, "list", "--workspace", "7")


def test_an_operation_is_shown_with_its_parameters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = ReplayParameters(destination=3, pipeline=4, until=microseconds(NOW), filter="{}")
    id_ = use(folder, lambda store: store.create(7, parameters, 10)).id
    shown = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in output(capsys, "show", str(id_)).splitlines())
    assert (shown["kind"], shown["status"], shown["pipeline"]) == ("Replay", "Pending", "4")
    assert (shown["until"], shown["done"], shown["filter"]) == ("2026-11-22 12:00:10", "0 of 10", "{}")
    assert not shown.keys() & {"started", "ended", "error", "since"}


def test_an_operation_is_cancelled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pending, running = create(folder), create(folder)
    use(folder, lambda store: store.claim("courier", kinds=DELIVERY_KINDS, without=[]))
    assert "ends after its present step" in output(capsys, "cancel", str(pending.id))
    assert f"Operation {running.id} is cancelled" in output(capsys, "cancel", str(running.id))
    assert "to be cancelled" in output(capsys, "show", str(pending.id))


@pytest.mark.parametrize("action", ["show", "watch", "cancel"])
def test_an_unknown_operation_is_an_error_of_one_line(folder: Path, action: str) -> None:
    assert "no operation has been started" in fails(action, "5")
    create(folder)
    assert fails(action, "5") == "headwater: there is no operation 5"


async def work(folder: Path, id_: int, status: str) -> None:
    """Execute an operation as a courier does."""
    async with opened(folder) as store:
        assert await store.claim("courier", kinds=DELIVERY_KINDS) is not None
        for done in range(0, 11, 2):
            await store.advance(id_, "courier", done=done, enqueued=done, total=10)
            await asyncio.sleep(0.02)
        if status == "Failed":
            await store.finish(id_, "courier", "Failed", "why")
        else:
            await store.finish(id_, "courier", "Completed")


@pytest.mark.parametrize("status", ["Completed", "Failed"])
def test_an_operation_is_watched_until_it_ends(folder: Path, capsys: pytest.CaptureFixture[str], status: str) -> None:
    id_ = create(folder).id
    courier = Thread(target=lambda: asyncio.run(work(folder, id_, status)))
    courier.start()
    try:
        if status == "Failed":
            assert fails("watch", str(id_)) == f"headwater: Operation {id_} is failed: 10 of 10 done: why"
        else:
            found = output(capsys, "watch", str(id_))
            assert found == f"Operation {id_} is completed: 10 of 10 done, 10 deliveries enqueued\n"
    finally:
        courier.join()


OPERATION = Operation(
    id=5, workspace=7, parameters=ResendParameters(), created_at=microseconds(NOW), started_at=microseconds(NOW)
)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, "Resend 5  0  Pending  3 s"),
        ({"total": 0}, "Resend 5  [##############################] 100 %  0 of 0  Pending  3 s"),
        ({"total": 10, "done": 5}, "Resend 5  [###############...............]  50 %  5 of 10  Pending  3 s"),
        ({"total": 10, "done": 12}, "Resend 5  [##############################] 100 %  12 of 10  Pending  3 s"),
        ({"is_cancelled": True, "status": "Running"}, "Resend 5  0  Cancelling  3 s"),
        ({"status": "Failed", "ended_at": microseconds(NOW) + 1_000_000}, "Resend 5  0  Failed  1 s"),
        ({"started_at": None}, "Resend 5  0  Pending"),
    ],
)
def test_the_progress_is_one_line(members: dict[str, object], expected: str) -> None:
    import msgspec

    operation = msgspec.structs.replace(OPERATION, **members)
    assert progress_line(operation, NOW + timedelta(seconds=3)) == expected
