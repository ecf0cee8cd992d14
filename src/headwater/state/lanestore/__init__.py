"""The courier's own state: how far it has come in each lane, which lanes are paused, and results to be applied.

The courier is the only writer, the worker and the backends read. On SQLite it is a file of its own, because a file has
one writer at a time and the courier must not wait for the worker's transactions.
"""

from headwater.state.lanestore.store import AnotherCourier, LaneProgress, LaneStore, StoredResult, open_lane_store

__all__ = ["AnotherCourier", "LaneProgress", "LaneStore", "StoredResult", "open_lane_store"]
