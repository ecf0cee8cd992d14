"""Exports of profiles: to files, to tables of databases, and to applications."""

from headwater.runs.exporting.applications import export_to_application
from headwater.runs.exporting.files import export_to_file
from headwater.runs.exporting.tables import export_to_table
from headwater.runs.job import Job, RunFailed


async def execute_export(job: Job) -> None:
    """Export the profiles of a pipeline. Raises RunFailed, RunCancelled, and Unavailable if the state store does not
    respond."""
    match job.connector.type:
        case "FileStorage":
            await export_to_file(job)
        case "Database":
            await export_to_table(job)
        case "Application":
            await export_to_application(job)
        case _:
            raise RunFailed(None, f"profiles cannot be exported to {job.connector.label}")


__all__ = ["execute_export"]
