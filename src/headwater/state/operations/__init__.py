"""Operations: long-running actions with progress and cancel, such as replays and identity resolutions.

Backends create them, and the courier or the worker executes them in steps, depending on their kind. A lease gives an
operation to one process at a time; if the process stops, another one continues where the last step ended. On SQLite
they have their own file, because its writers are other processes than those of the other files.
"""

from headwater.state.operations.model import (
    DELIVERY_KINDS,
    ERASURE_KINDS,
    NO_SEPARATION,
    PROFILE_KINDS,
    RESOLUTION_KINDS,
    ErasedStore,
    ErasureParameters,
    ErasureReceipt,
    IdentityResolutionParameters,
    Operation,
    OperationCursor,
    OperationKind,
    OperationParameters,
    OperationStatus,
    ProfileSchemaUpdateParameters,
    RemoveSeparationParameters,
    ReplayParameters,
    ResendParameters,
    SplitIdentity,
    SplitParameters,
    SplitResult,
    decode_receipt,
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
    "DELIVERY_KINDS",
    "ERASURE_KINDS",
    "LEASE_SECONDS",
    "MAX_KEPT",
    "MAX_UNFINISHED",
    "NO_SEPARATION",
    "PROFILE_KINDS",
    "RESOLUTION_KINDS",
    "ErasedStore",
    "ErasureParameters",
    "ErasureReceipt",
    "IdentityResolutionParameters",
    "Operation",
    "OperationCursor",
    "OperationKind",
    "OperationLost",
    "OperationParameters",
    "OperationStatus",
    "OperationStore",
    "ProfileSchemaUpdateParameters",
    "RemoveSeparationParameters",
    "ReplayParameters",
    "ResendParameters",
    "SplitIdentity",
    "SplitParameters",
    "SplitResult",
    "decode_receipt",
    "open_operations",
]
