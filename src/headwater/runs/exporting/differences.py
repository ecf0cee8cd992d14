"""Finds the profiles whose output differs from the one that the destination confirmed.

A profile with unchanged attributes has an unchanged output, because the digest of the attributes includes the
definition of the pipeline. So only the others are transformed. A profile that fails before it is sent gets a record
too, so that the next run finds it without reading the others.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from headwater.runs.exporting.outbox import DueProfile
from headwater.runs.exporting.selecting import STEP, ExportInput, describe
from headwater.runs.exporting.transforming import Digest, FailedRecord, Output
from headwater.runs.job import Job, Report
from headwater.schemas import InvalidValue, Record
from headwater.state.profiles.exporting import (
    ATTRIBUTES,
    ID,
    KPID,
    RECORD,
    ExportRecord,
    ProfileStream,
    SelectedProfile,
)

SOURCE: Final = RECORD
CONTENT: Final = RECORD + 1
EXTERNAL_ID: Final = RECORD + 2
IS_FAILED: Final = RECORD + 3
RUN: Final = RECORD + 4


class Candidate(Struct, frozen=True, gc=False):
    """A profile that may have to be written, before its transformation."""

    profile: int
    kpid: bytes
    record: Record
    source: bytes
    content: bytes
    """The content that the destination has; empty if it has none, or is to be written anyway."""
    external_id: str
    run: int
    """The run that wrote it last; 0 for none."""
    previous: bytes
    """The content that the destination confirmed last; empty if it has none."""
    is_failed: bool = False
    """Whether its record is failed, with the same attributes."""

    def failed(self) -> ExportRecord:
        """Return the record of a profile that could not be transformed. The destination has the former content."""
        return ExportRecord(self.profile, self.source, self.previous, self.external_id, True, self.run)

    def due(self, content: bytes, body: bytes, claim: str) -> DueProfile:
        """Return the profile to write."""
        return DueProfile(self.profile, self.kpid, self.source, content, self.external_id, body, claim, self.previous)


class Batch(Struct):
    """The profiles of a batch, by what is to be done."""

    candidates: list[Candidate] = []
    failed: list[ExportRecord] = []
    """Records of profiles that do not conform to the schema, without those that had the same one."""
    leaving: list[int] = []
    """Profiles with a record that are not in the selection."""
    received: int = 0
    unchanged: int = 0
    done: int = 0
    """Number of profiles that an earlier attempt of the run has written, or failed to write."""


class Differences:
    """Compares profiles with the records of an export."""

    def __init__(self, job: Job, given: ExportInput, digest: Digest) -> None:
        self._job = job
        self._given = given
        self._digest = digest

    def compare(self, rows: Sequence[SelectedProfile], stream: ProfileStream) -> Batch:
        """Return what is to be done with the rows. Counts the records that do not conform to the schema."""
        batch = Batch([], [], [])
        run, is_full, begin = self._job.run.id, self._job.run.is_full, self._digest.begin
        held = rows if stream.holds_all else [row for row in rows if self._holds(row, stream, batch)]
        batch.received = len(held)
        for row in held:
            begun = begin()
            begun.update(row[ATTRIBUTES])
            source = begun.digest()
            if row[SOURCE] == source:
                if row[RUN] == run:
                    batch.done += 1
                    count_done(self._job.report, row)
                elif not is_full and not row[IS_FAILED]:
                    batch.unchanged += 1
                else:
                    self._add(batch, row, source)
            else:
                self._add(batch, row, source)
        return batch

    def _holds(self, row: SelectedProfile, stream: ProfileStream, batch: Batch) -> bool:
        if stream.holds(row):
            return True
        if row[SOURCE] is not None:
            batch.leaving.append(row[ID])
        return False

    def _add(self, batch: Batch, row: Any, source: bytes) -> None:
        kpid, previous = row[KPID], row[CONTENT] or b""
        external_id, run = row[EXTERNAL_ID] or "", row[RUN] or 0
        is_failed = row[SOURCE] == source and bool(row[IS_FAILED])
        try:
            record = self._given.reader.record(row[ATTRIBUTES])
        except InvalidValue as error:
            report_failure(self._job.report, kpid, FailedRecord("InputValidation", describe(error), error.path))
            if not is_failed:
                batch.failed.append(ExportRecord(row[ID], source, previous, external_id, True, run))
            return
        content = b"" if self._job.run.is_full else previous
        batch.candidates.append(
            Candidate(row[ID], kpid, record, source, content, external_id, run, previous, is_failed)
        )


def count_confirmed(rows: Sequence[SelectedProfile]) -> int:
    """Return the number of records of the rows that are not failed."""
    return sum(row[SOURCE] is not None and not row[IS_FAILED] for row in rows)


def count_done(report: Report, row: SelectedProfile) -> None:
    """Count a profile that an earlier attempt of the run has written, or could not write."""
    if row[IS_FAILED]:
        message = "the destination did not accept the profile, before the run was interrupted"
        report.failed(STEP, message, id=show_kpid(row[KPID]))
    else:
        report.passed(STEP)


def report_batch(report: Report, batch: Batch) -> None:
    """Count the records of a batch, without those that are transformed afterwards."""
    report.read(rows=batch.received)
    report.passed("Receive", batch.received)
    report.passed("InputValidation", len(batch.candidates) + batch.done)
    report.passed("Transformation", batch.done)
    report.passed("OutputValidation", batch.done)
    report.unchanged(batch.unchanged)


def report_unread(report: Report, count: int) -> None:
    """Count profiles that were not read: they have not changed since the destination confirmed them."""
    report.read(rows=count)
    report.passed("Receive", count)
    report.unchanged(count)


def report_outputs(report: Report, candidates: Sequence[Candidate], outputs: Sequence[Output]) -> None:
    """Count the results of a transformation."""
    transformed = valid = 0
    for candidate, output in zip(candidates, outputs, strict=True):
        if isinstance(output, FailedRecord):
            transformed += output.step != "Transformation"
            report_failure(report, candidate.kpid, output)
        else:
            transformed += 1
            valid += 1
    report.passed("Transformation", transformed)
    report.passed("OutputValidation", valid)


def report_failure(report: Report, kpid: bytes, failure: FailedRecord) -> None:
    """Count a record that failed."""
    report.failed(failure.step, failure.message, id=show_kpid(kpid), path=failure.path)


def show_kpid(kpid: bytes) -> str:
    """Return the public id of a profile as it is shown."""
    return str(UUID(bytes=kpid))


def delivered(due: DueProfile, run: int, external_id: str) -> ExportRecord:
    """Return the record of a profile that the destination has confirmed."""
    return ExportRecord(due.profile, due.source, due.content, external_id, False, run)


def undelivered(due: DueProfile, run: int) -> ExportRecord:
    """Return the record of a profile that could not be written, and is due in the next run."""
    return ExportRecord(due.profile, due.source, b"", due.external_id, True, run)
