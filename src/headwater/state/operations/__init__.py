"""Operations: long-running actions with progress and cancel, such as re-sends and replays.

Backends create them, and the courier executes them in steps. A lease gives an operation to one process at a time; if
the process stops, another one continues where the last step ended. On SQLite they have their own file, because its
writers are other processes than those of the other files.
"""

from headwater.state.operations.model import (
    Operation,
    OperationCursor,
    OperationKind,
    OperationParameters,
    OperationStatus,
    ReplayParameters,
    ResendParameters,
)
from headwater.state.operations.store import (
    LEASE_SECONDS,
    MAX_KEPT,
    MAX_UNFINISHED,
    OperationLost,
    OperationStore,
    open_operations,
)

__all__ = [
    "LEASE_SECONDS",
    "MAX_KEPT",
    "MAX_UNFINISHED",
    "Operation",
    "OperationCursor",
    "OperationKind",
    "OperationLost",
    "OperationParameters",
    "OperationStatus",
    "OperationStore",
    "ReplayParameters",
    "ResendParameters",
    "open_operations",
]
