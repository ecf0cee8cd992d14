"""Exports of profiles: to files, to tables of databases, and to applications."""

from headwater.runs.exporting.applications import export_to_application
from headwater.runs.exporting.files import export_to_file
from headwater.runs.exporting.recording import Recorder
from headwater.runs.exporting.tables import export_to_table
from headwater.runs.job import Job, RunFailed


async def execute_export(job: Job) -> None:
    """Export the profiles of a pipeline, unless an earlier process has executed the run to its end. Raises RunFailed,
    RunCancelled, and Unavailable if the state store does not respond."""
    recorder = Recorder(job)
    if await recorder.start():
        return
    match job.connector.type:
        case "FileStorage":
            await export_to_file(job, recorder)
        case "Database":
            await export_to_table(job, recorder)
        case "Application":
            await export_to_application(job, recorder)
        case _:
            raise RunFailed(None, f"profiles cannot be exported to {job.connector.label}")
    await recorder.complete()


__all__ = ["execute_export"]
