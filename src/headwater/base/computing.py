"""Runs long computations in separate processes, so that the event loop keeps responding.

A computation is a function at the top level of a module; its arguments and its result can be pickled. Each one has a
limit of time and memory. If it exceeds either, its process is killed, and a new process starts when one is needed.
Processes are shared fairly between owners.

The processes are forked from one that has imported their modules (`serve`), because imports take a second of a
processor. They read requests from a socket and write responses to it, each as a length and a pickle. They end with the
process that has forked them, and it with its parent. `python -m headwater.base.computing MODULE...` starts it as a
program.
"""

import asyncio
import ctypes
import gc
import importlib
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, BinaryIO, Final, NoReturn, ParamSpec, TypeVar

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
"""Idle time after which a process ends."""
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

    def __init__(
        self, processes: int = 0, *, forks: "_ForkServer | None" = None, max_seconds: float = MAX_SECONDS
    ) -> None:
        self._slots = FairSlots(max(1, processes), max_waiting=MAX_WAITING, what="computations")
        self._forks = forks or _ForkServer()
        self._idle = [_Worker(self._forks) for _ in range(processes)]
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
            worker.stop()
        await self._forks.close()

    async def end_idle(self) -> None:
        """End processes that have been idle for `IDLE_SECONDS`. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(IDLE_SECONDS / 4)
            for worker in self._idle:
                if worker.used_at < time.monotonic() - IDLE_SECONDS:
                    worker.stop()


@asynccontextmanager
async def open_computing(
    processes: int = PROCESSES,
    *,
    modules: Sequence[str] = (),
    fork_server: socket.socket | None = None,
    max_seconds: float = MAX_SECONDS,
) -> AsyncIterator[Computing]:
    """Open `Computing` with this number of processes. Each starts on first use and has imported `modules`.

    `fork_server` is the other end of the socket of a process that runs `serve`. Without it, and if that process ends,
    one is started as a program.
    """
    computing = Computing(processes, forks=_ForkServer(modules, fork_server), max_seconds=max_seconds)
    reaper = asyncio.create_task(computing.end_idle())
    try:
        yield computing
    finally:
        reaper.cancel()
        with suppress(asyncio.CancelledError):
            await reaper
        await computing.close()


class _ForkServer:
    """The process that forks computing processes, started on demand."""

    def __init__(self, modules: Sequence[str] = (), control: socket.socket | None = None) -> None:
        self._modules = modules
        self._control = control
        self._program: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    async def fork(self) -> tuple[socket.socket, int]:
        """Return the socket and the descriptor (pidfd) of a new process. Raises OSError."""
        try:
            return await self._fork()
        except OSError:  # it has not started yet, or has ended
            async with self._starting:
                try:
                    return await self._fork()
                except OSError:
                    await self._start()
            return await self._fork()

    async def close(self) -> None:
        """End it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._program is not None:
            await self._program.wait()

    async def _start(self) -> None:
        await self.close()
        ours, theirs = socket.socketpair()
        with theirs:
            self._program = await asyncio.create_subprocess_exec(
                sys.executable, "-m", __name__, str(os.getpid()), *self._modules,
                stdin=theirs.fileno(), env=_environment(),
            )  # fmt: skip
        self._control = ours

    async def _fork(self) -> tuple[socket.socket, int]:
        if self._control is None:
            raise ConnectionError("no process can be forked")
        channel, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            channel.setblocking(False)
            await _wait_until_readable(channel)
            _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
            if not descriptors:
                raise ConnectionError("no process was forked")
        except BaseException:
            channel.close()
            raise
        return channel, descriptors[0]


async def _wait_until_readable(channel: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(channel.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(channel.fileno())


class _Worker:
    """One process, started on demand. Used by one task at a time."""

    def __init__(self, forks: _ForkServer) -> None:
        self._forks = forks
        self._process: _Process | None = None
        self.used_at = 0.0

    async def ask(self, request: bytes, seconds: float) -> bytes:
        is_good = False
        try:
            process = await self._started()
            try:
                async with asyncio.timeout(seconds):
                    answer = await process.exchange(request)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
                reason = f"longer than {seconds:g} s" if isinstance(error, TimeoutError) else "too much memory"
                raise _too_expensive(reason) from None
            is_good = True
            self.used_at = time.monotonic()
            return answer
        finally:
            if not is_good:
                self.stop()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    async def _started(self) -> "_Process":
        if self._process is not None and not self._process.has_ended:
            return self._process
        self.stop()
        try:
            async with asyncio.timeout(_START_SECONDS):
                channel, pidfd = await self._forks.fork()
        except OSError:  # or TimeoutError
            raise Unavailable("a process for computations did not start") from None
        self._process = _Process(pidfd, *await asyncio.open_connection(sock=channel, limit=1 << 20))
        return self._process


class _Process:
    """A running process."""

    def __init__(self, pidfd: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pidfd = pidfd
        self._reader = reader
        self._writer = writer

    @property
    def has_ended(self) -> bool:
        return self._reader.at_eof()

    async def exchange(self, request: bytes) -> bytes:
        self._writer.write(_LENGTH.pack(len(request)))
        self._writer.write(request)
        await self._writer.drain()
        [length] = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        return await self._reader.readexactly(length)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        self._writer.close()


def _environment() -> dict[str, str]:
    """Return the environment of the process: what the interpreter needs to find its modules, and no secrets."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _too_expensive(reason: str) -> HeadwaterError:
    return Unprocessable("TooExpensive", f"the request was given up: what it asks for takes {reason}")


def serve(control: socket.socket) -> None:
    """Fork a computing process for each socket that arrives, until the other end is closed.

    Call it in a process with one thread. The computing processes have a copy of its memory.
    """
    os.environ.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent ends this process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the processes
    parent = os.getpid()
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        with socket.socket(fileno=descriptors[0]) as channel:
            try:
                pid = os.fork()
            except OSError as error:
                print(f"a process cannot be forked: {error.strerror}", file=sys.stderr)
                continue
            if pid == 0:
                control.close()
                _compute(channel, parent)


def _compute(channel: socket.socket, parent: int) -> NoReturn:
    """Process requests until the socket is closed."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.enable()
        _confine(parent)
        pidfd = os.pidfd_open(os.getpid())
        socket.send_fds(channel, [b"+"], [pidfd])
        os.close(pidfd)
        with channel.makefile("rb") as requests, channel.makefile("wb") as answers:
            _answer_all(requests, answers)
        status = 0
    finally:
        os._exit(status)


def _answer_all(requests: BinaryIO, answers: BinaryIO) -> None:
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
    _end_with(parent)


def _end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _main() -> None:
    _end_with(int(sys.argv[1]))
    os.dup2(2, 1)  # standard output may be a pipe of the parent with another purpose
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()
    serve(socket.socket(fileno=0))


if __name__ == "__main__":
    _main()
