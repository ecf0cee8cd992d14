"""Runs synchronous calls to outside systems in threads, with limits in number and time.

A thread cannot be interrupted. A call that exceeds its time keeps its slot until it ends, which its own time limits
ensure, so that the number of threads is bounded whatever the outside systems do.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from headwater.base.errors import Unavailable

DEFAULT_MAX_CALLS: Final = 32
DEFAULT_MAX_WORKSPACE_CALLS: Final = 4

_Result = TypeVar("_Result")


class BlockingCalls:
    """The threads of one process, shared by all workspaces. Use it on one event loop."""

    def __init__(
        self, max_calls: int = DEFAULT_MAX_CALLS, max_workspace_calls: int = DEFAULT_MAX_WORKSPACE_CALLS
    ) -> None:
        self._max_calls = max_calls
        self._max_workspace_calls = max_workspace_calls
        self._calls: Counter[int] = Counter()
        self._ended = asyncio.Event()

    async def run(
        self, workspace: int, function: Callable[..., _Result], *arguments: Any, timeout_seconds: float
    ) -> _Result:
        """Return the result of a function, which runs in a thread.

        `timeout_seconds` is the time for waiting and running. Raises Unavailable when it has passed, and the errors of
        the function.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._wait_for_slot(workspace)
                return await asyncio.shield(self._start(workspace, function, arguments))
        except TimeoutError:
            raise Unavailable(f"the outside system did not respond within {timeout_seconds:g} seconds") from None

    async def _wait_for_slot(self, workspace: int) -> None:
        while self._calls.total() >= self._max_calls or self._calls[workspace] >= self._max_workspace_calls:
            self._ended.clear()
            await self._ended.wait()
        self._calls[workspace] += 1

    def _start(
        self, workspace: int, function: Callable[..., _Result], arguments: tuple[Any, ...]
    ) -> "asyncio.Future[_Result]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()

        def end(result: Any, error: BaseException | None) -> None:
            self._calls[workspace] -= 1
            if not self._calls[workspace]:
                del self._calls[workspace]
            self._ended.set()
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
                future.exception()  # the caller may have stopped waiting

        def run() -> None:
            result, error = None, None
            try:
                result = function(*arguments)
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # the loop has ended, and with it everything that waits
                loop.call_soon_threadsafe(end, result, error)

        # A daemon: a system that does not respond must not delay the end of the process.
        threading.Thread(target=run, name=f"workspace {workspace}", daemon=True).start()
        return future
