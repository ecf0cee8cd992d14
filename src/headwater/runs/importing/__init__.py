"""Imports users from applications, databases and files."""

from headwater.runs.job import Job, RunFailed


async def execute_import(job: Job) -> None:
    """Import the users of a connection. Raises RunFailed."""
    raise RunFailed(None, f"users cannot be imported with {job.connector.code} by this version")
