"""Starts processes by forking from a fork server (`headwater.server.forkserver`).

The forked processes are children of this process, as those of `headwater.server.processes.start`: they end with it,
send heartbeats, and have an exit status. The supervisor has a fork server for the processes of the system, and the
scheduler has one for run processes.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from headwater.server import environment, forkserver, processes
from headwater.server.forkserver import LENGTH, PID
from headwater.server.processes import (
    HEARTBEAT_VARIABLE,
    MAX_LINE_BYTES,
    Child,
    Program,
    adopt_orphans,
    awaiting,
    die_with_parent,
    ended,
    open_heartbeat,
)

RETRY_SECONDS = 0.1
"""Pause after a fork that failed, or while the fork server is being restarted."""


@dataclass(frozen=True, slots=True)
class RunningForkServer:
    """A fork server that was started before the event loop, as a child of this process."""

    pid: int
    control: socket.socket
    output: int
    """The pipe with its output."""
    heartbeat: int
    """The pipe with its heartbeats."""


def fork_fork_server(modules: Iterable[str] = ()) -> RunningForkServer:
    """Fork a fork server from this process. It imports those of `modules` that this process lacks.

    It takes milliseconds if this process has the modules. The fork server and its forks have the memory of this
    process, with its variables. Exits if this process has several threads, because a fork copies only one.
    """
    forkserver.check_threads()
    inherited = os.environ.get(HEARTBEAT_VARIABLE)
    ours, theirs = socket.socketpair()
    output_reader, output = os.pipe()
    heartbeat_reader, heartbeat = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(parent)
        os.setpgid(0, 0)
        ours.close()
        for source, target in ((theirs.fileno(), 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        theirs.close()
        for descriptor in (output_reader, heartbeat_reader, output, *([] if inherited is None else [int(inherited)])):
            os.close(descriptor)
        variables = environment.fork_server(os.environ) | {HEARTBEAT_VARIABLE: str(heartbeat)}
        os.environ.clear()
        os.environ.update(variables)
        forkserver.set_title([sys.executable, "-m", "headwater.server.forkserver"])
        forkserver.end(_import_and_serve, modules, parent)
    theirs.close()
    os.close(output)
    os.close(heartbeat)
    return RunningForkServer(pid, ours, output_reader, heartbeat_reader)


def _import_and_serve(modules: Iterable[str], parent: int) -> None:
    forkserver.import_modules(modules)
    forkserver.serve(parent)


class ForkServer:
    """Starts children in milliseconds. Create it in the main thread, with a running event loop."""

    def __init__(self, running: RunningForkServer | None = None) -> None:
        """`running` is used for the first launch."""
        self._running = running
        self._control: socket.socket | None = None
        self._launched = asyncio.Event()
        adopt_orphans()

    async def launch(self, program: Program) -> Child:
        """Start the fork server itself. After its end, call it again."""
        running, self._running = self._running, None
        if running is not None:
            child = await _adopt(program, running)
            self._use(running.control)
            return child
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = await processes.start(program, stdin=theirs.fileno())
            except BaseException:
                ours.close()
                raise
        self._use(ours)
        return child

    def _use(self, control: socket.socket) -> None:
        self.close()
        control.setblocking(False)
        self._control = control
        self._launched.set()

    def close(self) -> None:
        """Let the fork server end. The processes that it has forked continue."""
        if self._control is not None:
            self._control.close()
            self._control = None

    async def start(self, program: Program) -> Child:
        """Start a program by a fork. Its command is `(sys.executable, "-m", MODULE, *ARGUMENTS)`, and the fork calls
        `MODULE.main(*ARGUMENTS)`.

        Waits until the fork server has been launched and has imported its modules. A fork that fails is repeated until
        this call is cancelled: the fork server can be restarted meanwhile.
        """
        while True:
            await self._launched.wait()
            try:
                return await self._fork(program)
            except OSError:
                await asyncio.sleep(RETRY_SECONDS)

    async def _fork(self, program: Program) -> Child:
        """Raises OSError, or its subclass TimeoutError, if the fork fails."""
        if self._control is None:
            raise ConnectionError("the fork server is not running")
        loop = asyncio.get_running_loop()
        with ExitStack() as on_failure, ExitStack() as always:
            heartbeat, beat = open_heartbeat(program)
            if heartbeat is not None and beat is not None:
                on_failure.callback(os.close, heartbeat)
                always.callback(os.close, beat)
            readable, output = os.pipe()
            always.callback(os.close, output)
            reading, stdout = await _read_lines(readable)
            on_failure.callback(reading.close)
            channel, theirs = socket.socketpair()
            always.callback(channel.close)
            channel.setblocking(False)
            with theirs:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            command, variables = (json.dumps(each).encode() for each in (program.command, dict(program.environment)))
            socket.send_fds(channel, [LENGTH.pack(len(command))], [output] if beat is None else [output, beat])
            async with asyncio.timeout(processes.MAX_STARTUP_SECONDS):
                await loop.sock_sendall(channel, command + LENGTH.pack(len(variables)) + variables)
                pid = await _receive_pid(channel)
            process = _ForkedProcess(pid, stdout)
            child = Child(program, process, heartbeat)
            on_failure.pop_all()
            with suppress(OSError):  # the process has ended, and `wait` returns its status
                channel.send(b"g")
            return child


async def _adopt(program: Program, running: RunningForkServer) -> Child:
    _, stdout = await _read_lines(running.output)
    os.set_blocking(running.heartbeat, False)
    return Child(program, _ForkedProcess(running.pid, stdout), running.heartbeat)


async def _read_lines(descriptor: int) -> tuple[asyncio.ReadTransport, asyncio.StreamReader]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(MAX_LINE_BYTES, loop)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), pipe)
    return transport, reader


async def _receive_pid(channel: socket.socket) -> int:
    loop, received = asyncio.get_running_loop(), b""
    while len(received) < PID.size:
        part = await loop.sock_recv(channel, PID.size - len(received))
        if not part:
            raise ConnectionError("no process was forked")
        received += part
    pid: int = PID.unpack(received)[0]
    return pid


class _ForkedProcess:
    """A child that this process did not start itself. It has the members of `asyncio.subprocess.Process` that `Child`
    uses."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader) -> None:
        """Raises OSError if `pid` is not a child of this process."""
        self.pid = pid
        self.stdout: asyncio.StreamReader | None = stdout
        self._pidfd = os.pidfd_open(pid)
        try:
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError:
            os.close(self._pidfd)
            raise
        awaiting(pid)
        loop = asyncio.get_running_loop()
        self._status: asyncio.Future[int] = loop.create_future()
        loop.add_reader(self._pidfd, self._reap)

    async def wait(self) -> int:
        """Return the exit status; a negative status is a signal."""
        return await asyncio.shield(self._status)

    def send_signal(self, number: int) -> None:
        """Send a signal. Raises ProcessLookupError if the process has ended."""
        if self._status.done():
            raise ProcessLookupError
        signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        ended(self.pid)
        self._status.set_result(os.waitstatus_to_exitcode(status))
