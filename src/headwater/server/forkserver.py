"""The fork server: imports the modules of processes once, and forks a process for each request of the supervisor.

A fork takes milliseconds, while the imports take most of a second of a processor. The processes also share the memory
of the imported modules. Start it with `python -m headwater.server.forkserver MODULE...`, and a socket as its standard
input. `headwater.server.forking` is the supervisor's side.

Each byte on the socket comes with a descriptor of another socket, on which the forked process reads its request itself.
The fork server therefore never has the settings and secrets of a process in memory. It has one thread, no event loop,
and no open database or connection, so that a fork copies no lock and no descriptor that is in use.

A forked process becomes a child of the supervisor, which adopts orphans: a process in between forks it and ends. The
processes survive the end of the fork server, and die with the supervisor.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from headwater.server.processes import HEARTBEAT_SECONDS, HEARTBEAT_VARIABLE, die_with_parent

LENGTH: Final = struct.Struct("!I")
"""Precedes a request: its length in bytes."""
PID: Final = struct.Struct("!I")
"""The first answer of a forked process. It begins its work when it is answered with a byte."""
REQUEST_SECONDS: Final = 60.0
"""Time limit of each step of the exchange with a forked process."""
MAX_DESCRIPTORS: Final = 2
"""Descriptors of a request: the output, and the heartbeat pipe of a watched process."""

_M_TRIM_THRESHOLD: Final = -1
_ORPHAN_POLL_SECONDS: Final = 0.001
_FIELDS_BEFORE_ARGUMENTS: Final = 45
"""Fields of /proc/self/stat between the name of the program and the address of its arguments."""


def main() -> None:
    """Serve until the supervisor closes the socket. Returns also in each forked process when its work is complete."""
    supervisor = os.getppid()
    gc.disable()  # a collection would write to memory that the processes share
    for module in sys.argv[1:]:
        importlib.import_module(module)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        sys.exit(f"the fork server cannot fork, because imports have started {threads - 1} threads")
    gc.freeze()
    channel = _serve(int(os.environ.pop(HEARTBEAT_VARIABLE, "-1")))
    if channel is not None:
        _become_child(channel, supervisor)


def _serve(heartbeat: int) -> socket.socket | None:
    """Fork for each request. Return the socket of a request in the forked process, and None at the end of the
    requests."""
    control = socket.socket(fileno=0)
    while True:
        if heartbeat >= 0:
            with suppress(OSError):  # the pipe is full
                os.write(heartbeat, b".")
        if not select.select([control], [], [], HEARTBEAT_SECONDS)[0]:
            continue
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return None
        try:
            between = os.fork()
        except OSError as error:
            print(f"a process cannot be forked: {error.strerror}", file=sys.stderr)
        else:
            if between == 0:
                if os.fork() > 0:
                    os._exit(0)
                control.detach()
                if heartbeat >= 0:
                    os.close(heartbeat)
                return socket.socket(fileno=descriptors[0])
            os.waitpid(between, 0)
        os.close(descriptors[0])


def _become_child(channel: socket.socket, supervisor: int) -> None:
    """Read the request, and run the main function of its module in this process."""
    _wait_for_adoption(supervisor)
    die_with_parent(supervisor)
    os.setpgid(0, 0)
    with channel:
        channel.settimeout(REQUEST_SECONDS)
        command, variables = _receive(channel)
        channel.sendall(PID.pack(os.getpid()))
        if not channel.recv(1):  # the supervisor does not need the process any more
            return
    _set_title(command)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    _configure_malloc(variables)
    gc.enable()
    _, _, module, *arguments = command
    sys.argv = [module, *arguments]
    importlib.import_module(module).main(*arguments)


def _wait_for_adoption(supervisor: int) -> None:
    """Wait until the process in between has ended. End this process if the supervisor has ended."""
    deadline = time.monotonic() + REQUEST_SECONDS
    while os.getppid() != supervisor:
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(_ORPHAN_POLL_SECONDS)


def _receive(channel: socket.socket) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of a request, after its descriptors have taken their places."""
    head, descriptors, _, _ = socket.recv_fds(channel, LENGTH.size, MAX_DESCRIPTORS)
    body = _receive_exactly(channel, LENGTH.unpack(head)[0])
    request: dict[str, Any] = json.loads(body)
    command, variables = request["command"], dict(request["environment"])
    null = os.open(os.devnull, os.O_RDWR)
    output, *heartbeats = descriptors
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    if heartbeats:
        variables[HEARTBEAT_VARIABLE] = str(heartbeats[0])
    return command, variables


def _receive_exactly(channel: socket.socket, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        if not (part := channel.recv(size - len(body))):
            os._exit(1)  # the supervisor has ended
        body += part
    return bytes(body)


def _set_title(command: list[str]) -> None:
    """Show the command in `ps`: overwrite the arguments of this process, within their space."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = map(int, fields[_FIELDS_BEFORE_ARGUMENTS : _FIELDS_BEFORE_ARGUMENTS + 2])
    size = end - start
    if start and size > 0:
        title = b"".join(os.fsencode(argument) + b"\0" for argument in command)
        ctypes.memmove(start, title[: size - 1].ljust(size, b"\0"), size)


def _configure_malloc(variables: dict[str, str]) -> None:
    """Apply the variable of glibc's allocator that the supervisor sets. The allocator reads it only when a program
    starts."""
    threshold = variables.get("MALLOC_TRIM_THRESHOLD_", "")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and threshold.isdecimal():
        mallopt(_M_TRIM_THRESHOLD, int(threshold))


if __name__ == "__main__":
    main()
