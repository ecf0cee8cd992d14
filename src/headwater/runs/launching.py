"""Decides which run starts next: workspaces take turns, and none takes all the processes of a machine."""

from collections.abc import Iterable, Mapping

from headwater.state.runs import WaitingRuns


def choose_workspace(
    waiting: Iterable[WaitingRuns], *, free: int, places: int, is_alone: bool, turns: Mapping[int, int]
) -> int | None:
    """Return the workspace whose oldest waiting run starts next; None if none may start.

    `free` of the `places` for run processes are free, and `turns` are numbers that grow with the last start of each
    workspace. A workspace with running runs does not take the last of several places, unless it is the only workspace.
    """
    if free < 1:
        return None
    keeps_one = places > 1 and free == 1 and not is_alone
    candidates = [each for each in waiting if not (keeps_one and each.running)]
    if not candidates:
        return None
    return min(candidates, key=lambda each: (each.running, turns.get(each.workspace, 0), each.oldest_at)).workspace
