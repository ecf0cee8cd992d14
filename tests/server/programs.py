"""Programs that tests fork. `main` is called with the name of one."""

import asyncio
import ctypes
import json
import os
import signal
import sys
import time

from headwater.server.forking import ForkServer, fork_fork_server
from headwater.server.processes import HEARTBEAT_VARIABLE, Program


def main(name: str, *arguments: str) -> None:
    globals()[name](*arguments)


def describe() -> None:
    """Print what a process has from its start."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    opened = [int(name) for name in os.listdir("/proc/self/fd")]
    described = {
        "argv": sys.argv,
        "environment": dict(os.environ),
        "getenv": {name: os.fsdecode(getenv(name.encode()) or b"") for name in ("TZ", "PATH", "SECRET", "ODD")},
        "descriptors": sorted(number for number in opened if os.path.exists(f"/proc/self/fd/{number}")),
        "input": os.readlink("/proc/self/fd/0"),
        "group": os.getpgrp(),
        "parent": os.getppid(),
        "hour": time.localtime(0).tm_hour,
        "handler": signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL,
    }
    print(json.dumps(described))


def fork_again() -> None:
    """Be the parent of a fork server, let it fork `describe`, and print its output."""
    running = fork_fork_server(["tests.server.programs"])

    async def describe_fork() -> None:
        forks = ForkServer(running)
        command = (sys.executable, "-m", "tests.server.programs", "describe")
        await forks.launch(Program("fork server", command, {}))
        child = await forks.start(Program("fork", command, {"SECRET": "own"}))
        await child.wait()
        forks.close()

    asyncio.run(describe_fork())


def sleep() -> None:
    print("sleeping", flush=True)
    time.sleep(3600)


def beat() -> None:
    while True:
        os.write(int(os.environ[HEARTBEAT_VARIABLE]), b".")
        time.sleep(0.02)


def exit_with(status: str) -> None:
    sys.exit(int(status))


def refuse() -> None:
    sys.exit("the reason")


def fail() -> None:
    raise RuntimeError("a bug")


def leave_orphan() -> None:
    """End while a child process runs, which ends later."""
    if (pid := os.fork()) == 0:
        time.sleep(0.2)
        os._exit(0)
    print(pid)
