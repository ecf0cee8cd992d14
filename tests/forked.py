"""Starts whole systems and programs by forking from a process that has imported the modules of the system, because
imports take most of the processor time of a start.

`python -m tests.forked MODULE...` is that process. There is one for each process of the tests. A system differs from
one that the command line has started only in that its supervisor and its first fork server are forks as well.
"""

import asyncio
import atexit
import gc
import importlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final
from unittest.mock import patch

from headwater.cli.main import main
from headwater.server import environment, forkserver, supervisor
from headwater.server.forking import fork_fork_server
from headwater.server.settings import read

MODULES: Final = ("headwater.server.supervisor", *supervisor.forked_modules(read({})))
COMMAND_LINE: Final = "headwater.cli"
NUMBER: Final = struct.Struct("!i")
"""A process id, and later the exit status."""
LENGTH: Final = forkserver.LENGTH
TIMEOUT_SECONDS: Final = 120.0
STANDARD_ERROR: Final = 2


class ForkedProcess:
    """A forked process, with the members of `subprocess.Popen` that tests use."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._channel.settimeout(TIMEOUT_SECONDS)
        self.pid: int = NUMBER.unpack(channel.recv(NUMBER.size))[0]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        if self.returncode is None and select.select([self._channel], [], [], 0)[0]:
            self._read_status()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._channel], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("headwater serve", timeout or 0)
            self._read_status()
        assert self.returncode is not None
        return self.returncode

    def _read_status(self) -> None:
        (self.returncode,) = NUMBER.unpack(self._channel.recv(NUMBER.size))
        self._channel.close()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)


def fork_system(variables: Mapping[str, str], output: int, errors: int) -> ForkedProcess:
    """Run `headwater serve` with these environment variables; its output goes to two descriptors."""
    return _fork((), variables, output, errors)


def run_program(module: str, *arguments: str) -> tuple[int, bytes]:
    """Run `MODULE.main(*ARGUMENTS)`; return the exit status and the output. Raises subprocess.TimeoutExpired."""
    with open(os.memfd_create("output"), "rb") as output:
        process = _fork((module, *arguments), os.environ, output.fileno(), STANDARD_ERROR)
        try:
            status = process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        output.seek(0)
        return status, output.read()


async def start_program(module: str, *arguments: str) -> tuple[ForkedProcess, asyncio.StreamReader]:
    """Run `MODULE.main(*ARGUMENTS)` without waiting; return the process and its output."""
    readable, output = os.pipe()
    try:
        process = _fork((module, *arguments), os.environ, output, STANDARD_ERROR)
    finally:
        os.close(output)
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    pipe = os.fdopen(readable, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return process, reader


def run_command(*arguments: str, variables: Mapping[str, str]) -> str:
    """Run `headwater ARGUMENTS` with these environment variables; return its standard output.

    Raises subprocess.CalledProcessError if it fails, and subprocess.TimeoutExpired.
    """
    with open(os.memfd_create("output"), "rb") as output, open(os.memfd_create("errors"), "rb") as errors:
        process = _fork((COMMAND_LINE, *arguments), variables, output.fileno(), errors.fileno())
        try:
            status = process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for each in (output, errors):
            each.seek(0)
        printed, failures = output.read().decode(), errors.read().decode()
    if status:
        raise subprocess.CalledProcessError(status, ("headwater", *arguments), printed, failures)
    return printed


def _fork(command: Sequence[str], variables: Mapping[str, str], output: int, errors: int) -> ForkedProcess:
    """Run a module, or the system if `command` is empty."""
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(_server(), [b"f"], [theirs.fileno()])
    process = ForkedProcess(ours)
    request = json.dumps({"command": command, "variables": dict(variables), "folder": str(Path.cwd())}).encode()
    socket.send_fds(ours, [LENGTH.pack(len(request))], [output, errors])
    ours.sendall(request)
    return process


@cache
def _server() -> socket.socket:
    """Start the process that forks. It ends with this one."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "tests.forked", *MODULES]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    with theirs:
        process = subprocess.Popen(
            command, stdin=theirs.fileno(), env=variables | environment.GRPC, cwd=Path(__file__).parents[1]
        )

    def end() -> None:
        ours.close()
        process.wait(TIMEOUT_SECONDS)

    atexit.register(end)
    return ours


def _serve() -> None:
    control = socket.socket(fileno=0)
    living: dict[int, tuple[int, socket.socket]] = {}
    while True:
        readable, _, _ = select.select([control.fileno(), *living], [], [])
        for ended in living.keys() & set(readable):
            pid, channel = living.pop(ended)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.close(ended)
            with channel:
                channel.send(NUMBER.pack(status), socket.MSG_NOSIGNAL)
        if control.fileno() in readable:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not descriptors:
                return
            channel = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                control.detach()
                for other, (_, theirs) in living.items():
                    os.close(other)
                    theirs.close()
                forkserver.end(_run, channel)
            channel.sendall(NUMBER.pack(pid))
            living[os.pidfd_open(pid)] = pid, channel


def _run(channel: socket.socket) -> None:
    """Run a module, or the supervisor, in this fork."""
    with channel:
        head, descriptors, _, _ = socket.recv_fds(channel, LENGTH.size, 2)
        request = json.loads(channel.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL))
    for source, target in ((os.open(os.devnull, os.O_RDWR), 0), *zip(descriptors, (1, 2), strict=True)):
        os.dup2(source, target)
        os.close(source)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    gc.enable()
    module, *arguments = request["command"] or [""]
    if module == COMMAND_LINE:
        main(arguments)
    elif module:
        importlib.import_module(module).main(*arguments)
    else:
        _run_system()


def _run_system() -> None:
    fork_server = fork_fork_server()
    forkserver.set_title([sys.executable, "-m", "headwater.cli", "serve"])
    with patch.object(supervisor, "serve", partial(supervisor.serve, fork_server=fork_server)):
        main(["serve"])


if __name__ == "__main__":
    forkserver.import_modules(sys.argv[1:])
    _serve()
