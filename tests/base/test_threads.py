"""Blocking work in one thread."""

import asyncio
import threading
from functools import partial

import pytest

from headwater.base import threads
from headwater.base.errors import Unavailable
from headwater.base.threads import SerialExecutor


async def test_work_runs_in_the_order_of_the_calls_in_one_thread() -> None:
    executor = SerialExecutor("test")
    names = await asyncio.gather(*(executor.run(lambda: threading.current_thread().name) for _ in range(10)))
    assert len(set(names)) == 1
    assert names[0].startswith("test")
    done: list[int] = []
    await asyncio.gather(*(executor.run(partial(done.append, number)) for number in range(10)))
    await executor.close()
    assert done == list(range(10))


async def test_the_last_work_runs_after_all_other() -> None:
    executor = SerialExecutor("test")
    done: list[str] = []
    waiting = asyncio.create_task(executor.run(lambda: done.append("first")))
    await asyncio.sleep(0)
    await executor.close(lambda: done.append("last"))
    await waiting
    assert done == ["first", "last"]


async def test_only_so_much_work_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 2)
    executor, release = SerialExecutor("test"), threading.Event()
    tasks = [asyncio.create_task(executor.run(lambda: release.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too much work waits"):
        await executor.run(lambda: True)
    release.set()
    assert await asyncio.gather(*tasks) == [True, True]
    assert await executor.run(lambda: True)
    await executor.close()
