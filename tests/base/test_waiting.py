import asyncio

import pytest

from headwater.base.waiting import wait


async def test_it_ends_with_the_event_or_the_time() -> None:
    event = asyncio.Event()
    await wait(event, 0.001)
    assert not event.is_set()
    event.set()
    async with asyncio.timeout(10):
        await wait(event, 60)


@pytest.mark.parametrize("is_set_first", [True, False])
async def test_a_task_that_is_cancelled_when_the_event_is_set_ends(is_set_first: bool) -> None:
    """A loop that waits again and again would never end."""
    event = asyncio.Event()
    waiting = asyncio.create_task(wait(event, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if is_set_first:
        event.set()
    waiting.cancel()
    event.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
