"""Operations that a call waits for."""

import asyncio
from pathlib import Path

import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.management.executing import execute
from headwater.state.operations import (
    PROFILE_KINDS,
    IdentityResolutionParameters,
    OperationStatus,
    RemoveSeparationParameters,
)
from tests.harness import Harness, open_harness

REMOVAL = RemoveSeparationParameters(separation=7)


async def work(harness: Harness, status: OperationStatus, error: str = "", result: str = "") -> None:
    """Execute the next operation, as the worker does."""
    async with asyncio.timeout(20):
        while (operation := await harness.operations.claim("worker", kinds=PROFILE_KINDS)) is None:
            await asyncio.sleep(0.01)
        await harness.operations.finish(operation.id, "worker", status, error, result=result)


async def test_a_completed_operation_is_returned(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        working = asyncio.create_task(work(harness, "Completed", result="[1]"))
        done = await execute(harness.operations, harness.workspace, REMOVAL)
        await working
        assert (done.status, done.result, done.parameters) == ("Completed", "[1]", REMOVAL)


async def test_the_reason_of_a_failure_is_told(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        working = asyncio.create_task(work(harness, "Failed", "the profile changed"))
        with pytest.raises(Unavailable, match="failed: the profile changed"):
            await execute(harness.operations, harness.workspace, REMOVAL)
        await working


async def test_an_operation_that_nobody_executes_is_cancelled(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        with pytest.raises(Unavailable, match="was not executed"):
            await execute(harness.operations, harness.workspace, REMOVAL, max_wait_seconds=0.2)
        (left,) = await harness.operations.page(harness.workspace, limit=10)
        assert left.status == "Cancelled"


async def test_an_operation_is_refused_while_identities_are_resolved(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        await harness.operations.create(harness.workspace, IdentityResolutionParameters(), None)
        with pytest.raises(Unprocessable, match="is executing"):
            await execute(harness.operations, harness.workspace, REMOVAL)
