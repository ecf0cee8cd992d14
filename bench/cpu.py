"""Processor time of the processes of a running system, which depends little on the load of the machine."""

import os
from pathlib import Path

NAMES = ("bench.echo", "envoy", "backend", "worker")
_TICKS: int = os.sysconf("SC_CLK_TCK")


def seconds_by_process(parent: int) -> dict[str, float]:
    """Return the user and system seconds of the children of a process so far, as the sum of those with the same
    name."""
    spent: dict[str, float] = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        name = read_name(pid)
        if name == "other":
            continue
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        spent[name] = spent.get(name, 0.0) + (int(user) + int(system)) / _TICKS
    return spent


def read_name(pid: str) -> str:
    """Return the name of a process: "envoy", "backend", "worker", "echo" or another."""
    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return next((name for name in NAMES if name in command), "other")
