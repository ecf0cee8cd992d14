"""The courier delivers events while the database of lanes is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from headwater.base.clock import SystemClock
from headwater.base.errors import Unavailable
from headwater.courier import Courier, courier


class Catalog:
    async def refresh(self) -> None:
        pass

    def workspaces(self) -> list[object]:
        return []


class State:
    """The state, whose lanes cannot be read now and then."""

    def __init__(self) -> None:
        self.reads = 0

    async def position(self, consumer: str) -> int:
        return 0

    async def lanes(self) -> list[object]:
        self.reads += 1
        if self.reads % 3 == 0:
            raise Unavailable("the state is away")
        return []


class Lanes:
    """The courier's own store. It is lost when `is_lost` is set."""

    is_lost = False
    begun = 0

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        self.begun += 1

        async def check() -> None:
            if self.is_lost:
                raise Unavailable("the lock is lost")

        yield check

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **values: Any) -> Any:
            return {"progress": {}, "counted": set()}.get(name, 0)

        return call


async def test_companions_run_on_while_the_state_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(courier, "UPKEEP_SECONDS", 0.01)
    started, ended = 0, 0

    async def companion(stop: asyncio.Event) -> None:
        nonlocal started, ended
        started += 1
        try:
            await stop.wait()
        finally:
            ended += 1

    state, lanes, stop = State(), Lanes(), asyncio.Event()
    tested = Courier(
        cast(Any, Catalog()),
        cast(Any, state),
        cast(Any, lanes),
        cast(Any, None),
        SystemClock(),
        companions=[companion],
    )
    running = asyncio.create_task(tested.run(stop))
    await until(lambda: state.reads > 12)
    assert (started, ended, lanes.begun) == (1, 0, 1)
    lanes.is_lost = True  # another courier may be active
    await until(lambda: ended == 1)
    lanes.is_lost = False
    await until(lambda: started == 2 and lanes.begun >= 2)
    stop.set()
    await asyncio.wait_for(running, 10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
