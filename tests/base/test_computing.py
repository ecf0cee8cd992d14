"""Long computations run in another process, within limits, and are shared fairly."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator

import pytest

from headwater.base import computing as module
from headwater.base.computing import Computing, open_computing
from headwater.base.errors import BadRequest, HeadwaterError, TooManyRequests, Unprocessable
from headwater.filters import parse_text
from headwater.schemas import InvalidValue, StringType
from headwater.transforms.functions import FunctionFailed
from headwater.transforms.mapping import InvalidExpression, list_properties

pytestmark = pytest.mark.process


@pytest.fixture
async def computing() -> AsyncIterator[Computing]:
    async with open_computing(2, max_seconds=20) as computing:
        yield computing


@pytest.fixture
async def brief() -> AsyncIterator[Computing]:
    """A `Computing` with a limit of one second, which includes imports."""
    async with open_computing(2, max_seconds=1) as computing:
        yield computing


async def test_it_runs_in_another_process_and_tells_results_and_errors(computing: Computing) -> None:
    assert await computing.run("a", os.getpid) != os.getpid()
    assert await computing.run("a", sorted, [2, 1], reverse=True) == [2, 1]
    with pytest.raises(InvalidExpression) as failed:
        await computing.run("a", list_properties, [("x", StringType())], None)
    assert (failed.value.offset, failed.value.code) == (0, "BadRequest")
    with pytest.raises(RuntimeError, match="a computation failed: TypeError"):
        await computing.run("a", _fail)


async def test_without_processes_it_runs_here() -> None:
    assert await Computing().run("a", os.getpid) == os.getpid()


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("x", field="y"),
        Unprocessable("TargetExist", "x", field="y"),
        TooManyRequests("x", retry_after=7),
        InvalidValue("must be 1", "a.b"),
        FunctionFailed("x", line=3),
        InvalidExpression("x", 3),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_errors_arrive_as_they_were(computing: Computing, error: HeadwaterError) -> None:
    with pytest.raises(type(error)) as failed:
        await computing.run("a", _raise, error)
    assert failed.value.__dict__ == error.__dict__
    assert (str(failed.value), failed.value.details) == (str(error), error.details)


async def test_what_takes_too_long_or_too_much_is_given_up_and_the_next_call_works(brief: Computing) -> None:
    first = await brief.run("a", os.getpid)
    with pytest.raises(Unprocessable, match="takes longer than 1 s") as failed:
        await brief.run("a", time.sleep, 100)
    assert failed.value.code == "TooExpensive"
    with pytest.raises(Unprocessable, match="takes too much memory"):
        await brief.run("a", bytes, 4 * module.MAX_MEMORY_BYTES)
    assert await brief.run("a", os.getpid) != first


async def test_a_process_gets_no_variables_of_ours(computing: Computing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_SECRET_KEY", "x")
    assert not [name for name in await computing.run("a", _environment) if name.startswith("HEADWATER")]


async def test_a_process_without_work_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    async with open_computing(1) as computing:
        first = await computing.run("a", os.getpid)
        async with asyncio.timeout(10):
            while await asyncio.to_thread(_runs, first):
                await asyncio.sleep(0.01)
        assert await computing.run("a", os.getpid) != first


async def test_processes_are_forked_from_one_that_has_imported_their_modules() -> None:
    async with open_computing(2, modules=["mailbox"]) as computing:
        first, second = await asyncio.gather(*(computing.run(owner, _imported, "mailbox") for owner in "ab"))
    assert first[0] and second[0]
    assert first[1] == second[1]


async def test_when_the_process_that_forks_has_ended_another_one_starts(computing: Computing) -> None:
    first, parent = await computing.run("a", os.getpid), await computing.run("a", os.getppid)
    os.kill(parent, signal.SIGKILL)
    await _until_ended(first)  # with the process that has forked it
    assert await computing.run("a", os.getppid) != parent


async def test_a_given_fork_server_is_used_until_it_ends() -> None:
    ours, theirs = socket.socketpair()
    command = (sys.executable, "-m", module.__name__, str(os.getpid()))
    async with open_computing(1, fork_server=ours) as computing:
        given = await asyncio.create_subprocess_exec(*command, stdin=theirs.fileno())
        theirs.close()
        first, parent = await computing.run("a", os.getpid), await computing.run("a", os.getppid)
        assert parent == given.pid
        given.kill()
        await given.wait()
        await _until_ended(first)
        assert await computing.run("b", os.getppid) != given.pid


async def test_one_owner_cannot_take_all_processes(computing: Computing) -> None:
    """A requests endless computations, as many as allowed; B gets a result while all of them still wait."""
    flood = [asyncio.create_task(computing.run("a", time.sleep, 100)) for _ in range(8)]
    await asyncio.sleep(0)
    assert await computing.run("b", abs, -1) == 1
    assert sum(task.done() for task in flood) < len(flood)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_the_event_loop_goes_on(computing: Computing) -> None:
    """The longest pause of the event loop during a computation is a fraction of the computation."""
    text = "a is one of " + ", ".join(["1"] * 10_000)
    began = time.perf_counter()
    for _ in range(20):
        parse_text(text)
    alone = time.perf_counter() - began
    await computing.run("a", _parse_often, text, 1)
    stalls: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            stalls.append(time.perf_counter() - before)

    ticker = asyncio.create_task(tick())
    await computing.run("a", _parse_often, text, 20)
    ticker.cancel()
    assert max(stalls) < alone / 2


async def test_a_process_ends_with_its_parent_whatever_it_does() -> None:
    """The parent is killed while its process computes."""
    program = "\n".join((
        "import asyncio, os, time",
        "from headwater.base.computing import open_computing",
        "async def main():",
        "    async with open_computing(1, max_seconds=1000) as computing:",
        "        print(await computing.run('a', os.getpid), flush=True)",
        "        await computing.run('a', time.sleep, 1000)",
        "asyncio.run(main())",
    ))  # fmt: skip
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert _runs(pid)
    parent.kill()
    await parent.wait()
    await _until_ended(pid)


def _fail() -> None:
    raise TypeError("x")


def _raise(error: Exception) -> None:
    raise error


def _imported(name: str) -> tuple[bool, int]:
    return name in sys.modules, os.getppid()


def _environment() -> list[str]:
    return list(os.environ)


def _parse_often(text: str, times: int) -> None:
    for _ in range(times):
        parse_text(text)


async def _until_ended(pid: int) -> None:
    async with asyncio.timeout(20):
        while _runs(pid):
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
