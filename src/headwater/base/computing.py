"""Runs long computations in separate processes, so that the event loop keeps responding.

A computation is a function at the top level of a module; its arguments and its result can be pickled. Each one has a
limit of time and memory. If it exceeds either, its process is killed, and a new process starts when one is needed.
Processes are shared fairly between owners.

`python -m headwater.base.computing` is such a process. It reads requests from standard input and writes responses to
standard output, each as a length and a pickle. It ends when its input ends.
"""

import asyncio
import ctypes
import importlib
import os
import pickle
import resource
import signal
import struct
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar

from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.base.fairness import FairSlots

PROCESSES: Final = 2
"""Computations that run at the same time. One owner gets all but one of them."""
MAX_SECONDS: Final = 5.0
"""Maximum duration of one computation."""
MAX_MEMORY_BYTES: Final = 768 << 20
"""Address space of a computing process. It needs about 250 MiB before it computes anything."""
MAX_WAITING: Final = 16
"""Computations of one owner that may wait."""
WAIT_SECONDS: Final = 10.0
"""Maximum time that a computation waits for a process."""
IDLE_SECONDS: Final = 60.0
"""Idle time after which a process ends. Each process takes about 70 MB."""
_START_SECONDS: Final = 30.0
"""Maximum time for a process to start on a busy machine."""

_LENGTH: Final = struct.Struct("!Q")
_NICENESS: Final = 5
_PR_SET_PDEATHSIG: Final = 1

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Computing:
    """Runs computations in its own processes or, if it has none, directly in this process. Created by
    `open_computing`."""

    def __init__(self, processes: int = 0, *, modules: Sequence[str] = (), max_seconds: float = MAX_SECONDS) -> None:
        self._slots = FairSlots(max(1, processes), max_waiting=MAX_WAITING, what="computations")
        self._idle = [_Worker(modules) for _ in range(processes)]
        self._all = tuple(self._idle)
        self._max_seconds = max_seconds

    async def run(
        self,
        owner: str,
        function: Callable[_Arguments, _Result],
        *arguments: _Arguments.args,
        **keywords: _Arguments.kwargs,
    ) -> _Result:
        """Return the result of the function, or raise what it raises.

        Raises Unprocessable with TooExpensive if the function exceeds its limits, TooManyRequests if too many
        computations of the owner wait, and Unavailable if no process became free or none could be started.
        """
        if not self._all:
            return function(*arguments, **keywords)
        request = pickle.dumps((function, arguments, keywords), pickle.HIGHEST_PROTOCOL)
        async with self._slots.slot(owner, seconds=WAIT_SECONDS):
            worker = self._idle.pop()  # the process used last, so that the others can become idle
            try:
                answer = await worker.ask(request, self._max_seconds)
            finally:
                self._idle.append(worker)
        succeeded, value = pickle.loads(answer)  # written by our own process
        if not succeeded:
            raise value
        result: _Result = value
        return result

    async def close(self) -> None:
        """End all processes."""
        for worker in self._all:
            await worker.stop()

    async def end_idle(self) -> None:
        """End processes that have been idle for `IDLE_SECONDS`. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(IDLE_SECONDS / 4)
            for worker in self._idle:
                if worker.used_at < time.monotonic() - IDLE_SECONDS:
                    await worker.stop()


@asynccontextmanager
async def open_computing(
    processes: int = PROCESSES, *, modules: Sequence[str] = (), max_seconds: float = MAX_SECONDS
) -> AsyncIterator[Computing]:
    """Open `Computing` with this number of processes. Each starts on first use and imports `modules`."""
    computing = Computing(processes, modules=modules, max_seconds=max_seconds)
    reaper = asyncio.create_task(computing.end_idle())
    try:
        yield computing
    finally:
        reaper.cancel()
        with suppress(asyncio.CancelledError):
            await reaper
        await computing.close()


class _Worker:
    """One process, started on demand. Used by one task at a time."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._process: Process | None = None
        self.used_at = 0.0

    async def ask(self, request: bytes, seconds: float) -> bytes:
        is_good = False
        try:
            process = await self._started()
            try:
                async with asyncio.timeout(seconds):
                    answer = await self._exchange(process, request)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
                reason = f"longer than {seconds:g} s" if isinstance(error, TimeoutError) else "too much memory"
                raise _too_expensive(reason) from None
            is_good = True
            self.used_at = time.monotonic()
            return answer
        finally:
            if not is_good:
                await asyncio.shield(self.stop())

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _started(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", __name__, str(os.getpid()), *self._modules,
                    stdin=PIPE, stdout=PIPE, env=_environment(), limit=1 << 20,
                )  # fmt: skip
                assert self._process.stdout is not None
                await self._process.stdout.readexactly(1)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            raise Unavailable("a process for computations did not start") from None
        return self._process

    @staticmethod
    async def _exchange(process: Process, request: bytes) -> bytes:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(_LENGTH.pack(len(request)))
        process.stdin.write(request)
        await process.stdin.drain()
        [length] = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
        return await process.stdout.readexactly(length)


def _environment() -> dict[str, str]:
    """Return the environment of the process: what the interpreter needs to find its modules, and no secrets."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _too_expensive(reason: str) -> HeadwaterError:
    return Unprocessable("TooExpensive", f"the request was given up: what it asks for takes {reason}")


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Process requests until the input ends."""
    answers.write(b"+")
    answers.flush()
    while header := requests.read(_LENGTH.size):
        [length] = _LENGTH.unpack(header)
        answer = _answer(requests.read(length))
        answers.write(_LENGTH.pack(len(answer)))
        answers.write(answer)
        answers.flush()


def _answer(request: bytes) -> bytes:
    try:
        function, arguments, keywords = pickle.loads(request)  # written by the parent process
        outcome: tuple[bool, Any] = True, function(*arguments, **keywords)
        return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        outcome = False, _too_expensive("too much memory")
    except HeadwaterError as error:
        outcome = False, error
    except Exception as error:
        outcome = False, RuntimeError(f"a computation failed: {type(error).__name__}: {error}")
    return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)


def _confine(parent: int) -> None:
    """Limit the memory of this process, and end it with its parent."""
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a library prints must not mix with responses
    _confine(int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
