"""Runs of batch pipelines: imports and exports, with a lease, progress and errors.

Backends and the scheduler create runs, and run processes execute them. On SQLite they have their own file, because its
writers are other processes than those of the other files.
"""

from headwater.state.runs.model import (
    ENDED_STATUSES,
    STEPS,
    Run,
    RunCursor,
    RunError,
    RunErrorSample,
    RunProgress,
    RunStatus,
    RunTrigger,
)

__all__ = [
    "ENDED_STATUSES",
    "STEPS",
    "Run",
    "RunCursor",
    "RunError",
    "RunErrorSample",
    "RunProgress",
    "RunStatus",
    "RunTrigger",
]
