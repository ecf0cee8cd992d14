"""Exports profiles to applications, databases and files."""

from headwater.runs.job import Job, RunFailed


async def execute_export(job: Job) -> None:
    """Export profiles to a connection. Raises RunFailed."""
    raise RunFailed(None, f"profiles cannot be exported with {job.connector.code} by this version")
