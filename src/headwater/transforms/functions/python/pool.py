"""Starts the interpreter's processes through `confinement.launch`, so that they are confined before they run.

The pool executes one file without arguments. That file is a shell script in memory that runs the launcher.
"""

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from pydantic_monty import AsyncMonty, AsyncMontySession
from pydantic_monty._binary import find_monty_binary

from headwater.base.errors import Unavailable
from headwater.transforms.functions import confinement
from headwater.transforms.functions.confinement import launch
from headwater.transforms.functions.confinement.report import PARTS, Report
from headwater.transforms.functions.contract import Limits

START_SECONDS: Final = 20.0
"""Maximum time for the start of a session, on a busy machine."""
_INTERPRETER_BYTES: Final = 128 << 20
"""Memory of the interpreter without the values of a function, which count twice while they are copied."""
REAP_SECONDS: Final = 0.5
"""Time that the pool has to reap an ended process, before this module does."""
_MAX_SUSPENSIONS: Final = 1_000_000
"""Maximum number of failed name lookups of a session. The default of a thousand is for the session's whole life."""


class Pool:
    """The processes behind the sandboxes for Python."""

    def __init__(self, processes: AsyncMonty, script: str | None, limits: Limits, report: Report) -> None:
        self._processes = processes
        self._script = script
        self._limits = limits
        self._report = report
        self._is_checked = False
        self._ended: set[int] = set()
        """Descriptors of processes that are ending and may have to be reaped."""

    async def start_session(self, seconds: float) -> AsyncMontySession:
        """Start a process with one session, in which each feed may take `seconds`. Raises Unavailable."""
        await self._check()
        return await self._processes.checkout(
            limits={
                "max_feed_duration_secs": seconds,
                "max_memory": self._limits.memory,
                "max_total_sleep_secs": 0,
                "max_suspensions": _MAX_SUSPENSIONS,
            }
        ).__aenter__()

    def reap(self, process: int) -> None:
        """Reap a process that is ending, unless the pool does. `process` is its descriptor, which is closed.

        The pool waits for SIGCHLD. uvloop removes that handler when a process that it started has ended.
        """
        self._ended.add(process)
        asyncio.get_running_loop().call_later(REAP_SECONDS, self._reap, process)

    def _reap(self, process: int) -> None:
        if process not in self._ended:
            return
        try:
            if os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOHANG) is None:
                self.reap(process)
                return
        except OSError:  # the pool has reaped it
            pass
        self._ended.discard(process)
        os.close(process)

    def close(self) -> None:
        """Close the descriptors of processes that have not ended yet."""
        while self._ended:
            os.close(self._ended.pop())

    async def _check(self) -> None:
        """Report once the parts of the confinement that the system refuses."""
        if self._is_checked:
            return
        self._report.add("Python", tuple(PARTS) if self._script is None else await _refused(self._script))
        self._is_checked = True


@asynccontextmanager
async def open_pool(size: int, limits: Limits, report: Report) -> AsyncIterator[Pool]:
    """Open the processes behind `size` sandboxes. One more may start while another ends."""
    descriptor = _write_script(limits, report) if sys.platform == "linux" else None
    script = None if descriptor is None else f"/proc/{os.getpid()}/fd/{descriptor}"
    try:
        async with AsyncMonty(
            binary_path=script,
            min_processes=0,
            max_processes=size + 1,
            checkout_timeout=START_SECONDS,
            max_checkouts_per_worker=1,
        ) as processes:
            pool = Pool(processes, script, limits, report)
            try:
                yield pool
            finally:
                pool.close()
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _write_script(limits: Limits, report: Report) -> int:
    """Return a descriptor of the script, open for reading only: a file that is open for writing cannot be executed."""
    command = (
        *(sys.executable, "-I", "-S", str(Path(confinement.__file__).with_name("launch.py"))),
        launch.REQUIRE if report.required else "warn",
        str(_INTERPRETER_BYTES + 2 * limits.memory),
        find_monty_binary(),
    )
    writer = os.memfd_create("headwater-python-sandbox")
    try:
        os.write(writer, f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'.encode())
        return os.open(f"/proc/self/fd/{writer}", os.O_RDONLY)
    finally:
        os.close(writer)


async def _refused(script: str) -> tuple[str, ...]:
    """Return the parts of the confinement that the system refuses."""
    try:
        async with asyncio.timeout(START_SECONDS):
            process = await asyncio.create_subprocess_exec(
                *(script, launch.CHECK), env={}, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"the sandbox for Python cannot be started: {type(error).__name__}") from None
    if process.returncode != 0:
        raise Unavailable("the sandbox for Python cannot be started")
    return tuple(output.decode().split())
