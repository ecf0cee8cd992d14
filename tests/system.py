"""The whole system, started as an operator starts it: `headwater serve`, real Envoy, real processes, a free port."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

READY_TIMEOUT_SECONDS = 90.0
MIN_POLL_SECONDS: Final = 0.02
MAX_POLL_SECONDS: Final = 0.25
HTTP = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
"""One client for all calls, because creating one loads all certificates; without connections that a restart would
break."""

_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT: Final = 10_000
_HIGHEST_PORT: Final = 60_000
_given: Final[set[int]] = set()


def free_port() -> int:
    """Return a free port that no other caller gets.

    It is outside the range that the kernel assigns, to connections above all. Processes of one test run (pytest-xdist)
    divide the other ports among them, and each port is returned once.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    step = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ephemeral = int(_EPHEMERAL.read_text().split()[0])
    # If nearly all ports are in the kernel's range, only chance avoids collisions.
    end = ephemeral if ephemeral > 2 * _LOWEST_PORT else _HIGHEST_PORT
    while True:
        port = random.SystemRandom().randrange(_LOWEST_PORT + number, end, step)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class SystemProcess(Protocol):
    """The members of `subprocess.Popen` that tests use."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | Any: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class RunningSystem:
    """A server that takes traffic."""

    base_url: str
    port: int
    api_key: str
    data_dir: Path
    process: SystemProcess
    output: str
    """The text that it printed when it was ready."""
    variables: Mapping[str, str]
    """The environment variables with which it was started."""

    @property
    def authorization(self) -> dict[str, str]:
        """The header of management calls."""
        return {"authorization": f"Bearer {self.api_key}"}

    @property
    def errors(self) -> str:
        """Return the standard error of the server and its children."""
        return (self.data_dir / "stderr.txt").read_text()

    def children(self) -> dict[str, int]:
        """Return the process ids of its living children by name."""
        return children(self.process.pid)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


HEADWATER: Final = (sys.executable, "-m", "headwater.cli")
"""The command `headwater` of the environment that runs the tests."""


PREPARED: Final = ("HEADWATER_",)
"""Beginnings of the variables with which a system can be forked. Other ones have an effect when a program starts."""


def serve(
    data_dir: Path, port: int, *, headwater: Sequence[str | Path] | None = None, **variables: str
) -> SystemProcess:
    """Start `headwater serve` without waiting. Its output goes to files in the data directory, which is created.

    With `headwater` a command line starts it. Without it, it is forked from a process with all imports, and an empty
    data directory gets its databases (`tests.forked`, `tests.sqlite`).
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    own = {"HEADWATER_DATA_DIR": str(data_dir), "HEADWATER_PORT": str(port), **variables}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HEADWATER_") and name != "DATABASE_URL"
    }
    with (data_dir / "stdout.txt").open("ab") as output, (data_dir / "stderr.txt").open("ab") as errors:
        if headwater is None and all(name.startswith(PREPARED) for name in variables):
            from tests import forked, sqlite  # processes that start no system import less

            if data_dir == Path(own["HEADWATER_DATA_DIR"]) and "HEADWATER_DATABASE_URL" not in own:
                sqlite.fill(data_dir)
            return forked.fork_system({**inherited, **own}, output.fileno(), errors.fileno())
        return subprocess.Popen(
            [*(headwater or HEADWATER), "serve"],
            env={**inherited, **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )


def start(
    data_dir: Path, port: int | None = None, *, headwater: Sequence[str | Path] | None = None, **variables: str
) -> RunningSystem:
    """Start `headwater serve` and wait until it states that it is ready."""
    port = port or free_port()
    printed = data_dir / "stdout.txt"
    before = len(printed.read_text()) if printed.exists() else 0
    process = serve(data_dir, port, headwater=headwater, **variables)
    base_url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, f"the server ended: {(data_dir / 'stderr.txt').read_text()}"
        return "Headwater is ready" in printed.read_text()[before:]

    try:
        wait_until(ready, READY_TIMEOUT_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise
    api_key = variables.get("HEADWATER_API_KEY") or (data_dir / "api-key").read_text().strip()
    return RunningSystem(base_url, port, api_key, data_dir, process, printed.read_text()[before:], variables)


FORK_SERVER: Final = "\0headwater.server.forkserver"
"""Part of the command line of the fork server."""


def fork_server(parent: int) -> int | None:
    """Return the process id of the fork server of a supervisor; None while there is none."""
    for pid in child_ids(parent):
        with suppress(FileNotFoundError, ProcessLookupError):
            if FORK_SERVER in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
    return None


def children(parent: int) -> dict[str, int]:
    """Return the living children of a supervisor, except for its fork server: process ids by name ("envoy", "backend",
    "backend-2", "worker")."""
    found = {}
    for pid in child_ids(parent):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command and FORK_SERVER not in command:
            is_python = "\0headwater.server." in command  # then the last argument is the name of the process
            found[re.split("[\0.]", command)[-1] if is_python else "envoy"] = pid
    return found


def command_line(pid: int) -> list[str]:
    """Return the command of a process as `ps` shows it."""
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def holds(pid: int, text: bytes) -> bool:
    """Return whether the memory of a process contains a text, also as a remainder that was freed."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            addresses, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                memory.seek(start)
                with suppress(OSError):  # not mapped any more
                    if text in memory.read(end - start):
                        return True
    return False


def child_ids(parent: int) -> list[int]:
    """Return the process ids of the living children of a process, started by any of its threads.

    Raises FileNotFoundError when the process itself has ended.
    """
    found: list[int] = []
    for task in os.listdir(f"/proc/{parent}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
    return found


def is_healthy(base_url: str) -> bool:
    """Return whether the system reports that it is healthy."""
    try:
        return HTTP.get(f"{base_url}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> float:
    """Poll until the condition holds; return the seconds that it took. Fails after `timeout_seconds`.

    The interval grows with the time that has passed: a condition is mostly a call of the system under test, and polls
    must not take the processor from the processes that are waited for.
    """
    began = time.monotonic()
    while not condition():
        passed = time.monotonic() - began
        assert passed < timeout_seconds, f"not within {timeout_seconds} s"
        time.sleep(min(max(passed / 10, MIN_POLL_SECONDS), MAX_POLL_SECONDS))
    return time.monotonic() - began
