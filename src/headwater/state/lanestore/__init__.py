"""The courier's own state: its progress in each lane, paused lanes, and results that the worker has not applied.

Only the courier writes it; the worker and the backends read it. On SQLite it has its own file: a file has one writer at
a time, and the courier must not wait for the worker's transactions.
"""

from headwater.state.lanestore.store import AnotherCourier, LaneProgress, LaneStore, StoredResult, open_lane_store

__all__ = ["AnotherCourier", "LaneProgress", "LaneStore", "StoredResult", "open_lane_store"]
