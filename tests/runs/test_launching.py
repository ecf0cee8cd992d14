"""Turns of workspaces."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headwater.runs.launching import choose_workspace
from headwater.state.runs import WaitingRuns


def simulate(queued: dict[int, int], places: int, starts: int) -> list[int]:
    """Return the workspaces of the first starts. Of the running runs, the oldest ends when none may start."""
    queued, running, order = dict(queued), list[int](), list[int]()
    turns: dict[int, int] = {}
    while len(order) < starts and any(queued.values()):
        counts = Counter(running)
        waiting = [WaitingRuns(each, each, counts[each]) for each, left in queued.items() if left]
        free = places - len(running)
        chosen = choose_workspace(waiting, free=free, places=places, is_alone=len(queued) < 2, turns=turns)
        if chosen is None:
            assert running, "nothing runs, and nothing starts"
            running.pop(0)
            continue
        turns[chosen] = len(order) + 1
        queued[chosen] -= 1
        running.append(chosen)
        order.append(chosen)
    return order


def test_workspaces_take_turns() -> None:
    assert simulate({1: 9, 2: 2, 3: 1}, 1, 6) == [1, 2, 3, 1, 2, 1]
    assert Counter(simulate({1: 9, 2: 9}, 4, 8)) == {1: 4, 2: 4}


def test_a_workspace_leaves_a_place_to_others() -> None:
    waiting = [WaitingRuns(1, 0, 3)]
    for free, places, is_alone, expected in (
        (0, 4, False, None),
        (1, 4, False, None),
        (1, 4, True, 1),
        (2, 4, False, 1),
        (1, 1, False, 1),
    ):
        assert choose_workspace(waiting, free=free, places=places, is_alone=is_alone, turns={}) == expected
    others = [*waiting, WaitingRuns(2, 9, 0)]
    assert choose_workspace(others, free=1, places=4, is_alone=False, turns={}) == 2


@given(st.dictionaries(st.integers(1, 6), st.integers(1, 30), min_size=1), st.integers(1, 6))
def test_every_run_starts_and_no_workspace_waits_for_all_runs_of_another(queued: dict[int, int], places: int) -> None:
    order = simulate(queued, places, sum(queued.values()))
    assert Counter(order) == queued
    for workspace in queued:
        assert order.index(workspace) <= (len(queued) - 1) + places
