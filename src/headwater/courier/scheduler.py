"""Decides which lane runs next. Pure: it has no clock and starts nothing.

Workspaces share the slots by the time that they used recently: the lane of the workspace that used least comes first.
So a workspace with a small need never waits for more than one run of another workspace.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

HALF_LIFE_SECONDS: Final = 30.0
"""Time after which half of the used time of a workspace is forgotten."""
MIN_RUN_SECONDS: Final = 0.002
"""Minimum duration that a run is charged, because starting one has a cost."""
INITIAL_BATCH_SIZE: Final = 16
MAX_BATCH_SIZE: Final = 256


class LaneState(Struct, eq=False):
    """A lane that has entries, for the scheduler."""

    pipeline: int
    workspace: int
    kind: str
    """The kind of program that runs its transformation. Slots are counted by kind."""
    ready_at: float = 0.0
    """The time at which it may run again, in seconds of the caller's clock."""
    batch_size: int = INITIAL_BATCH_SIZE
    """Records of the next run."""
    limits: int = 0
    """Consecutive runs that reached a limit."""
    last_run: int = 0
    """The number of its last run."""
    is_running: bool = False


class Scheduler:
    """Slots of each kind, shared by workspaces."""

    def __init__(self, slots: Mapping[str, int]) -> None:
        self._slots = dict(slots)
        self._lanes: dict[int, LaneState] = {}
        self._running: Counter[tuple[str, int]] = Counter()
        """Current runs by kind and workspace."""
        self._used: dict[int, tuple[float, float]] = {}
        """The seconds that each workspace has used, and the time of that calculation."""
        self._runs = 0

    def replace(self, lanes: Iterable[LaneState]) -> None:
        """Set the lanes that may run. A lane that is known keeps its state."""
        known = self._lanes
        self._lanes = {}
        for lane in lanes:
            old = known.get(lane.pipeline)
            if old is not None:
                old.kind = lane.kind
            self._lanes[lane.pipeline] = old or lane

    def reset(self) -> None:
        """Forget all lanes and runs. The used time of workspaces stays."""
        self._lanes.clear()
        self._running.clear()

    def forget(self, pipeline: int) -> None:
        """Forget the state of a lane: it may run immediately, as a new lane."""
        if (lane := self._lanes.get(pipeline)) is not None and not lane.is_running:
            del self._lanes[pipeline]

    def begin(self, now: float) -> LaneState | None:
        """Return the lane that runs next and take its slot; None if none can run now."""
        taken = Counter[str]()
        for (kind, _), count in self._running.items():
            taken[kind] += count
        ready = [
            lane
            for lane in self._lanes.values()
            if not lane.is_running
            and lane.ready_at <= now
            and taken[lane.kind] < self._slots[lane.kind]
            and self._running[lane.kind, lane.workspace] < self._share(lane.kind)
        ]
        if not ready:
            return None
        lane = min(ready, key=lambda each: (self.used(each.workspace, now), each.last_run))
        self._runs += 1
        lane.last_run, lane.is_running = self._runs, True
        self._running[lane.kind, lane.workspace] += 1
        return lane

    def end(self, lane: LaneState, kind: str, seconds: float, now: float) -> None:
        """Release the slot of the `kind` that the lane had, and charge its workspace for the time."""
        lane.is_running = False
        self._running[kind, lane.workspace] -= 1
        if not self._running[kind, lane.workspace]:  # there may be many workspaces
            del self._running[kind, lane.workspace]
        used = self.used(lane.workspace, now) + max(seconds, MIN_RUN_SECONDS)
        self._used[lane.workspace] = used, now
        if len(self._used) > _MAX_REMEMBERED:
            self._used = {each: kept for each, kept in self._used.items() if self.used(each, now) > MIN_RUN_SECONDS}

    def used(self, workspace: int, now: float) -> float:
        """Return the seconds that a workspace has used recently."""
        seconds, at = self._used.get(workspace, (0.0, now))
        return seconds * math.exp2(min(at - now, 0.0) / HALF_LIFE_SECONDS)  # a clock may be set back

    def _share(self, kind: str) -> int:
        """Return the slots of a kind that one workspace may hold: not all of them, unless there is only one."""
        return max(1, self._slots[kind] - 1)


_MAX_REMEMBERED: Final = 10_000


def grow(lane: LaneState, seconds: float, limit: float) -> None:
    """Increase the records of the next run after a quick run, and reduce them after one that used much of its limit."""
    if seconds < limit / 8:
        lane.batch_size = min(2 * lane.batch_size, MAX_BATCH_SIZE)
    elif seconds > limit / 2:
        lane.batch_size = max(lane.batch_size // 2, 1)
