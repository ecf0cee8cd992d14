"""Sandboxes leave no process behind that has ended and is not reaped."""

import asyncio
import os
from pathlib import Path

import pytest
import uvloop

from headwater.transforms.functions import FunctionFailed, Limits, Runner
from tests.transforms.functions.make import USER, function

LIMITS = Limits(seconds=0.3, memory=64 << 20, output=1 << 20, printed=1_000)
ENDLESS = "def transform(user):\n    while True:\n        pass\n"


def zombies() -> list[int]:
    """The children of this process that have ended and are not reaped."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if (state, int(parent)) == ("Z", os.getpid()):
            found.append(int(status.parent.name))
    return found


async def run_functions() -> None:
    """End processes of functions before and after one that the event loop started has ended."""
    before = set(zombies())
    async with Runner(LIMITS, javascript=1, python=1) as runner:
        for _ in range(3):
            with pytest.raises(FunctionFailed):
                await runner.run(function("Python", ENDLESS), [{"id": 1}], USER, USER)
            await (await asyncio.create_subprocess_exec("true")).wait()
        async with asyncio.timeout(10):
            while set(zombies()) - before:
                await asyncio.sleep(0.05)


def test_processes_that_ended_are_reaped_with_uvloop() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_functions())


def test_processes_that_ended_are_reaped_with_asyncio() -> None:
    asyncio.run(run_functions())
