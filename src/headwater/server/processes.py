"""Child processes that end with their parent and send heartbeats.

The kernel kills a child (SIGKILL) when its parent has ended, in whatever way. Each child has its own process group:
Ctrl-C in a terminal reaches only the parent, which stops its children in order. The output of a child goes to the
parent's standard error line by line; the last line is kept, to state why the child ended.

A watched child writes a byte to a pipe every HEARTBEAT_SECONDS from its event loop
(`headwater.server.child.heartbeat`). `Child.wait_for_silence` returns when no byte arrives.

`headwater.server.forking` starts children in another way.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
HEARTBEAT_SECONDS = 1.0
HEARTBEAT_VARIABLE = "HEADWATER_HEARTBEAT_FD"
"""The variable with the file descriptor for the heartbeat of a watched child."""
BEAT = b"."
PROGRESS = b"p"
"""The bytes in the pipe: a heartbeat, and a sign that a start-up goes on, as during a long migration."""
MAX_STARTUP_SECONDS = 600.0
"""Time limit of the first heartbeat of a watched child, after its latest sign of progress. Imports and recovery run
before it, and migrations, which give these signs."""
MAX_LINE_BYTES = 1 << 20
"""Maximum length of a line that a child writes. Longer lines are cut."""

_libc = ctypes.CDLL(None)

_awaited: Final[set[int]] = set()
"""Process ids of children whose exit status is awaited."""
_starting: Final[list[str]] = []
"""Names of programs whose process id is not known yet."""


class Process(Protocol):
    """The part of `asyncio.subprocess.Process` that a `Child` uses."""

    pid: int
    stdout: asyncio.StreamReader | None

    async def wait(self) -> int: ...
    def send_signal(self, number: int, /) -> None: ...


_REASONS = {
    signal.SIGKILL: "is the machine out of memory?",
    signal.SIGSEGV: "a library has crashed",
    signal.SIGBUS: "a library has crashed, or the disk is full",
    signal.SIGABRT: "a library has given up",
    signal.SIGILL: "a library does not support the processor",
    signal.SIGXCPU: "a limit of processor time",
    signal.SIGXFSZ: "a limit of file sizes",
}
"""The likely reasons of signals that a process does not get from its parent."""


def describe_ending(status: int) -> str:
    """Return how a process with this exit status ended, for people, with the likely reason."""
    if status >= 0:
        return f"it ended with exit status {status}; the log says why"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"it was killed by signal {-status}"
    reason = _REASONS.get(number)
    return f"it was killed by {number.name}" + ("" if reason is None else f": {reason}")


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run."""

    name: str
    """The name in logs."""

    command: Sequence[str]
    environment: Mapping[str, str]
    """All environment variables. None are inherited."""

    patience_seconds: float | None = None
    """Seconds without a heartbeat after which the program is stuck; None: it sends no heartbeat."""


class Child:
    """A running program."""

    def __init__(self, program: Program, process: Process, heartbeat: int | None) -> None:
        """`heartbeat` is the reading end of the pipe. It is closed when the child has ended."""
        self.program = program
        self.last_line = ""
        """The last line of output; empty before the first."""
        self._process = process
        self._relay = asyncio.create_task(self._relay_output())
        self._heartbeat = heartbeat
        self._beats = 0
        self._signs = 0
        self.progressed_at = float("-inf")
        """The time of the latest sign that its start-up goes on, by the event loop's clock."""
        if heartbeat is not None:
            asyncio.get_running_loop().add_reader(heartbeat, self._read_heartbeat)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_started(self) -> bool:
        """Whether the program has sent a heartbeat; True for one that sends none."""
        return self._beats > 0 or self.program.patience_seconds is None

    async def wait(self) -> int:
        """Return the exit status after the child has ended and its output is relayed. A negative status is a signal."""
        status = await self._process.wait()
        ended(self.pid)
        self._close_heartbeat()
        with contextlib.suppress(TimeoutError):  # a grandchild may keep the pipe open
            await asyncio.wait_for(asyncio.shield(self._relay), 1)
        return status

    async def wait_or_kill(self, log_stuck: Callable[[float], None]) -> int:
        """Return the exit status. A child that is stuck is killed, after a call of `log_stuck` with the seconds of its
        silence."""
        ending = asyncio.ensure_future(self.wait())
        silence = asyncio.ensure_future(self.wait_for_silence())
        try:
            await asyncio.wait((ending, silence), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                log_stuck(round(silence.result(), 1))
                self.signal(signal.SIGKILL)
            return await ending
        finally:
            ending.cancel()
            silence.cancel()

    async def stop(self, timeout_seconds: float) -> None:
        """Send SIGTERM, and SIGKILL after `timeout_seconds`."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), timeout_seconds)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the child has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def wait_for_silence(self) -> float:
        """Return the seconds of silence once the child is stuck. Wait for ever if it is not watched.

        Two kinds of time do not count: time in which this process did not run (a suspended machine, a stopped
        supervisor), and time that the child waited for a processor.
        """
        patience = self.program.patience_seconds
        if patience is None:
            await asyncio.Event().wait()
        assert patience is not None
        loop = asyncio.get_running_loop()
        silence, signs = 0.0, self._signs
        before, waited = loop.time(), self._processor_wait()
        while silence < (patience if self._beats else max(patience, MAX_STARTUP_SECONDS)):
            await asyncio.sleep(HEARTBEAT_SECONDS)
            now, waits = loop.time(), self._processor_wait()
            passed = min(now - before, 2 * HEARTBEAT_SECONDS)
            silence = max(silence, silence + passed - (waits - waited)) if signs == self._signs else 0.0
            before, waited, signs = now, waits, self._signs
        return silence

    def _processor_wait(self) -> float:
        """Return the seconds that the child's main thread was ready to run without a processor."""
        try:
            with open(f"/proc/{self.pid}/schedstat", "rb") as file:  # "running waiting timeslices", in nanoseconds
                return int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):  # the child has ended, or the kernel does not count
            return 0.0

    def _read_heartbeat(self) -> None:
        assert self._heartbeat is not None
        try:
            signs = os.read(self._heartbeat, 4096)
        except BlockingIOError:
            return
        self._beats += signs.count(BEAT)
        self._signs += len(signs)
        if PROGRESS in signs:
            self.progressed_at = asyncio.get_running_loop().time()
        if not signs:  # the child has closed it
            self._close_heartbeat()

    def _close_heartbeat(self) -> None:
        if self._heartbeat is not None:
            asyncio.get_running_loop().remove_reader(self._heartbeat)
            os.close(self._heartbeat)
            self._heartbeat = None

    async def _relay_output(self) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than MAX_LINE_BYTES: asyncio has dropped it
                line = b"(a line that was too long)\n"
            if not line:
                return
            with contextlib.suppress(OSError):  # standard error is closed, and the child must not block
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()
            self.last_line = line.decode(errors="replace").strip() or self.last_line


async def start(program: Program, *, stdin: int = asyncio.subprocess.DEVNULL) -> Child:
    """Start a program. Call it in the main thread, because the kernel watches the thread that forked, not the
    process."""
    parent = os.getpid()
    reader, writer = open_heartbeat(program)
    environment = dict(program.environment)
    if writer is not None:
        environment[HEARTBEAT_VARIABLE] = str(writer)
    _starting.append(program.name)
    try:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env=environment,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=() if writer is None else (writer,),
            preexec_fn=lambda: die_with_parent(parent),
            process_group=0,
            limit=MAX_LINE_BYTES,
        )
        awaiting(process.pid)
    except BaseException:
        if reader is not None:
            os.close(reader)
        raise
    finally:
        _starting.remove(program.name)
        if writer is not None:
            os.close(writer)
    return Child(program, process, reader)


def open_heartbeat(program: Program) -> tuple[int, int] | tuple[None, None]:
    """Return the ends of the heartbeat pipe of a program, if it is watched: to read, and to write."""
    if program.patience_seconds is None:
        return None, None
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends. End it if the parent has ended already."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose parents end, and reap those that nobody awaits.

    Call it in the main thread, with a running event loop.
    """
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _reap_orphans)


def awaiting(pid: int) -> None:
    """Keep the exit status of a child for its `Child`, until `ended` is called."""
    _awaited.add(pid)


def ended(pid: int) -> None:
    """Forget a child whose exit status was read."""
    _awaited.discard(pid)


def _reap_orphans() -> None:
    """Reap ended children that are not awaited. If an awaited one has ended first, the next call reaps them."""
    while not _starting:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in _awaited:
            return
        os.waitpid(found.si_pid, 0)
