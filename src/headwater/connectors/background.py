"""An event loop in a thread, for synchronous capabilities whose library is asynchronous."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

_Result = TypeVar("_Result")

_STOP_SECONDS: Final = 30.0
"""Time limit of the end of all tasks. Most need milliseconds, and seconds on a machine that is overloaded; a loop that
is abandoned keeps its sockets."""
_ROUNDS: Final = 5


class BackgroundLoop:
    """An event loop in a daemon thread. Use it as a context manager: it ends what it still runs when it is left."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def start(self, coroutine: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        """Start a coroutine and return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, _Result], timeout_seconds: float) -> _Result:
        """Run a coroutine and return its result. Raises TimeoutError, after which the coroutine is cancelled."""
        future = self.start(coroutine)
        try:
            return future.result(timeout_seconds)
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the loop, without waiting for it."""
        self._loop.call_soon_threadsafe(function)

    def __enter__(self) -> "BackgroundLoop":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._end_tasks(), _STOP_SECONDS)
        except TimeoutError:
            return  # a task ignores its cancellation: the thread is a daemon, and ends with the process
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end_tasks(self) -> None:
        for _ in range(_ROUNDS):  # a connection that was being accepted starts a task later
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()
