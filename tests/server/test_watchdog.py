"""The supervisor kills and restarts a process whose event loop stands still, and no other."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from headwater.server import processes
from headwater.server.processes import HEARTBEAT_VARIABLE, Child, Program
from tests.e2e.source import Source, make_source
from tests.system import RunningSystem, is_healthy, start, wait_until

PATIENCE: Final = 0.4
BEAT: Final = 0.02
PATIENCE_OF_SYSTEM: Final = 5
STUCK: Final = '"a process is stuck and is killed"'

STARTING: Final = "import time; time.sleep(3600)"
BEATING: Final = f"""
import os, time
while True:
    os.write(int(os.environ["{HEARTBEAT_VARIABLE}"]), b".")
    time.sleep({BEAT})
"""
PROGRESSING: Final = BEATING.replace('b"."', 'b"p"')
ONE_BEAT: Final = f"""
import os, time
os.write(int(os.environ["{HEARTBEAT_VARIABLE}"]), b".")
time.sleep(3600)
"""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "HEARTBEAT_SECONDS", BEAT)
    monkeypatch.setattr(processes, "MAX_STARTUP_SECONDS", 3.0)


@asynccontextmanager
async def running(source: str, patience: float | None = PATIENCE) -> AsyncIterator[Child]:
    program = Program("child", (sys.executable, "-I", "-S", "-c", source), {}, patience)
    child = await processes.start(program)
    try:
        yield child
    finally:
        child.signal(signal.SIGKILL)
        await child.wait()


async def is_silent(child: Child, within: float) -> bool:
    try:
        await asyncio.wait_for(child.wait_for_silence(), within)
    except TimeoutError:
        return False
    return True


async def test_a_child_that_beats_is_not_stuck_and_one_that_stops_is() -> None:
    async with running(BEATING) as child:
        assert not await is_silent(child, 4 * PATIENCE)
        child.signal(signal.SIGSTOP)
        assert await is_silent(child, 60)


async def test_one_heartbeat_starts_the_clock() -> None:
    async with running(ONE_BEAT) as child:
        assert await is_silent(child, 60)


async def test_starting_may_take_longer_but_not_for_ever() -> None:
    async with running(STARTING) as child:
        assert not await is_silent(child, 4 * PATIENCE)
        assert await is_silent(child, 60)


async def test_starting_may_take_as_long_as_it_makes_progress() -> None:
    async with running(PROGRESSING) as child:
        assert not await is_silent(child, 6.0)
        assert not child.has_started
        assert asyncio.get_running_loop().time() - child.progressed_at < 1.0
        child.signal(signal.SIGSTOP)
        assert await is_silent(child, 60)


async def test_a_child_that_is_not_watched_is_never_stuck() -> None:
    async with running(STARTING, patience=None) as child:
        assert not await is_silent(child, 4 * PATIENCE)


async def test_time_in_which_the_supervisor_did_not_run_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a suspended machine the clock has jumped, and the child had no time to send a heartbeat."""
    loop = asyncio.get_running_loop()
    async with running(ONE_BEAT, patience=1000) as child:
        wait = asyncio.create_task(child.wait_for_silence())
        await asyncio.sleep(10 * BEAT)
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + 5000)
        assert not (await asyncio.wait((wait,), timeout=10 * BEAT))[0]
        wait.cancel()


async def test_time_without_a_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(ONE_BEAT) as child:
        waited = iter(range(10**9))
        monkeypatch.setattr(child, "_processor_wait", lambda: next(waited))
        assert not await is_silent(child, 4 * PATIENCE)


async def test_the_parent_keeps_no_descriptor_of_a_child_that_ended() -> None:
    async with running(BEATING):
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with running(BEATING):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    system = start(tmp_path_factory.mktemp("watchdog") / "data", HEADWATER_WATCHDOG_SECONDS=str(PATIENCE_OF_SYSTEM))
    yield system
    assert system.stop() == 0, system.errors


@pytest.fixture
def source(watched: RunningSystem) -> Source:
    """Return a source whose first event is stored: after that each process on its way has sent a heartbeat. A process
    that has sent none may take ten minutes to start."""
    source = make_source(watched)
    assert source.send("track", {"userId": "ada", "event": "Seen"}).status_code == 200
    source.wait_for(1)
    return source


@pytest.mark.parametrize("name", ["backend", "worker"])
def test_a_process_that_stands_still_is_restarted(watched: RunningSystem, source: Source, name: str) -> None:
    before, kills = watched.children(), watched.errors.count(STUCK)
    os.kill(before[name], signal.SIGSTOP)
    wait_until(lambda: watched.children().get(name) not in (None, before[name]), 60)
    wait_until(lambda: is_healthy(watched.base_url), 60)
    assert watched.errors.count(STUCK) == kills + 1
    after = watched.children()
    assert {other: pid for other, pid in after.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }
    wait_until(lambda: source.send("track", {"userId": "ada", "event": "Seen"}).status_code == 200, 60)
    source.wait_for(2)


def test_a_machine_that_was_suspended_finds_its_processes_as_they_were(watched: RunningSystem, source: Source) -> None:
    before, kills = watched.children(), watched.errors.count(STUCK)
    everything = [watched.process.pid, *before.values()]
    _signal_all(everything, signal.SIGSTOP)
    _wait(lambda: False, PATIENCE_OF_SYSTEM + 1)
    _signal_all(everything, signal.SIGCONT)
    _wait(lambda: watched.children() != before, PATIENCE_OF_SYSTEM + 1)
    assert watched.children() == before
    assert is_healthy(watched.base_url)
    assert watched.errors.count(STUCK) == kills
    source.wait_for(1)


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    try:
        wait_until(condition, seconds)
    except AssertionError:
        return
