"""The status of the lane of a pipeline, for users."""

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.catalog import Pipeline
from headwater.processing.lanes import definition_digest
from headwater.state import StateStore
from headwater.state.lanestore import LaneStore


class LaneStatus(Struct, frozen=True):
    """The entries that wait in a lane, and whether it is paused. Times are microseconds since the epoch."""

    waiting: int = 0
    """Number of waiting entries."""
    bytes: int = 0
    """Compressed size of the waiting entries."""
    oldest_at: int | None = None
    """Time at which the oldest was appended; None if none waits."""
    paused_until: int | None = None
    """Time at which one record is retried; None if the lane is not paused."""
    reason: str = ""
    """The limit that the function reached; empty unless paused."""


async def lane_status(pipeline: Pipeline, state: StateStore, store: LaneStore, clock: Clock) -> LaneStatus:
    """Return the status of a pipeline's lane. Raises Unavailable while a database is unavailable."""
    lane = next((lane for lane in await state.lanes() if lane.pipeline == pipeline.id), None)
    if lane is None:
        return LaneStatus()
    oldest_at = await state.oldest_in_lane(pipeline.id)
    progress = (await store.progress(pipeline.id)).get(pipeline.id)
    if (
        progress is None
        or progress.paused_until <= microseconds(clock.now())
        or progress.definition != definition_digest(pipeline.definition)
    ):
        return LaneStatus(lane.entries, lane.bytes, oldest_at)
    return LaneStatus(lane.entries, lane.bytes, oldest_at, progress.paused_until, progress.reason)
