"""Waits for events end by the event, the time limit, or a cancellation."""

import asyncio

import pytest

from headwater.base.waiting import wait


async def test_a_wait_ends_with_the_event_or_with_its_time_limit() -> None:
    event = asyncio.Event()
    await asyncio.wait_for(wait(event, 0.001), 10)
    asyncio.get_running_loop().call_soon(event.set)
    await asyncio.wait_for(wait(event, 3_600), 10)


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_that_arrives_with_the_event_is_not_lost(turns: int) -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(wait(event, 3_600))
    await asyncio.sleep(0.001)
    event.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    is_waiting = not waiting.done()
    waiting.cancel()
    await asyncio.wait((waiting,), timeout=10)
    assert waiting.cancelled() == is_waiting
