"""Finds failing runs, makes their plans small, and prints the command that replays them."""

import os
import shlex
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from tests.delivery.simulation.plan import Fault, Plan, draw
from tests.delivery.simulation.simulation import Simulation
from tests.delivery.simulation.world import Violation

MAX_SHRINKING_RUNS: Final = 200


class Finding(msgspec.Struct, frozen=True):
    """A run in which an invariant does not hold."""

    seed: int
    plan: Plan
    violation: str

    def __str__(self) -> str:
        plan = shlex.quote(msgspec.json.encode(self.plan).decode())
        return f"{self.violation}\nSEED={self.seed} PLAN={plan} .venv/bin/python -m tests.delivery.simulation"


def find(seeds: Iterable[int]) -> Finding | None:
    """Return the first run that fails."""
    for seed in seeds:
        plan = draw(seed)
        if (violation := run(seed, plan)) is not None:
            return Finding(seed, plan, violation)
    return None


def run(seed: int, plan: Plan) -> str | None:
    """Return the violation of a run, or None."""
    try:
        Simulation(seed, plan).run()
    except Violation as violation:
        return str(violation)
    return None


def shrink(finding: Finding) -> Finding:
    """Leave out the faults, destinations and events that the failure does not need."""
    runs = 0
    smaller = _smaller(finding.plan)
    while runs < MAX_SHRINKING_RUNS and (plan := next(smaller, None)) is not None:
        runs += 1
        if (violation := run(finding.seed, plan)) is not None:
            finding = Finding(finding.seed, plan, violation)
            smaller = _smaller(plan)
    return finding


def _smaller(plan: Plan) -> Iterator[Plan]:
    for index in range(len(plan.faults)):
        yield replace(plan, faults=plan.faults[:index] + plan.faults[index + 1 :])
    if len(plan.destinations) > 1:  # faults name the others by their numbers
        yield replace(plan, destinations=plan.destinations[:-1], faults=_without(plan, len(plan.destinations) - 1))
    if plan.events > 1:
        yield replace(plan, events=plan.events // 2)


def _without(plan: Plan, destination: int) -> tuple[Fault, ...]:
    return tuple([fault for fault in plan.faults if fault.target != destination])


def replay() -> Finding | None:
    """Run the seed and the plan of the environment. Without a plan, it is that of the seed."""
    seed = int(os.environ["SEED"])
    plan = msgspec.json.decode(os.environ["PLAN"], type=Plan) if "PLAN" in os.environ else draw(seed)
    violation = run(seed, plan)
    return None if violation is None else Finding(seed, plan, violation)
