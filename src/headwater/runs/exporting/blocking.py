"""Synchronous capabilities of connectors in a thread of their own, which their objects may be bound to."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

from headwater.base.threads import SerialExecutor

_Result = TypeVar("_Result")


@asynccontextmanager
async def open_thread(name: str) -> AsyncIterator[SerialExecutor]:
    """Yield a thread that ends with the block."""
    thread = SerialExecutor(name)
    try:
        yield thread
    finally:
        await thread.close()


@asynccontextmanager
async def enter(thread: SerialExecutor, make: Callable[[], AbstractContextManager[_Result]]) -> AsyncIterator[_Result]:
    """Enter and leave a synchronous context manager in a thread."""

    def start() -> tuple[AbstractContextManager[_Result], _Result]:
        manager = make()
        return manager, manager.__enter__()

    manager, value = await thread.run(start)
    try:
        yield value
    except BaseException as error:
        failure = error
        if not await thread.run(lambda: manager.__exit__(type(failure), failure, failure.__traceback__)):
            raise
    else:
        await thread.run(lambda: manager.__exit__(None, None, None))
