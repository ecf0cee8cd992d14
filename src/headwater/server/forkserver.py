"""The fork server: imports the modules of processes once, and forks a process for each request of its parent.

A fork takes milliseconds, while the imports take most of a second of a processor. The processes also share the memory
of the imported modules. Start it with `python -m headwater.server.forkserver MODULE...`, and a socket as its standard
input. `headwater.server.forking` is the parent's side.

Each byte on the socket comes with a descriptor of another socket, on which the forked process reads its request itself.
The fork server of the supervisor therefore never has the settings and secrets of a process in memory; that of the
scheduler has those of the scheduler. It has one thread, no event loop, and no open database or connection, so that a
fork copies no lock and no descriptor that is in use.

A forked process becomes a child of the parent, which adopts orphans: a process in between forks it and ends. The
processes survive the end of the fork server, and die with the parent.
"""

import atexit
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
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from headwater.server.processes import HEARTBEAT_SECONDS, HEARTBEAT_VARIABLE, die_with_parent

LENGTH: Final = struct.Struct("!I")
"""Precedes a request: its length in bytes."""
PID: Final = struct.Struct("!I")
"""The first response of a forked process: its id. It begins its work when it receives a byte."""
REQUEST_SECONDS: Final = 60.0
"""Time limit of each step of the exchange with a forked process."""
MAX_DESCRIPTORS: Final = 2
"""Descriptors of a request: the output, and the heartbeat pipe of a watched process."""

_M_TRIM_THRESHOLD: Final = -1
_ORPHAN_POLL_SECONDS: Final = 0.001
_FIELDS_BEFORE_ARGUMENTS: Final = 45
"""Fields of /proc/self/stat between the name of the program and the address of its arguments."""


def main() -> None:
    """Import the modules that are the arguments, and serve until the parent closes the socket."""
    parent = os.getppid()
    import_modules(sys.argv[1:])
    set_title([sys.executable, "-m", "headwater.server.forkserver"])  # without the names of other processes
    serve(parent)


def import_modules(names: Iterable[str]) -> None:
    """Prepare this process for forks. Exits if an import starts a thread, because a fork copies only one thread."""
    gc.disable()  # a collection would write to memory that the processes share
    for name in names:
        importlib.import_module(name)
    check_threads()
    gc.freeze()


def check_threads() -> None:
    """Exit if this process has several threads."""
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        sys.exit(f"the fork server cannot fork, because imports have started {threads - 1} threads")


def serve(parent: int) -> None:
    """Fork for each request on standard input, until it ends. The forked processes become children of `parent`, the
    parent of this process."""
    channel = _fork_for_requests(int(os.environ.pop(HEARTBEAT_VARIABLE, "-1")))
    if channel is not None:
        end(_run, channel, parent)


def _fork_for_requests(heartbeat: int) -> socket.socket | None:
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


def _run(channel: socket.socket, parent: int) -> None:
    """Read the request in a forked process, and run the main function of its module.

    If the module has a function `prepare`, it is called before the process has its variables, and its result is one
    more argument of the main function.
    """
    _wait_for_adoption(parent)
    die_with_parent(parent)
    os.setpgid(0, 0)
    with channel:
        channel.settimeout(REQUEST_SECONDS)
        command, heartbeat = _receive_command(channel)
        _, _, name, *arguments = command
        prepare = getattr(sys.modules.get(name), "prepare", None)
        prepared = () if prepare is None else (prepare(),)
        variables = _receive_variables(channel) | heartbeat
        channel.sendall(PID.pack(os.getpid()))
        if not channel.recv(1):  # the parent does not need the process any more
            return
    set_title(command)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    _configure_malloc(variables)
    gc.enable()
    sys.argv = [name, *arguments]
    importlib.import_module(name).main(*arguments, *prepared)


def end(function: Callable[..., None], *arguments: Any) -> NoReturn:
    """End a forked process after a call of `function`, with the exit status and the output of a program.

    It does not free the objects of all modules, which would copy most of the shared memory.
    """
    status = 1
    try:
        function(*arguments)
        status = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        else:
            status = error.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError, ValueError):  # the reader of the output has ended
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait_for_adoption(parent: int) -> None:
    """Wait until the process in between has ended. End this process if the parent has ended."""
    deadline = time.monotonic() + REQUEST_SECONDS
    while os.getppid() != parent:
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(_ORPHAN_POLL_SECONDS)


def _receive_command(channel: socket.socket) -> tuple[list[str], dict[str, str]]:
    """Return the command of a request, and the variable of its heartbeat pipe if it is watched. Its descriptors have
    then taken their places."""
    head, descriptors, _, _ = socket.recv_fds(channel, LENGTH.size, MAX_DESCRIPTORS)
    command: list[str] = json.loads(_receive_exactly(channel, LENGTH.unpack(head)[0]))
    null = os.open(os.devnull, os.O_RDWR)
    output, *heartbeats = descriptors
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)
    return command, {HEARTBEAT_VARIABLE: str(heartbeats[0])} if heartbeats else {}


def _receive_variables(channel: socket.socket) -> dict[str, str]:
    [length] = LENGTH.unpack(_receive_exactly(channel, LENGTH.size))
    variables: dict[str, str] = json.loads(_receive_exactly(channel, length))
    return variables


def _receive_exactly(channel: socket.socket, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        if not (part := channel.recv(size - len(body))):
            os._exit(1)  # the parent has ended
        body += part
    return bytes(body)


def set_title(command: list[str]) -> None:
    """Show the command in `ps`: overwrite the arguments of this process, within their space."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = map(int, fields[_FIELDS_BEFORE_ARGUMENTS : _FIELDS_BEFORE_ARGUMENTS + 2])
    size = end - start
    if start and size > 0:
        title = b"".join(os.fsencode(argument) + b"\0" for argument in command)
        ctypes.memmove(start, title[: size - 1].ljust(size, b"\0"), size)


def _configure_malloc(variables: dict[str, str]) -> None:
    """Apply the variable of glibc's allocator that the parent sets. The allocator reads it only when a program
    starts."""
    threshold = variables.get("MALLOC_TRIM_THRESHOLD_", "")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and threshold.isdecimal():
        mallopt(_M_TRIM_THRESHOLD, int(threshold))


if __name__ == "__main__":
    main()
