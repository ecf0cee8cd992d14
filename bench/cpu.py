"""Processor time of the processes of a running system: the cost of a figure, whatever other load the machine has."""

import os
from pathlib import Path

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


def process_kind(pid: str) -> str:
    """Return the kind of a process: "envoy", "backend", "worker", "courier", "bench.echo" or "other"."""
    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return next((name for name in NAMES if name in command), "other")
