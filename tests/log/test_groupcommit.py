"""Group commit: who waits together is written together, and hears the truth."""

import asyncio
import threading
from pathlib import Path

import pytest

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.log.groupcommit import GroupCommit, measure_fsync


class Disk:
    """Stores written items; blocks or fails on request."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.began = threading.Event()
        """Set by each write."""
        self.broken: Exception | None = None

    def write(self, items: list[str]) -> list[int]:
        self.began.set()
        assert self.go_on.wait(10)
        if self.broken is not None:
            raise self.broken
        first = sum(map(len, self.groups))
        self.groups.append(items)
        return list(range(first, first + len(items)))


@pytest.fixture
def disk() -> Disk:
    return Disk()


def commit(disk: Disk, *, in_thread: bool = True, max_pending_bytes: int = 1000) -> GroupCommit[str]:
    return GroupCommit(disk.write, size=len, in_thread=in_thread, max_pending_bytes=max_pending_bytes)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_everyone_gets_the_position_of_their_own_item(disk: Disk, in_thread: bool) -> None:
    group = commit(disk, in_thread=in_thread)
    items = [f"item {number}" for number in range(40)]
    positions = await asyncio.gather(*map(group.submit, items))
    written = [item for items in disk.groups for item in items]
    assert [written[position] for position in positions] == items
    await group.close()


async def test_the_next_group_gathers_while_one_is_written(disk: Disk) -> None:
    group = commit(disk)
    disk.go_on.clear()
    first = asyncio.create_task(group.submit("a"))
    assert await asyncio.to_thread(disk.began.wait, 10)
    rest = [asyncio.create_task(group.submit(item)) for item in "bcd"]
    await asyncio.sleep(0)  # they have submitted
    assert not first.done()
    disk.go_on.set()
    await asyncio.gather(first, *rest)
    assert disk.groups == [["a"], ["b", "c", "d"]]
    await group.close()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_failure_reaches_its_whole_group_and_no_other(disk: Disk, in_thread: bool) -> None:
    group = commit(disk, in_thread=in_thread)
    disk.broken = Unavailable("no room")
    outcomes = await asyncio.gather(*map(group.submit, "abc"), return_exceptions=True)
    assert outcomes == [disk.broken] * 3
    disk.broken = None
    assert await group.submit("d") == 0
    await group.close()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_failure_that_nobody_waits_for_is_no_error_of_the_loop(disk: Disk, in_thread: bool) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    group = commit(disk, in_thread=in_thread)
    disk.broken = Unavailable("no room")
    caller = asyncio.create_task(group.submit("a"))
    await asyncio.sleep(0)
    caller.cancel()
    await group.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert complaints == []


@pytest.mark.parametrize("in_thread", [False, True])
async def test_what_a_cancelled_caller_brought_is_written(disk: Disk, in_thread: bool) -> None:
    group = commit(disk, in_thread=in_thread)
    callers = [asyncio.create_task(group.submit(item)) for item in "abc"]
    await asyncio.sleep(0)
    callers[0].cancel()
    assert await asyncio.gather(*callers[1:]) == [1, 2]
    assert disk.groups == [["a", "b", "c"]]
    await group.close()


async def test_what_may_wait_is_bounded(disk: Disk) -> None:
    group = commit(disk, max_pending_bytes=10)
    disk.go_on.clear()
    writing = asyncio.create_task(group.submit("a"))
    assert await asyncio.to_thread(disk.began.wait, 10)
    large = asyncio.create_task(group.submit("x" * 100))
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests, match="too many events wait"):
        await group.submit("b")
    disk.go_on.set()
    assert [await writing, await large] == [0, 1], "what is larger than the bound is taken when nothing waits"
    assert await group.submit("b") == 2
    await group.close()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_closing_waits_for_what_is_queued_and_rejects_more(disk: Disk, in_thread: bool) -> None:
    group = commit(disk, in_thread=in_thread)
    callers = [asyncio.create_task(group.submit(item)) for item in "ab"]
    await asyncio.sleep(0)
    await group.close()
    assert disk.groups == [["a", "b"]]
    assert await asyncio.gather(*callers) == [0, 1]
    with pytest.raises(Unavailable, match="closed"):
        await group.submit("c")
    await group.close()


def test_measures_an_fsync_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert 0 < measure_fsync(tmp_path, rounds=3) < 10
    assert list(tmp_path.iterdir()) == []
