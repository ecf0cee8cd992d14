"""The commands for runs: `headwater runs start`, `list`, `watch` and `cancel`.

Like the other commands they use the database directly, with or without a running server. A run goes on only while the
server runs.
"""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from headwater.base.clock import SystemClock, from_microseconds, microseconds
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.cli.api import print_table
from headwater.cli.documents import print_document, print_message
from headwater.cli.progress import draw_bar, watch
from headwater.cli.tables import parse_identifier
from headwater.management.runs import run_pipeline
from headwater.server.errors import StartupError
from headwater.server.settings import Settings
from headwater.state.runs import STEPS, Run, RunStore, open_runs
from headwater.storage.database import sqlite_url

_FILTER: Final = STEPS.index("Filter")
_FINALIZE: Final = STEPS.index("Finalize")

Action = Callable[[RunStore, Settings, argparse.Namespace], Awaitable[None]]


async def run_run_command(settings: Settings, arguments: argparse.Namespace) -> None:
    """Run the command that the arguments name. Raises StartupError with one line if it fails."""
    url = settings.database_url or sqlite_url(settings.runs_path)
    async with open_runs(url, clock=SystemClock(), identifiers=Identifiers()) as runs:
        await _ACTIONS[arguments.action](runs, settings, arguments)


async def start_run(runs: RunStore, settings: Settings, arguments: argparse.Namespace) -> None:
    """Start a run of a pipeline, and print its id alone."""
    id_ = parse_identifier(arguments.id)
    url = settings.database_url or sqlite_url(settings.catalog_path)
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as catalog:
        await catalog.refresh()
        pipeline = catalog.pipeline(None, id_)
        if pipeline is None:
            raise StartupError(f"there is no pipeline {id_}")
        incremental = arguments.incremental
        full = arguments.full
        run = await run_pipeline(catalog, runs, pipeline.workspace, id_, incremental=incremental, full=full)
    if arguments.json:
        print_document({"id": run.id})
    else:
        print(run.id)


async def list_runs(runs: RunStore, settings: Settings, arguments: argparse.Namespace) -> None:
    """Print the latest runs."""
    workspace, pipeline = (
        None if text is None else parse_identifier(text) for text in (arguments.workspace, arguments.pipeline)
    )
    found = await runs.page(workspace, pipeline=pipeline, limit=arguments.limit)
    if arguments.json:
        for each in found:
            _print_json(each)
        return
    rows = [
        (
            str(each.id),
            str(each.workspace),
            str(each.pipeline),
            each.trigger,
            each.status,
            str(each.progress.rows),
            str(_failed(each)),
            from_microseconds(each.created_at).strftime("%Y-%m-%d %H:%M"),
            each.error,
        )
        for each in found
    ]
    heads = ("ID", "WORKSPACE", "PIPELINE", "TRIGGER", "STATUS", "ROWS", "FAILED", "CREATED (UTC)", "ERROR")
    print_table(heads, rows)


async def cancel_run(runs: RunStore, settings: Settings, arguments: argparse.Namespace) -> None:
    """Ask a run to end."""
    found = await runs.cancel(parse_identifier(arguments.id))
    if found is None:
        raise _unknown(arguments)
    if arguments.json:
        _print_json(found)
        return
    print(f"Run {found.id} ends within some seconds." if found.ended_at is None else _ended(found))


async def watch_run(runs: RunStore, settings: Settings, arguments: argparse.Namespace) -> None:
    """Show the progress of a run until it ends. Raises StartupError if it does not succeed."""
    found = await watch(lambda: _find(runs, arguments), progress_line)
    if found.status != "Succeeded":
        raise StartupError(_ended(found))
    if arguments.json:
        _print_json(found)
    else:
        print(_ended(found))


async def _find(runs: RunStore, arguments: argparse.Namespace) -> Run:
    found = await runs.find(parse_identifier(arguments.id))
    if found is None:
        raise _unknown(arguments)
    return found


def progress_line(run: Run, now: datetime) -> str:
    """Return the progress as one line: a bar if the size is known, the numbers, the rate, the status and the
    duration."""
    progress, at = run.progress, microseconds(now)
    parts = [f"Run {run.id}"]
    if run.percentage is not None:
        parts.append(draw_bar(run.percentage / 100))
    total = "" if progress.total_rows is None else f" of {progress.total_rows}"
    parts.append(f"{progress.rows}{total} rows")
    if failed := _failed(run):
        parts.append(f"{failed} failed")
    if progress.rows:
        parts.append(f"{run.rows_per_second(at):.0f} rows/s")
    parts.append("Cancelling" if run.is_cancelled and run.ended_at is None else run.status)
    if run.started_at is not None:
        parts.append(f"{max(0, (at if run.ended_at is None else run.ended_at) - run.started_at) // 1_000_000} s")
    return "  ".join(parts)


def _print_json(run: Run) -> None:
    from headwater.api.services.runs import run_message  # importing gRPC takes time

    print_message(run_message(run, microseconds(SystemClock().now())))


def _failed(run: Run) -> int:
    """Return the number of failed records, without those that were filtered out."""
    return sum(run.progress.failed) - run.progress.failed[_FILTER]


def _ended(run: Run) -> str:
    progress = run.progress
    numbers = f"{progress.rows} rows read, {progress.passed[_FINALIZE]} passed, {_failed(run)} failed"
    text = f"Run {run.id} is {run.status.lower()}: {numbers}"
    return f"{text}: {run.error}" if run.error else text


def _unknown(arguments: argparse.Namespace) -> StartupError:
    return StartupError(f"there is no run {parse_identifier(arguments.id)}")


_ACTIONS: Final[Mapping[str, Action]] = {
    "start": start_run,
    "list": list_runs,
    "watch": watch_run,
    "cancel": cancel_run,
}
