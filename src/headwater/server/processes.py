"""Child processes that cannot outlive their parent, and that show that they are not stuck.

A child gets SIGKILL from the kernel when the parent is gone, however it went; it has a process group of its own, so
that Ctrl-C in a terminal reaches only the parent, which then stops its children in order. What a child writes goes to
the parent's standard error line by line; its last line is kept to explain why it ended.

A watched child writes a byte to a pipe every HEARTBEAT_SECONDS from its event loop
(`headwater.server.child.heartbeat`). `Child.wait_for_silence` returns when no byte arrives.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
HEARTBEAT_SECONDS = 1.0
HEARTBEAT_VARIABLE = "HEADWATER_HEARTBEAT_FD"
"""Holds the number of the file descriptor that a watched child writes its heartbeat to."""
MAX_STARTUP_SECONDS = 600.0
"""Seconds within which a watched child must write its first heartbeat: imports, migrations and recovery come before."""
MAX_LINE_BYTES = 1 << 20
"""Bytes in the longest line that a child may write; longer ones are cut."""

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run."""

    name: str
    """Its name in logs."""

    command: Sequence[str]
    environment: Mapping[str, str]
    """All its environment variables: nothing is inherited."""

    patience_seconds: float | None = None
    """Seconds without a heartbeat after which it counts as stuck; None: it writes no heartbeat."""


class Child:
    """A running program."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process, heartbeat: int | None) -> None:
        """`heartbeat` is the end of the pipe to read from, which is closed when the child has ended."""
        self.program = program
        self.last_line = ""
        """The last line that it wrote, empty before the first."""
        self._process = process
        self._relay = asyncio.create_task(self._relay_output())
        self._heartbeat = heartbeat
        self._beats = 0
        if heartbeat is not None:
            asyncio.get_running_loop().add_reader(heartbeat, self._read_heartbeat)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Its exit status once it has ended and its last words are relayed; negative: the signal that ended it."""
        status = await self._process.wait()
        self._close_heartbeat()
        with contextlib.suppress(TimeoutError):  # a grandchild may keep the pipe open
            await asyncio.wait_for(asyncio.shield(self._relay), 1)
        return status

    async def stop(self, timeout_seconds: float) -> None:
        """Ask it to end with SIGTERM; after `patience_s` seconds end it with SIGKILL."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), timeout_seconds)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has already ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def wait_for_silence(self) -> float:
        """Return the seconds of silence when the child counts as stuck. Wait for ever when it is not watched.

        Time in which this process did not run itself does not count (a suspended machine, a stopped supervisor), nor
        time that the child spent waiting for a processor.
        """
        patience = self.program.patience_seconds
        if patience is None:
            await asyncio.Event().wait()
        assert patience is not None
        loop = asyncio.get_running_loop()
        silence, beats = 0.0, self._beats
        before, waited = loop.time(), self._processor_wait()
        while silence < (patience if beats else max(patience, MAX_STARTUP_SECONDS)):
            await asyncio.sleep(HEARTBEAT_SECONDS)
            now, waits = loop.time(), self._processor_wait()
            passed = min(now - before, 2 * HEARTBEAT_SECONDS)
            silence = max(silence, silence + passed - (waits - waited)) if beats == self._beats else 0.0
            before, waited, beats = now, waits, self._beats
        return silence

    def _processor_wait(self) -> float:
        """Return the seconds that the child's main thread was ready to run and had no processor."""
        try:
            with open(f"/proc/{self.pid}/schedstat", "rb") as file:  # "running waiting timeslices", in nanoseconds
                return int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):  # it has ended, or the kernel does not count
            return 0.0

    def _read_heartbeat(self) -> None:
        assert self._heartbeat is not None
        try:
            count = len(os.read(self._heartbeat, 4096))
        except BlockingIOError:
            return
        self._beats += count
        if not count:  # the child has closed it
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
            except ValueError:  # longer than LINE_LIMIT: asyncio has dropped it
                line = b"(a line that was too long)\n"
            if not line:
                return
            with contextlib.suppress(OSError):  # nobody reads: the child must not wait for it
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()
            self.last_line = line.decode(errors="replace").strip() or self.last_line


async def start(program: Program) -> Child:
    """Start a program. To be called in the main thread: the kernel watches the thread that forked, not the process."""
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went between the fork and the line above
            os._exit(1)

    reader = writer = None
    environment = dict(program.environment)
    if program.patience_seconds is not None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        environment[HEARTBEAT_VARIABLE] = str(writer)
    try:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=() if writer is None else (writer,),
            preexec_fn=die_with_parent,
            process_group=0,
            limit=MAX_LINE_BYTES,
        )
    except BaseException:
        if reader is not None:
            os.close(reader)
        raise
    finally:
        if writer is not None:
            os.close(writer)
    return Child(program, process, reader)
