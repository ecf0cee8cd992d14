"""Exports profiles to a file: all that pass the filter, in the order of a property, in one file per run.

The file appears complete or not at all, so the records pass their last step together at the end. It is written to the
temporary folder of the run first: the snapshot of the profiles ends before the storage is called, which may be slow. A
run that is resumed writes the file from the beginning, under the same name.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import BinaryIO, cast
from uuid import UUID

from msgspec import Struct

from headwater.base.clock import from_microseconds
from headwater.base.errors import HeadwaterError
from headwater.base.threads import SerialExecutor
from headwater.connectors.contract import Column, FileFormat, FileRow, RowWriter
from headwater.runs.capabilities import make_format, open_capability
from headwater.runs.compression import Compression
from headwater.runs.exporting.blocking import enter, open_thread
from headwater.runs.exporting.recording import Recorder
from headwater.runs.exporting.selecting import STEP, ExportInput, describe, read_input, read_rows
from headwater.runs.files import upload, write_table
from headwater.runs.job import Job, RunFailed
from headwater.runs.placeholders import expand_placeholders
from headwater.schemas import InvalidValue, Schema
from headwater.state.profiles.exporting import ATTRIBUTES, KPID, ProfileStream, SelectedProfile


async def export_to_file(job: Job, recorder: Recorder) -> None:
    """Write the file of a run that was taken. Raises RunFailed, RunCancelled, Unavailable."""
    given = read_input(job)
    if given.filter is None:
        job.report.expect(rows=await job.state.profiles.count(job.pipeline.workspace))
    counts = _Counts()
    try:
        await _export(job, recorder, given, counts)
    except RunFailed as error:
        if error.step == STEP and counts.written:
            job.report.failed(STEP, error.message, count=counts.written)
        raise
    job.report.passed(STEP, counts.written)


class _Counts(Struct):
    written: int = 0
    """Number of profiles that were given to the writer."""


async def _export(job: Job, recorder: Recorder, given: ExportInput, counts: _Counts) -> None:
    """Write the profiles to a temporary file, and then copy that to the storage, however slow it is.

    The file does not appear if another process has taken the run meanwhile.
    """
    definition, catalog = job.pipeline.definition, job.catalog
    compression = cast(Compression, definition.compression)
    try:
        async with (
            open_capability(catalog, job.connection, job.environment, lambda engine: engine.file_storage) as opened,
            open_thread("file") as thread,
        ):
            storage, context = opened
            format = make_format(
                catalog.connectors[definition.format], "Destination", definition.format_settings, context
            )
            path = expand_placeholders(definition.path, started_at(job))
            storage.absolute_path(path)  # raises for a name that is not valid
            with tempfile.TemporaryFile(dir=job.scratch) as file:
                content = cast(BinaryIO, file)
                await _write_table(job, given, counts, thread, format, path, content)
                await recorder.flush()
                copy = partial(
                    upload, storage, path, content, format=format, compression=compression, check=job.report.check
                )
                async with enter(thread, copy):
                    await recorder.flush()
    except HeadwaterError as error:
        raise RunFailed(STEP, f"the file cannot be written: {error.message}") from error
    except OSError as error:
        raise RunFailed(STEP, f"the temporary file of the export cannot be written: {error.strerror}") from error


async def _write_table(
    job: Job,
    given: ExportInput,
    counts: _Counts,
    thread: SerialExecutor,
    format: FileFormat,
    path: str,
    content: BinaryIO,
) -> None:
    """Write the profiles to a stream, while the next ones are read. Raises RunFailed, RunCancelled."""
    definition = job.pipeline.definition
    write = partial(
        write_table,
        content,
        format,
        path,
        list_columns(given.schema),
        extension=job.catalog.connectors[definition.format].file_extension,
        sheet=definition.sheet,
        compression=cast(Compression, definition.compression),
        created_at=started_at(job),
    )
    selection = given.selection(job, order_by=definition.order_by)
    async with enter(thread, write) as writer, job.state.exports.read(selection) as stream:
        writing: asyncio.Task[None] | None = None
        try:
            while rows := await read_rows(job, stream):
                if writing is not None:
                    await writing
                work = partial(_write_rows, job, given, stream, rows, writer, counts)
                writing = asyncio.create_task(thread.run(work))
            if writing is not None:
                await writing
        finally:
            if writing is not None:
                await asyncio.wait((writing,))


def _write_rows(
    job: Job,
    given: ExportInput,
    stream: ProfileStream,
    profiles: Sequence[SelectedProfile],
    writer: RowWriter,
    counts: _Counts,
) -> None:
    """Write those of the profiles that are in the selection and conform to the schema."""
    report = job.report
    chosen = profiles if stream.holds_all else [each for each in profiles if stream.holds(each)]
    try:
        rows: list[FileRow] = given.reader.rows([profile[ATTRIBUTES] for profile in chosen])
    except InvalidValue:
        rows = _read_each(job, given, chosen)
    report.read(rows=len(chosen))
    report.passed("Receive", len(chosen))
    report.passed("InputValidation", len(rows))
    if rows:
        counts.written += len(rows)
        writer.write(rows)


def _read_each(job: Job, given: ExportInput, profiles: Sequence[SelectedProfile]) -> list[FileRow]:
    """Return the rows of those of the profiles that conform, and report the others."""
    rows: list[FileRow] = []
    for profile in profiles:
        try:
            rows.append(given.reader.row(profile[ATTRIBUTES]))
        except InvalidValue as error:
            id_ = str(UUID(bytes=profile[KPID]))
            job.report.failed("InputValidation", describe(error), id=id_, path=error.path)
    return rows


def started_at(job: Job) -> datetime:
    """Return the start of the run, which is the same for all processes that execute it."""
    return from_microseconds(job.run.created_at if job.run.started_at is None else job.run.started_at)


def list_columns(schema: Schema) -> list[Column]:
    """Return the columns of a file with the profiles of a schema."""
    return [
        Column(
            name=property.name,
            type=property.type,
            nullable=property.nullable,
            read_optional=property.read_optional,
            description=property.description,
        )
        for property in schema
    ]
