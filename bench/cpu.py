"""Processor time of the processes of a running system: what a figure costs whoever else loads the machine meanwhile."""

import os
from pathlib import Path

NAMES = ("bench.echo", "envoy", "backend", "worker")
_TICKS: int = os.sysconf("SC_CLK_TCK")


def seconds_by_process(parent: int) -> dict[str, float]:
    """User and system seconds of the children of a process so far; of several with one name the sum."""
    spent: dict[str, float] = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        name = name_of(pid)
        if name == "other":
            continue
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        spent[name] = spent.get(name, 0.0) + (int(user) + int(system)) / _TICKS
    return spent


def name_of(pid: str) -> str:
    """What a process is: "envoy", "backend", "worker", "echo" or something else."""
    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return next((name for name in NAMES if name in command), "other")
