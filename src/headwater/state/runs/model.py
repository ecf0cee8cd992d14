"""Runs: single executions of batch pipelines. Times are microseconds since the epoch.

A run is Queued until a process executes it, then Running, and ends as Succeeded, Failed, Cancelled or Skipped. A
pipeline has at most one run that has not ended. Failed records do not fail a run.
"""

from typing import Final, Literal, get_args

from msgspec import Struct

from headwater.base.steps import ProcessingStep

RunStatus = Literal["Queued", "Running", "Succeeded", "Failed", "Cancelled", "Skipped"]
"""Skipped: the run was due, and could not start; `error` has the reason."""
RunTrigger = Literal["Request", "Schedule"]

ENDED_STATUSES: Final[tuple[RunStatus, ...]] = ("Succeeded", "Failed", "Cancelled", "Skipped")
STEPS: Final[tuple[ProcessingStep, ...]] = get_args(ProcessingStep)
"""The steps in the order of `RunProgress.passed` and `failed`."""
NO_COUNTS: Final = (0,) * len(STEPS)


class RunProgress(Struct, frozen=True, kw_only=True):
    """The progress of a run."""

    passed: tuple[int, ...] = NO_COUNTS
    """Number of records that passed each of `STEPS`."""
    failed: tuple[int, ...] = NO_COUNTS
    """Number of records that failed at each of `STEPS`. At Filter, they were filtered out."""
    unchanged: int = 0
    """Number of profiles that an export did not send, because the destination has them already."""
    rows: int = 0
    """Number of rows, users or profiles that have been read."""
    total_rows: int | None = None
    """Number of rows to read; None if it is not known."""
    bytes: int = 0
    """Number of bytes of the file that have been read, compressed as they are."""
    total_bytes: int | None = None
    """Size of the file; None without a file, or if it is not known."""

    @property
    def percentage(self) -> float | None:
        """The part that has been read, from 0 to 100; None if neither the size nor the number of rows is known."""
        for read, total in ((self.bytes, self.total_bytes), (self.rows, self.total_rows)):
            if total is not None:
                return 100.0 if not total else min(100.0, 100 * read / total)
        return None


class Run(Struct, frozen=True, kw_only=True):
    """One execution of a pipeline."""

    id: int
    workspace: int
    pipeline: int
    connection: int
    trigger: RunTrigger
    is_incremental: bool
    """Whether an import reads only users that changed since the last run. False for exports."""
    is_full: bool = False
    """Whether an export sends profiles that the destination has already. False for imports."""
    due_at: int | None = None
    """The time at which the schedule asks for the run; None for a run by request."""
    status: RunStatus = "Queued"
    is_cancelled: bool = False
    """Whether a cancel was requested. A running run ends within some seconds."""
    fence: int = 0
    """Number of times that a process has taken the run. A write with an earlier fence has no effect."""
    progress: RunProgress = RunProgress()
    error: str = ""
    """The reason of a failure, or why the run was skipped, for people; empty otherwise."""
    error_step: ProcessingStep | None = None
    """The step at which the run failed; None if no step is at fault."""
    created_at: int
    started_at: int | None = None
    ended_at: int | None = None

    @property
    def percentage(self) -> float | None:
        """The part that has been read, from 0 to 100; None if neither the size nor the number of rows is known.

        A run that has succeeded has read everything, also what is no record, such as the names of columns.
        """
        known = self.progress.percentage
        return known if known is None or self.status != "Succeeded" else 100.0

    def rows_per_second(self, now: int) -> float:
        """Return the number of rows per second since the start, up to `now` or the end."""
        if self.started_at is None:
            return 0.0
        seconds = ((now if self.ended_at is None else self.ended_at) - self.started_at) / 1e6
        return self.progress.rows / seconds if seconds > 0 else 0.0


class RunErrorSample(Struct, frozen=True, array_like=True):
    """One record that failed."""

    number: int | None
    """The line of the file, or the number of the row, from 1; None for users of applications and profiles."""
    id: str
    """The id of the record; empty if it has none."""
    path: str
    """The property at fault; empty if no single one is."""


class RunError(Struct, frozen=True, kw_only=True):
    """The records of a run that failed at one step for one reason."""

    run: int
    step: ProcessingStep
    message: str
    count: int
    first_at: int
    last_at: int
    samples: tuple[RunErrorSample, ...] = ()
    """The first records, at most five."""
    digest: int = 0
    """Identifies the message of a stored error."""

    @property
    def cursor(self) -> "RunErrorCursor":
        """The place just after this error in the list of the run's errors."""
        return RunErrorCursor(self.count, STEPS.index(self.step), self.digest)


class RunErrorCursor(Struct, frozen=True, array_like=True):
    """A place in the list of the errors of a run, the most frequent first."""

    count: int
    step: int
    digest: int


class RunCursor(Struct, frozen=True, array_like=True):
    """A place in a list of runs, the newest first: just after the one with this time and id."""

    created_at: int
    id: int


class RunRequest(Struct, frozen=True, kw_only=True):
    """A run to create."""

    workspace: int
    pipeline: int
    connection: int
    is_incremental: bool = False
    is_full: bool = False


class Schedule(Struct, frozen=True):
    """The schedule of a pipeline: it runs at each minute of the day that differs from `start_minute` by a multiple of
    `period_minutes`, in UTC."""

    period_minutes: int
    """A divisor of the minutes of a day."""
    start_minute: int
    """From 0 to 1439."""
    since: int
    """The time since which the schedule is followed."""


class WaitingRuns(Struct, frozen=True):
    """The runs of a workspace that no process executes."""

    workspace: int
    oldest_at: int
    """The time at which the oldest of them was created."""
    running: int
    """Number of its other runs that processes execute."""
