"""Opens the source of an import: an application, a database or a file storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

from headwater.base.errors import HeadwaterError
from headwater.connectors.contract import find_read_rates
from headwater.runs.capabilities import make_format, open_capability
from headwater.runs.compression import Compression
from headwater.runs.files import open_file
from headwater.runs.importing.applications import ApplicationSource
from headwater.runs.importing.databases import DatabaseSource
from headwater.runs.importing.files import FileSource
from headwater.runs.importing.records import Source
from headwater.runs.importing.waiting import WaitFor
from headwater.runs.job import Job, Report, RunFailed
from headwater.runs.rates import open_rates


@asynccontextmanager
async def open_source(job: Job, wait_for: WaitFor) -> AsyncIterator[Source]:
    """Yield the source of a job. It waits for calls of applications with `wait_for`. Raises RunFailed."""
    definition, catalog, connection = job.pipeline.definition, job.catalog, job.connection
    try:
        match job.connector.type:
            case "Application":
                reading = open_capability(catalog, connection, job.environment, lambda engine: engine.user_source)
                async with reading as (users, _), open_rates(job, find_read_rates(users)) as rates:
                    yield ApplicationSource(users, rates, wait_for, job.report, job.clock)
            case "Database":
                querying = open_capability(catalog, connection, job.environment, lambda engine: engine.query_source)
                async with querying as (database, _):
                    yield DatabaseSource(database, definition, job.report)
            case _:
                storing = open_capability(catalog, connection, job.environment, lambda engine: engine.file_storage)
                async with storing as (storage, context):
                    connector = catalog.connectors[definition.format]
                    file_format = make_format(connector, "Source", definition.format_settings, context)
                    opened = partial(
                        open_file,
                        storage,
                        file_format,
                        definition.path,
                        sheet=definition.sheet,
                        compression=cast(Compression, definition.compression),
                        scratch=job.scratch,
                        copied=partial(_report_copied, job.report),
                    )
                    yield FileSource(opened, job.report)
    except HeadwaterError as error:
        raise RunFailed("Receive", error.message) from error


def _report_copied(report: Report, size: int) -> None:
    """Show that a file is being copied, before it is read. Raises RunCancelled."""
    report.check()
    report.read(bytes=size)
