"""Processes that the fork server forks: they have only what their program states, and end like any other process."""

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from headwater.server import preflight, processes
from headwater.server.errors import StartupError
from headwater.server.forking import ForkServer
from headwater.server.processes import HEARTBEAT_VARIABLE, Child, Program
from tests.system import child_ids, command_line, holds

pytestmark = pytest.mark.process

SECONDS: Final = 60.0
PROGRAMS: Final = "tests.server.programs"
SECRET: Final = "a secret of one forked process"


def fork_server_program(*modules: str) -> Program:
    command = (sys.executable, "-m", "headwater.server.forkserver", *modules)
    return Program("fork server", command, {"PATH": os.environ["PATH"], "TZ": "UTC"}, patience_seconds=SECONDS)


def program(*arguments: str, patience: float | None = None, **variables: str) -> Program:
    return Program("child", (sys.executable, "-m", PROGRAMS, *arguments), variables, patience)


class Forks:
    """A fork server, and the means to stop and relaunch it."""

    def __init__(self) -> None:
        self.server = ForkServer()
        self.launched: Child | None = None

    async def launch(self) -> Child:
        self.launched = await self.server.launch(fork_server_program(PROGRAMS))
        return self.launched

    async def kill(self) -> None:
        assert self.launched is not None
        self.launched.signal(signal.SIGKILL)
        await self.launched.wait()

    async def start(self, *arguments: str, patience: float | None = None, **variables: str) -> Child:
        return await asyncio.wait_for(self.server.start(program(*arguments, patience=patience, **variables)), SECONDS)


@pytest.fixture
async def forks() -> AsyncIterator[Forks]:
    forks = Forks()
    yield forks
    if forks.launched is not None:
        await forks.kill()
    forks.server.close()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    processes._libc.prctl(processes.PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
async def launched(forks: Forks) -> Forks:
    await forks.launch()
    return forks


@asynccontextmanager
async def ending(child: Child) -> AsyncIterator[Child]:
    try:
        yield child
    finally:
        child.signal(signal.SIGKILL)
        await child.wait()


def is_process(pid: int) -> bool:
    """Return whether a process exists, also as a zombie."""
    return Path(f"/proc/{pid}").exists()


async def until_last_line(child: Child, line: str) -> None:
    async with asyncio.timeout(SECONDS):
        while child.last_line != line:
            await asyncio.sleep(0.01)


async def test_a_forked_process_has_what_its_program_states_and_nothing_else(launched: Forks) -> None:
    variables = {"TZ": "Asia/Tokyo", "SECRET": SECRET, "ODD": "\udcff=é\n"}
    child = await launched.start("describe", patience=SECONDS, **variables)
    assert await child.wait() == 0
    found = json.loads(child.last_line)
    heartbeat = found["environment"].pop(HEARTBEAT_VARIABLE)
    assert found["environment"] == variables
    assert found["getenv"] == {"TZ": "Asia/Tokyo", "PATH": "", "SECRET": SECRET, "ODD": "\udcff=é\n"}
    assert found["hour"] == 9
    assert found["argv"] == [PROGRAMS, "describe"]
    assert found["descriptors"] == [0, 1, 2, int(heartbeat)]
    assert found["input"] == os.devnull
    assert (found["group"], found["parent"]) == (child.pid, os.getpid())
    assert found["handler"]


async def test_a_forked_process_can_have_a_fork_server_of_its_own(launched: Forks) -> None:
    child = await launched.start("fork_again", patience=SECONDS, SECRET=SECRET)
    assert await child.wait() == 0
    found = json.loads(child.last_line)
    assert (found["environment"], found["descriptors"]) == ({"SECRET": "own"}, [0, 1, 2])
    assert (found["parent"], found["group"] != child.pid) == (child.pid, True)


async def test_its_command_is_visible_in_the_process_list(launched: Forks) -> None:
    async with ending(await launched.start("sleep")) as child:
        await until_last_line(child, "sleeping")
        assert command_line(child.pid) == [sys.executable, "-m", PROGRAMS, "sleep"]


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (("exit_with", "0"), 0, ""),
        (("exit_with", "7"), 7, ""),
        (("refuse",), 1, "the reason"),
        (("fail",), 1, "RuntimeError: a bug"),
    ],
)
async def test_it_ends_like_a_program(launched: Forks, arguments: tuple[str, ...], status: int, line: str) -> None:
    child = await launched.start(*arguments)
    assert (await child.wait(), child.last_line) == (status, line)


async def test_a_signal_is_its_exit_status(launched: Forks) -> None:
    child = await launched.start("sleep")
    await until_last_line(child, "sleeping")
    await child.stop(SECONDS)
    assert await child.wait() == -signal.SIGTERM
    child.signal(signal.SIGKILL)  # has no effect


async def test_its_heartbeat_is_watched(launched: Forks) -> None:
    async with ending(await launched.start("beat", patience=0.4)) as child:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(child.wait_for_silence(), 1.5)
        child.signal(signal.SIGSTOP)
        assert await asyncio.wait_for(child.wait_for_silence(), SECONDS)


async def test_the_fork_server_never_has_the_variables_of_a_process(launched: Forks) -> None:
    assert launched.launched is not None
    async with ending(await launched.start("sleep", SECRET=SECRET)) as child:
        await until_last_line(child, "sleeping")
        assert holds(child.pid, SECRET.encode())
        assert not holds(launched.launched.pid, SECRET.encode())
        async with ending(await launched.start("sleep")) as other:
            await until_last_line(other, "sleeping")
            assert not holds(other.pid, SECRET.encode())


async def test_processes_survive_the_fork_server_and_the_next_one_continues(launched: Forks) -> None:
    async with ending(await launched.start("sleep")) as child:
        await until_last_line(child, "sleeping")
        await launched.kill()
        starting = asyncio.create_task(launched.start("exit_with", "7"))
        await asyncio.sleep(0.3)
        assert not starting.done()
        await launched.launch()
        assert await (await starting).wait() == 7
        assert child.pid in child_ids(os.getpid())


async def test_a_start_that_is_cancelled_leaves_no_process(launched: Forks) -> None:
    before = set(child_ids(os.getpid()))
    for seconds in (0.0, 0.001, 0.01):
        starting = asyncio.create_task(launched.start("sleep"))
        await asyncio.sleep(seconds)
        if not starting.cancel():
            async with ending(starting.result()):
                pass
        await asyncio.gather(starting, return_exceptions=True)
    async with asyncio.timeout(SECONDS):
        while set(child_ids(os.getpid())) != before:
            await asyncio.sleep(0.01)


async def test_adopted_orphans_are_reaped(launched: Forks) -> None:
    child = await launched.start("leave_orphan")
    assert await child.wait() == 0
    async with asyncio.timeout(SECONDS):
        while is_process(int(child.last_line)):
            await asyncio.sleep(0.01)


def test_a_kernel_without_descriptors_of_processes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def pidfd_open(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with pytest.raises(StartupError, match=r"^pidfd_open fails \(Function not implemented\); Linux 5.4"):
        preflight.check_kernel()


async def test_no_descriptor_remains(launched: Forks) -> None:
    await (await launched.start("exit_with", "0", patience=SECONDS)).wait()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await (await launched.start("exit_with", "0", patience=SECONDS)).wait()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_imports_that_start_threads_are_refused(forks: Forks) -> None:
    child = await forks.server.launch(fork_server_program("tests.server.threaded"))
    assert await child.wait() == 1
    assert child.last_line == "the fork server cannot fork, because imports have started 1 threads"
