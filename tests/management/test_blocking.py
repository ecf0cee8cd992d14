"""Threads of calls to outside systems: bounded in number and time."""

import asyncio
import threading

import pytest

from headwater.base.errors import Unavailable
from headwater.management.blocking import BlockingCalls

SECONDS = 60.0


async def test_the_result_and_the_error_are_those_of_the_function() -> None:
    calls = BlockingCalls()
    assert await calls.run(1, divmod, 7, 2, timeout_seconds=SECONDS) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await calls.run(1, divmod, 1, 0, timeout_seconds=SECONDS)


async def test_a_slow_call_is_not_waited_for_but_keeps_its_slot() -> None:
    calls, proceed = BlockingCalls(max_workspace_calls=1), threading.Event()
    with pytest.raises(Unavailable, match="did not respond"):
        await calls.run(1, proceed.wait, SECONDS, timeout_seconds=0.05)
    with pytest.raises(Unavailable):
        await calls.run(1, abs, 1, timeout_seconds=0.05)
    assert await calls.run(2, abs, -1, timeout_seconds=SECONDS) == 1
    proceed.set()
    assert await calls.run(1, abs, -1, timeout_seconds=SECONDS) == 1


async def test_the_threads_are_bounded() -> None:
    calls = BlockingCalls(max_calls=5, max_workspace_calls=2)
    lock, running, most, most_of_one = threading.Lock(), list[int](), 0, 0
    full = threading.Event()

    def work(workspace: int) -> None:
        nonlocal most, most_of_one
        with lock:
            running.append(workspace)
            most, most_of_one = max(most, len(running)), max(most_of_one, running.count(workspace))
            if len(running) == 5:
                full.set()
        full.wait(SECONDS)
        with lock:
            running.remove(workspace)

    await asyncio.gather(*(calls.run(number % 4, work, number % 4, timeout_seconds=SECONDS) for number in range(40)))
    assert (most, most_of_one) == (5, 2)


async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    calls, proceed = BlockingCalls(max_workspace_calls=1), threading.Event()
    first = asyncio.create_task(calls.run(1, proceed.wait, SECONDS, timeout_seconds=SECONDS))
    second = asyncio.create_task(calls.run(1, abs, -1, timeout_seconds=SECONDS))
    await asyncio.sleep(0)
    first.cancel()
    proceed.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first
