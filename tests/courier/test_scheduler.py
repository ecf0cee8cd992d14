"""The scheduler, in virtual time: who runs next, and how long others wait for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.courier.scheduler import MAX_BATCH_SIZE, LaneState, Scheduler, grow

LIMIT = 2.0


def lanes(*workspaces: int, kind: str = "JavaScript") -> list[LaneState]:
    """One lane for each of these workspaces."""
    return [LaneState(number, workspace, kind) for number, workspace in enumerate(workspaces, 1)]


def test_a_lane_runs_once_at_a_time_and_slots_are_a_bound() -> None:
    scheduler = Scheduler({"JavaScript": 2})
    scheduler.replace(lanes(1, 2, 3))
    running = [scheduler.begin(0.0) for _ in range(3)]
    assert [lane and lane.workspace for lane in running] == [1, 2, None]
    assert running[0] is not None
    scheduler.end(running[0], "JavaScript", 1.0, 1.0)
    third = scheduler.begin(1.0)
    assert third is not None
    assert third.workspace == 3


def test_one_workspace_never_has_all_slots() -> None:
    scheduler = Scheduler({"JavaScript": 2})
    scheduler.replace(lanes(1, 1, 1))
    assert scheduler.begin(0.0) is not None
    assert scheduler.begin(0.0) is None


def test_kinds_have_slots_of_their_own() -> None:
    scheduler = Scheduler({"JavaScript": 1, "Python": 1})
    scheduler.replace([*lanes(1), LaneState(9, 2, "Python")])
    assert {lane.kind for _ in range(2) if (lane := scheduler.begin(0.0))} == {"JavaScript", "Python"}


def test_a_lane_that_is_paused_waits() -> None:
    scheduler = Scheduler({"JavaScript": 1})
    [lane] = lanes(1)
    lane.ready_at = 5.0
    scheduler.replace([lane])
    assert scheduler.begin(4.9) is None
    assert scheduler.begin(5.0) is lane


def test_a_lane_keeps_its_state_and_a_forgotten_one_does_not() -> None:
    scheduler = Scheduler({"JavaScript": 1})
    [lane] = lanes(1)
    lane.ready_at = 5.0
    scheduler.replace([lane])
    scheduler.replace(lanes(1))
    assert scheduler.begin(1.0) is None
    scheduler.forget(lane.pipeline)
    scheduler.replace(lanes(1))
    assert scheduler.begin(1.0) is not None


def test_time_that_was_used_long_ago_counts_little() -> None:
    scheduler = Scheduler({"JavaScript": 1})
    scheduler.replace(lanes(1))
    lane = scheduler.begin(0.0)
    assert lane is not None
    scheduler.end(lane, "JavaScript", 8.0, 0.0)
    assert scheduler.used(1, 0.0) == 8.0
    assert scheduler.used(1, 30.0) == pytest.approx(4.0)
    assert scheduler.used(1, 300.0) < 0.01


@given(
    burning=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    slots=st.integers(1, 4),
    arrivals=st.lists(st.floats(30.0, 150.0), min_size=1, max_size=8),
)
def test_a_workspace_with_a_small_need_waits_for_one_run_of_the_others_at_most(
    burning: list[int], slots: int, arrivals: list[float]
) -> None:
    """Any number of workspaces with any number of endless lanes, each of which has run before."""
    scheduler = Scheduler({"JavaScript": slots})
    endless = lanes(*(workspace for workspace, count in enumerate(burning, 2) for _ in range(count)))
    b = LaneState(1000, 1, "JavaScript")
    ends: list[tuple[float, LaneState]] = []
    due = sorted(arrivals)
    now = 0.0
    while due:
        waiting = due[0] <= now
        scheduler.replace([*endless, *([b] if waiting else [])])
        while (lane := scheduler.begin(now)) is not None:
            if lane.pipeline == b.pipeline:
                assert now - due[0] <= LIMIT + 0.02 * len(arrivals)
                due.pop(0)
                ends.append((now + 0.01, lane))
                scheduler.replace(endless)
            else:
                ends.append((now + LIMIT, lane))
        ends.sort(key=lambda each: each[0])
        upcoming = [ends[0][0]] if ends else []
        if due and due[0] > now:
            upcoming.append(due[0])
        now = min(upcoming)
        while ends and ends[0][0] <= now:
            _, lane = ends.pop(0)
            scheduler.end(lane, "JavaScript", 0.01 if lane.pipeline == b.pipeline else LIMIT, now)


@given(st.lists(st.floats(0.0, LIMIT), max_size=40))
def test_the_size_of_runs_stays_within_its_bounds(seconds: list[float]) -> None:
    [lane] = lanes(1)
    for each in seconds:
        grow(lane, each, LIMIT)
        assert 1 <= lane.batch_size <= MAX_BATCH_SIZE


def test_runs_grow_when_they_are_quick_and_shrink_when_they_are_slow() -> None:
    [lane] = lanes(1)
    size = lane.batch_size
    grow(lane, 0.1, LIMIT)
    assert lane.batch_size == 2 * size
    grow(lane, 1.5, LIMIT)
    grow(lane, 1.5, LIMIT)
    assert lane.batch_size == size // 2


def test_nothing_is_kept_of_runs_that_have_ended() -> None:
    scheduler = Scheduler({"JavaScript": 1})
    scheduler.replace(lanes(1))
    lane = scheduler.begin(0.0)
    assert lane is not None
    scheduler.end(lane, "JavaScript", 1.0, 1.0)
    assert not scheduler._running


@pytest.mark.parametrize("seconds", [60.0, 1e6])
def test_a_clock_that_is_set_back_makes_nobody_wait(seconds: float) -> None:
    scheduler = Scheduler({"JavaScript": 1})
    scheduler.replace(lanes(1))
    lane = scheduler.begin(seconds)
    assert lane is not None
    scheduler.end(lane, "JavaScript", 2.0, seconds)
    assert scheduler.used(1, 0.0) == 2.0
