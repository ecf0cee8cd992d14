"""Runs of batch pipelines: imports and exports, with a lease, progress and errors.

Backends and the scheduler create runs, and run processes execute them. On SQLite they have their own file, because its
writers are other processes than those of the other files.
"""

from headwater.state.runs.errors import MAX_ERRORS
from headwater.state.runs.model import (
    ENDED_STATUSES,
    STEPS,
    Run,
    RunCursor,
    RunError,
    RunErrorCursor,
    RunErrorSample,
    RunProgress,
    RunRequest,
    RunStatus,
    RunTrigger,
    Schedule,
    WaitingRuns,
)
from headwater.state.runs.store import (
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    MAX_KEPT,
    RUNNING,
    RunLost,
    RunStore,
    open_runs,
)

__all__ = [
    "ENDED_STATUSES",
    "LEASE_SECONDS",
    "MAX_ATTEMPTS",
    "MAX_ERRORS",
    "MAX_KEPT",
    "RUNNING",
    "STEPS",
    "Run",
    "RunCursor",
    "RunError",
    "RunErrorCursor",
    "RunErrorSample",
    "RunLost",
    "RunProgress",
    "RunRequest",
    "RunStatus",
    "RunStore",
    "RunTrigger",
    "Schedule",
    "WaitingRuns",
    "open_runs",
]
