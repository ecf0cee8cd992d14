"""Child processes that cannot outlive their parent.

A child gets SIGKILL from the kernel when the parent is gone, however it went; it has a process group of its own, so
that Ctrl-C in a terminal reaches only the parent, which then stops its children in order. What a child writes goes to
the parent's standard error line by line; its last line is kept to explain why it ended.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PR_SET_PDEATHSIG = 1
LINE_LIMIT = 1 << 20
"""Bytes in the longest line that a child may write; longer ones are cut."""

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: its name in logs, its command line, and the variables it gets beside the parent's."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """A running program."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process) -> None:
        self.program = program
        self.last_line = ""
        """The last line that it wrote, empty before the first."""
        self._process = process
        self._relay = asyncio.create_task(self._relay_output())

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Its exit status once it has ended and its last words are relayed; negative: the signal that ended it."""
        status = await self._process.wait()
        with contextlib.suppress(TimeoutError):  # a grandchild may keep the pipe open
            await asyncio.wait_for(asyncio.shield(self._relay), 1)
        return status

    async def stop(self, patience_s: float) -> None:
        """Ask it to end with SIGTERM; after `patience_s` seconds end it with SIGKILL."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), patience_s)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has already ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

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

    process = await asyncio.create_subprocess_exec(
        *program.command,
        env={**os.environ, **program.environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=die_with_parent,
        process_group=0,
        limit=LINE_LIMIT,
    )
    return Child(program, process)
