"""The job of a run process: the run, its pipeline, and everything that an import or an export uses.

An import or an export is a coroutine `execute(job)`. It returns when the run has succeeded, and raises `RunFailed` when
the run as a whole cannot continue. It does blocking work in threads, and calls `job.report.check()` at least once a
second: a cancel raises `RunCancelled` there.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from headwater.base.clock import Clock
from headwater.base.steps import ProcessingStep
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.connectors.connector import Connector
from headwater.connectors.environment import ConnectorEnvironment
from headwater.state import StateStore
from headwater.state.runs import STEPS, Run, RunErrorSample, RunProgress
from headwater.transforms.functions import Runner

MAX_MESSAGES: Final = 1_000
"""Maximum number of different errors of a run; the records of further ones are counted only."""
MAX_SAMPLES: Final = 5
"""Number of records that are kept of each error."""

NO_PROGRESS: Final = RunProgress()
_INDEX: Final[Mapping[ProcessingStep, int]] = {step: index for index, step in enumerate(STEPS)}


class RunFailed(Exception):
    """The run cannot continue. `message` is for people; `step` is None if no step is at fault."""

    def __init__(self, step: ProcessingStep | None, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.step = step


class RunCancelled(Exception):
    """A cancel was requested, or another process has taken the run."""


class ErrorSummary(Struct):
    """The records that failed at one step for one reason since the last call of `take`."""

    count: int = 0
    samples: list[RunErrorSample] = []


class Report:
    """Collects the progress and the errors of a run. Its methods may be called from any thread.

    The run process stores it at least once a second. An import commits `progress` with its data.
    """

    def __init__(self, progress: RunProgress = NO_PROGRESS) -> None:
        self._lock = threading.Lock()
        self._progress = progress
        self._passed = list(progress.passed)
        self._failed = list(progress.failed)
        self._errors: dict[tuple[ProcessingStep, str], ErrorSummary] = {}
        self._messages: set[tuple[ProcessingStep, str]] = set()
        self._is_cancelled = False
        self._continues = False
        self._restarts = 0

    @property
    def restarts(self) -> int:
        """Number of times that the source was read from its start again."""
        return self._restarts

    @property
    def progress(self) -> RunProgress:
        """The progress up to here."""
        with self._lock:
            return replace(self._progress, passed=tuple(self._passed), failed=tuple(self._failed))

    def passed(self, step: ProcessingStep, count: int = 1) -> None:
        """Count records that passed a step."""
        with self._lock:
            self._passed[_INDEX[step]] += count

    def filtered(self, count: int = 1) -> None:
        """Count records that the filter leaves out."""
        with self._lock:
            self._failed[_INDEX["Filter"]] += count

    def failed(
        self,
        step: ProcessingStep,
        message: str,
        *,
        number: int | None = None,
        id: str = "",
        path: str = "",
        count: int = 1,
    ) -> None:
        """Count a record that failed at a step. `message` has no values of the record, so that equal errors are one.

        A `count` above 1 is that of records that failed together; the sample is the first of them.
        """
        with self._lock:
            self._failed[_INDEX[step]] += count
        self.explain(step, message, number=number, id=id, path=path, count=count)

    def explain(
        self,
        step: ProcessingStep,
        message: str,
        *,
        number: int | None = None,
        id: str = "",
        path: str = "",
        count: int = 1,
    ) -> None:
        """Add records to the errors as `failed` does, without counting them as failed: `commit` has counted them."""
        key = (step, message)
        with self._lock:
            if key not in self._messages and len(self._messages) >= MAX_MESSAGES:
                return
            self._messages.add(key)
            summary = self._errors.setdefault(key, ErrorSummary())
            summary.count += count
            if len(summary.samples) < MAX_SAMPLES:
                summary.samples.append(RunErrorSample(number, id[:200], path))

    def note(self, step: ProcessingStep, message: str) -> None:
        """Add an error that is of no record: its count is 0."""
        with self._lock:
            self._messages.add((step, message))
            self._errors.setdefault((step, message), ErrorSummary())

    def commit(self, progress: RunProgress) -> None:
        """Set the progress to what was committed with the data. Totals that are known stay."""
        with self._lock:
            rows, bytes = self._progress.total_rows, self._progress.total_bytes
            self._passed, self._failed = list(progress.passed), list(progress.failed)
            self._progress = replace(
                progress,
                total_rows=progress.total_rows if rows is None else rows,
                total_bytes=progress.total_bytes if bytes is None else bytes,
            )

    def restart(self) -> None:
        """Set all counts to 0, and forget the errors: the source is read from its start again."""
        self.commit(NO_PROGRESS)
        with self._lock:
            self._errors, self._messages = {}, set()
            self._restarts += 1

    def read(self, *, rows: int = 0, bytes: int | None = None) -> None:
        """Count rows, and set the number of bytes of the file that have been read."""
        with self._lock:
            read = self._progress.bytes if bytes is None else bytes
            self._progress = replace(self._progress, rows=self._progress.rows + rows, bytes=read)

    def expect(self, *, rows: int | None = None, bytes: int | None = None) -> None:
        """Set the number of rows or the size of the file that the run reads."""
        with self._lock:
            self._progress = replace(self._progress, total_rows=rows, total_bytes=bytes)

    def unchanged(self, count: int) -> None:
        """Count profiles that were not sent because the destination has them."""
        with self._lock:
            self._progress = replace(self._progress, unchanged=self._progress.unchanged + count)

    def take_errors(self) -> dict[tuple[ProcessingStep, str], ErrorSummary]:
        """Return the errors since the last call."""
        with self._lock:
            errors, self._errors = self._errors, {}
            return errors

    def cancel(self, *, continues: bool = False) -> None:
        """Let the next `check` raise. `continues` says that another process is to continue the run."""
        self._continues = continues
        self._is_cancelled = True

    @property
    def continues(self) -> bool:
        """Whether another process is to continue the run."""
        return self._continues

    def check(self) -> None:
        """Raise RunCancelled if the run must end."""
        if self._is_cancelled:
            raise RunCancelled


class Job(Struct, frozen=True, kw_only=True):
    """One run, as a run process executes it."""

    run: Run
    """With the fence of this process."""
    pipeline: Pipeline
    connection: Connection
    connector: Connector
    catalog: Catalog
    state: StateStore
    """Opened for writing. Every transaction of the run begins with its fence."""
    environment: ConnectorEnvironment
    functions: Runner
    """The sandboxes of user functions. It starts a process only when a function runs."""
    clock: Clock
    report: Report
    scratch: Path
    """An empty folder for temporary files. It is deleted when the process ends, however it ends."""
