"""Runs the lane core in virtual time, with faults: see `simulation` for the invariants.

HEADWATER_SIMULATION_SEEDS sets the number of runs. A failure prints one command that replays it.
"""

import os
from typing import Final

import pytest
from msgspec.structs import replace

from tests.delivery.simulation.bugs import BUGS, RARE
from tests.delivery.simulation.failing import find, run, shrink
from tests.delivery.simulation.plan import DestinationPlan, Fault, Plan, draw
from tests.delivery.simulation.simulation import Simulation

SEEDS: Final = int(os.environ.get("HEADWATER_SIMULATION_SEEDS", "150"))
BLOCKS: Final = 8
"""Parts of the seeds, which can run in several processes."""
FOUND: Final = (16, 552, 1672)
"""Seeds of runs that have failed before."""
MAX_SEEDS_OF_A_BUG: Final = 2_000


@pytest.mark.parametrize("block", range(BLOCKS))
def test_the_invariants_hold(block: int) -> None:
    finding = find(range(block, SEEDS, BLOCKS))
    assert finding is None, str(shrink(finding))


def test_the_invariants_hold_where_they_did_not_before() -> None:
    finding = find(FOUND)
    assert finding is None, str(shrink(finding))


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[name](monkeypatch)
    assert find(range(RARE.get(name, 0), MAX_SEEDS_OF_A_BUG)) is not None


def test_a_failing_plan_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS["drops_a_commit_on_a_full_disk"](monkeypatch)
    finding = find(range(RARE["drops_a_commit_on_a_full_disk"], MAX_SEEDS_OF_A_BUG))
    assert finding is not None
    small = shrink(finding)
    assert small.plan.has("DiskFull")
    assert len(small.plan.faults) < len(finding.plan.faults)
    assert run(small.seed, small.plan) == small.violation
    assert f"SEED={small.seed} PLAN='{{" in str(small)


def test_a_seed_is_one_run() -> None:
    for seed in range(10):
        first, second = (Simulation(seed, draw(seed)) for _ in range(2))
        first.run()
        second.run()
        assert first.traces == second.traces


def test_a_sick_destination_changes_no_decision_of_another() -> None:
    for seed in range(max(SEEDS // 20, 20)):
        sick = _for_isolation(draw(seed))
        healthy = _cure_others(sick)
        traces = []
        for plan in (sick, healthy):
            simulation = Simulation(seed, plan)
            simulation.run()
            traces.append(simulation.traces[0])
        assert traces[0] == traces[1], seed


def _for_isolation(plan: Plan) -> Plan:
    """Return a plan with two destinations or more, without what they have in common: processes and rates."""
    others = plan.destinations[1:] or (DestinationPlan("Hanging", share=0.8),)
    shared = ("ClockJump", "DiskFull", "Edit", "Outage")
    return replace(
        plan,
        destinations=(plan.destinations[0], *(replace(each, account=-1) for each in others)),
        faults=(*(fault for fault in plan.faults if fault.kind in shared), Fault("Outage", 50.0, 600.0, 1)),
    )


def _cure_others(plan: Plan) -> Plan:
    return replace(
        plan,
        destinations=(plan.destinations[0], *(replace(each, behaviour="Healthy") for each in plan.destinations[1:])),
        faults=tuple([fault for fault in plan.faults if fault.kind != "Outage" or not fault.target]),
    )
