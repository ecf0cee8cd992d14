"""The delivery queue: events that wait for destinations, dead letters, and past attempts.

On SQLite it has its own file, `delivery.db`: a backlog must not bloat the other files, and the courier must not wait
for the worker's transactions. On PostgreSQL it is the schema `delivery`.
"""

from headwater.state.deliveries.chunks import (
    ITEM_BITS,
    ChunkHead,
    ChunkItem,
    NewChunk,
    NewDeliveries,
    QueuedChunk,
    QueuedEvent,
    Wanted,
)
from headwater.state.deliveries.contract import CourierReplaced, DeliveryStore
from headwater.state.deliveries.packing import pack
from headwater.state.deliveries.records import (
    EXPIRED,
    NO_SPACE,
    AttemptRecord,
    ChunkProgress,
    DeadCount,
    DeadCursor,
    DeadLetter,
    DeadPage,
    DeadRange,
    DeadSelection,
    DeliveryErasure,
    ErasedDeliveries,
    Expired,
    LaneHealth,
    LaneSummary,
    OperationProgress,
    Owners,
    TracedDelivery,
)
from headwater.state.deliveries.store import open_delivery_store

__all__ = [
    "EXPIRED",
    "ITEM_BITS",
    "NO_SPACE",
    "AttemptRecord",
    "ChunkHead",
    "ChunkItem",
    "ChunkProgress",
    "CourierReplaced",
    "DeadCount",
    "DeadCursor",
    "DeadLetter",
    "DeadPage",
    "DeadRange",
    "DeadSelection",
    "DeliveryErasure",
    "DeliveryStore",
    "ErasedDeliveries",
    "Expired",
    "LaneHealth",
    "LaneSummary",
    "NewChunk",
    "NewDeliveries",
    "OperationProgress",
    "Owners",
    "QueuedChunk",
    "QueuedEvent",
    "TracedDelivery",
    "Wanted",
    "open_delivery_store",
    "pack",
]
