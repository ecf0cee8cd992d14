"""Processor time of the processes of a running system: the cost of a figure, whatever other load the machine has."""

import os
from pathlib import Path

from tests.system import children, fork_server

NAMES = ("bench.echo", "envoy", "backend", "worker", "courier")
_TICKS: int = os.sysconf("SC_CLK_TCK")


def seconds_by_process(parent: int) -> dict[str, float]:
    """Return the user and system seconds of the children of a process. Processes of one name are added up."""
    spent: dict[str, float] = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        name = process_kind(pid)
        if name == "other":
            continue
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        spent[name] = spent.get(name, 0.0) + (int(user) + int(system)) / _TICKS
    return spent


def tree_seconds(supervisor: int) -> dict[int, tuple[str, float]]:
    """Return the name and the processor seconds of each process of a system, by process id."""
    fork = fork_server(supervisor)
    names = {supervisor: "supervisor", **({} if fork is None else {fork: "fork server"})}
    names |= {pid: name for name, pid in children(supervisor).items()}
    return {pid: (name, _seconds(pid)) for pid, name in names.items()}


def _seconds(pid: int) -> float:
    """Return the time of all threads of a process, to the nanosecond: /proc/PID/stat counts hundredths."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def process_kind(pid: str) -> str:
    """Return the kind of a process: "envoy", "backend", "worker", "courier", "bench.echo" or "other"."""
    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return next((name for name in NAMES if name in command), "other")
