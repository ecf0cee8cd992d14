"""Exports profiles to a table of a database: each is a row, inserted or updated by a key.

Only profiles whose row differs from the one written last are written. Rows are written in batches, each whole or not
at all. After a crash the last batch may be written a second time, which changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.base.threads import SerialExecutor
from headwater.connectors.contract import (
    NOT_ATTEMPTED,
    Column,
    ItemResult,
    Outcome,
    Row,
    TableSink,
    TableWrite,
    rejected,
)
from headwater.runs.exporting.blocking import open_thread
from headwater.runs.exporting.differences import (
    Candidate,
    Differences,
    count_confirmed,
    delivered,
    report_batch,
    report_outputs,
    report_unread,
    show_kpid,
    undelivered,
)
from headwater.runs.exporting.outbox import DueProfile, Outbox, OutboxThread, open_outbox
from headwater.runs.exporting.pausing import Pauses
from headwater.runs.exporting.recording import Recorder
from headwater.runs.exporting.selecting import STEP, ExportInput, call, open_destination, read_input, read_rows
from headwater.runs.exporting.transforming import (
    Digest,
    ExportOutput,
    FailedRecord,
    digest_definition,
    digest_selection,
    read_output,
)
from headwater.runs.job import Job, RunFailed
from headwater.schemas import MISSING, ObjectType, Property, Schema, is_property_name, misalignment, select
from headwater.schemas.records import RecordReader
from headwater.state.profiles.exporting import ExportRecord

MAX_ROWS: Final = 1_000
MAX_ID: Final = 2**63 - 1
"""Above the ids of all profiles."""
MAX_SEARCHED_KEYS: Final = 500_000
"""Number of keys to write that are held in memory while they are searched among the rows that exist: about 50 MB."""


async def export_to_table(job: Job, recorder: Recorder) -> None:
    """Write the rows of a run that was taken. Raises RunFailed, RunCancelled, Unavailable."""
    given, definition = read_input(job), job.pipeline.definition
    output = read_output(job.pipeline, given.schema, job.functions)
    async with (
        open_destination(job, lambda engine: engine.table_sink) as (sink, _),
        open_thread("table") as thread,
        open_outbox(job.scratch) as outbox,
    ):
        try:
            await _check_table(job, output.schema, sink, thread)
            export = _TableExport(job, given, output, outbox, recorder)
            await export.find_due()
            await export.reject_duplicates()
            columns = tuple(property.name for property in output.schema)
            write = TableWrite(table=definition.table_name, columns=columns, key=(definition.table_key,))
            await export.write_due(partial(_upsert, job, recorder.check, sink, thread, write))
        finally:
            await thread.run(sink.close)


class _TableExport:
    """The export of one run."""

    def __init__(
        self, job: Job, given: ExportInput, output: ExportOutput, outbox: OutboxThread, recorder: Recorder
    ) -> None:
        self._job = job
        self._given = given
        self._output = output
        self._outbox = outbox
        self._recorder = recorder
        self._digest = Digest(digest_definition(job.pipeline.definition))
        self._key = job.pipeline.definition.table_key
        key = select(output.schema, [self._key])
        assert key is not None, "the schema has the key"
        self._key_reader = RecordReader(key)
        self._has_others = False
        """Whether there are profiles that are not to be written. They may have rows."""

    async def find_due(self) -> None:
        """Find the profiles to write. Raises RunFailed, RunCancelled."""
        job, recorder = self._job, self._recorder
        confirmed = 0
        differences = Differences(job, self._given, self._digest)
        definition = digest_selection(job.pipeline.definition)
        since = await recorder.prepare_checkpoint(definition)
        async with job.state.exports.read(self._given.selection(job, with_records=True, since=since)) as stream:
            while rows := await read_rows(job, stream):
                batch = await asyncio.to_thread(differences.compare, rows, stream)
                confirmed += 0 if since is None else count_confirmed(rows)
                report_batch(job.report, batch)
                due = await self._transform(batch.candidates)
                self._has_others |= due < batch.received
                await recorder.add(batch.failed, batch.leaving)
        await recorder.flush()
        if since is not None and stream.confirmed > confirmed:
            report_unread(job.report, stream.confirmed - confirmed)
            self._has_others = True
        recorder.set_checkpoint(definition, stream.version)

    async def _transform(self, candidates: Sequence[Candidate]) -> int:
        """Transform profiles, and add those whose row differs to the outbox. Return their number."""
        if not candidates:
            return 0
        outputs = await self._output.transformation.run([each.record for each in candidates], "Create")
        report_outputs(self._job.report, candidates, outputs)
        due: list[DueProfile] = []
        equal: list[ExportRecord] = []
        failed: list[ExportRecord] = []
        for each, body in zip(candidates, outputs, strict=True):
            if isinstance(body, FailedRecord):
                if not each.is_failed:
                    failed.append(each.failed())
                continue
            content = self._digest(body)
            if content == each.content:
                equal.append(ExportRecord(each.profile, each.source, content, each.external_id, False, each.run))
            else:
                key = str(self._key_reader.row(body)[0])
                due.append(each.due(content, body, key))
        self._job.report.unchanged(len(equal))
        await self._outbox.run(lambda outbox: outbox.add(due))
        await self._recorder.add([*equal, *failed])
        return len(due)

    async def reject_duplicates(self) -> None:
        """Fail the profiles whose key is that of the row of another profile. Of several new ones the oldest stays."""
        await self._outbox.run(Outbox.index_claims)
        if self._has_others:
            await self._reject_claimed()
        before = MAX_ID
        while repeated := await self._outbox.run(partial(Outbox.take_repeated, before=before, count=MAX_ROWS)):
            self._job.report.check()
            before = repeated[-1][0].profile
            await self._reject(repeated)

    async def _reject_claimed(self) -> None:
        """Fail the profiles whose key is that of a row that is not to be written."""
        after: str | None = None
        while True:
            claims = await self._outbox.run(partial(Outbox.claims_after, claim=after, count=MAX_SEARCHED_KEYS))
            if not claims:
                return
            after, searched = claims[-1], frozenset(claims)
            async with self._job.state.exports.read_external_ids(self._job.pipeline.id, searched) as stream:
                while rows := await read_rows(self._job, stream):
                    claimed = {row[0]: row[1] for row in rows if row[1] in searched}
                    if claimed:
                        kpids = await self._recorder.kpids(list(claimed))
                        owners = [(profile, kpid, claimed[profile]) for profile, kpid in kpids.items()]
                        await self._reject(await self._outbox.run(partial(Outbox.take_claimed, owners=owners)))

    async def _reject(self, taken: Sequence[tuple[DueProfile, bytes]]) -> None:
        for due, owner in taken:
            message = f"the row with its key is that of profile {show_kpid(owner)}"
            self._job.report.failed(STEP, message, id=show_kpid(due.kpid), path=self._key)
        await self._recorder.add([undelivered(due, self._job.run.id) for due, _ in taken])

    async def write_due(self, upsert: "_Upsert") -> None:
        """Write the rows in the order of the profiles, and record each batch once it is written."""
        job, after = self._job, -1
        while batch := await self._outbox.run(partial(Outbox.read_after, profile=after, count=MAX_ROWS)):
            after = batch[-1].profile
            existing = await self._recorder.existing([due.profile for due in batch])
            present = [due for due in batch if due.profile in existing]
            rows = await asyncio.to_thread(self._rows, present)
            records: list[ExportRecord] = []
            for due, result in zip(present, await upsert(rows), strict=True):
                if result.outcome is Outcome.DELIVERED:
                    records.append(delivered(due, job.run.id, due.claim))
                else:
                    message = result.message or result.reason
                    job.report.failed(STEP, f"the row is rejected: {message}", id=show_kpid(due.kpid))
                    records.append(undelivered(due, job.run.id))
            job.report.passed(STEP, sum(not record.is_failed for record in records))
            await self._recorder.commit(records)
        await self._recorder.flush()

    def _rows(self, batch: Sequence[DueProfile]) -> list[Row]:
        """Return the rows of profiles. A property that the transformation does not return is null."""
        read = self._output.reader.row
        return [tuple(None if value is MISSING else value for value in read(due.body)) for due in batch]


_Upsert = Callable[[Sequence[Row]], Awaitable[list[ItemResult]]]


async def _check_table(job: Job, schema: Schema, sink: TableSink, thread: SerialExecutor) -> None:
    """Raise RunFailed if the table does not have the columns of the pipeline."""
    definition = job.pipeline.definition
    columns = await call(f"table {definition.table_name}", thread.run(lambda: sink.columns(definition.table_name)))
    offered = _offered(columns, definition.table_key)
    difference = misalignment(schema, offered, "CreateOrUpdate")
    if difference is not None:
        raise RunFailed("OutputValidation", f"outSchema differs from the table: {difference.cause}")


def _offered(columns: Sequence[Column], key: str) -> Schema | None:
    """Return the columns that can be written as a schema, in which the key is required."""
    properties = [
        Property(
            column.name,
            column.type,
            create_required=column.name == key,
            nullable=column.nullable and column.name != key,
        )
        for column in columns
        if column.type is not None and column.writable and is_property_name(column.name)
    ]
    return ObjectType(tuple(properties)) if properties else None


async def _upsert(
    job: Job,
    check: Callable[[], Awaitable[None]],
    sink: TableSink,
    thread: SerialExecutor,
    write: TableWrite,
    rows: Sequence[Row],
) -> list[ItemResult]:
    """Write rows, without those that the database rejects. Return the result of each.

    `check` is awaited before each attempt. Raises RunFailed if the database does not respond for long.
    """
    results = [NOT_ATTEMPTED] * len(rows)
    waiting = list(range(len(rows)))
    limit = len(rows)
    pauses = Pauses(job)
    while waiting:
        some = waiting[:limit]
        await check()
        try:
            found = await thread.run(partial(sink.upsert, write, [rows[index] for index in some]))
        except Unavailable as error:
            await pauses.wait(f"the database cannot be written: {error.message}", error)
            continue
        except HeadwaterError as error:
            raise RunFailed(STEP, f"the table cannot be written: {error.message}") from error
        pauses.progress()
        for index, result in zip(some, found, strict=True):
            results[index] = result
        if all(result.outcome is Outcome.NOT_ATTEMPTED for result in found):
            # The database does not name the row at fault: half of the rows are tried.
            if len(some) == 1:
                results[some[0]] = rejected("Rejected", "the database rejects the row")
            else:
                limit = (len(some) + 1) // 2
        waiting = [index for index in waiting if results[index].outcome is Outcome.NOT_ATTEMPTED]
    return results
