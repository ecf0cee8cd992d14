"""The commands for runs and operations over the API. Progress is shown as by the commands on the database."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from headwater.cli.api import Api, Columns, member
from headwater.cli.errors import CommandError
from headwater.cli.events import read_filter
from headwater.cli.progress import WATCH_SECONDS, ProgressView, draw_bar
from headwater.cli.tables import parse_identifier, printable

STEPS: Final = ("Receive", "InputValidation", "Filter", "Transformation", "OutputValidation", "Finalize")
"""The steps whose counts a run has, in their order."""

Document = Mapping[str, Any]

_RUNS: Columns = {
    "ID": member("id"),
    "PIPELINE": member("pipeline"),
    "TRIGGER": member("trigger"),
    "STATUS": member("status"),
    "ROWS": lambda item: _progress(item).get("rows", "0"),
    "FAILED": lambda item: _failed(item),
    "CREATED (UTC)": member("createTime"),
    "ERROR": member("error"),
}
_RUN_ERRORS: Columns = {
    "COUNT": member("count"),
    "STEP": member("step"),
    "MESSAGE": member("message"),
    "FIRST RECORDS": lambda item: [
        str(each.get("recordId") or each.get("number") or "") for each in item.get("samples", ())
    ],
}
_OPERATIONS: Columns = {
    "ID": member("id"),
    "KIND": member("kind"),
    "STATUS": member("status"),
    "DONE": lambda item: _share(item),
    "CREATED (UTC)": member("createTime"),
    "ERROR": member("error"),
}


def start_run(api: Api, arguments: argparse.Namespace) -> None:
    """Start a run of a pipeline, and print its id alone. With `--watch` show its progress until it ends."""
    document = {"incremental": arguments.incremental, "full": True if arguments.full else None}
    path = f"/v1/pipelines/{parse_identifier(arguments.id)}/runs"
    body = api.client.send("POST", path, {name: value for name, value in document.items() if value is not None})
    api.print_created(body)
    if getattr(arguments, "watch", False):
        _watch(api, f"/v1/pipelines/runs/{json.loads(body)['id']}", run_line, _ended_run, "Succeeded")


def list_runs(api: Api, arguments: argparse.Namespace) -> None:
    """Print the latest runs."""
    pipeline = None if arguments.pipeline is None else parse_identifier(arguments.pipeline)
    api.print_pages("/v1/pipelines/runs", "runs", _RUNS, {"pipeline": pipeline}, arguments.limit)


def show_run(api: Api, arguments: argparse.Namespace) -> None:
    """Print a run."""
    api.print_object(api.client.call("GET", _run(arguments)))


def list_run_errors(api: Api, arguments: argparse.Namespace) -> None:
    """Print the reasons why records of a run failed, the most frequent first."""
    api.print_pages(f"{_run(arguments)}/errors", "errors", _RUN_ERRORS, limit=arguments.limit)


def watch_run(api: Api, arguments: argparse.Namespace) -> None:
    """Show the progress of a run until it ends. Raises CommandError if it does not succeed."""
    _watch(api, _run(arguments), run_line, _ended_run, "Succeeded")


def cancel_run(api: Api, arguments: argparse.Namespace) -> None:
    """Ask a run to end."""
    body = api.client.call("POST", f"{_run(arguments)}/cancel", body=b"{}")
    api.print_done(body, f"Run {arguments.id} ends within some seconds.")


def list_operations(api: Api, arguments: argparse.Namespace) -> None:
    """Print the latest operations."""
    api.print_pages("/v1/operations", "operations", _OPERATIONS, limit=arguments.limit)


def show_operation(api: Api, arguments: argparse.Namespace) -> None:
    """Print an operation with its parameters."""
    api.print_object(api.client.call("GET", _operation(arguments)))


def resend(api: Api, arguments: argparse.Namespace) -> None:
    """Send dead letters again, or count them."""
    names = ("destination", "pipeline", "reason")
    _start_operation(api, arguments, "/v1/operations/resend", names)


def replay(api: Api, arguments: argparse.Namespace) -> None:
    """Send stored events to a pipeline, or count them."""
    _start_operation(api, arguments, "/v1/operations/replay", ("pipeline",))


def watch_operation(api: Api, arguments: argparse.Namespace) -> None:
    """Show the progress of an operation until it ends. Raises CommandError if it does not complete."""
    _watch(api, _operation(arguments), operation_line, _ended_operation, "Completed")


def watch_erasure(api: Api, arguments: argparse.Namespace) -> None:
    """Show the status of an erasure until it ends. Raises CommandError if it does not complete."""
    _watch(api, f"/v1/erasures/{parse_identifier(arguments.id)}", operation_line, _ended_operation, "Completed")


def cancel_operation(api: Api, arguments: argparse.Namespace) -> None:
    """Ask an operation to end."""
    body = api.client.call("POST", f"{_operation(arguments)}/cancel", body=b"{}")
    api.print_done(body, f"Operation {arguments.id} ends after its present step.")


def run_line(run: Document, now: datetime) -> str:
    """Return the progress of a run as one line: a bar if the size is known, the numbers, the status, the duration."""
    progress = _progress(run)
    parts = [f"Run {run['id']}"]
    if progress.get("percentage") is not None:
        parts.append(draw_bar(progress["percentage"] / 100))
    total = f" of {progress['totalRows']}" if progress.get("totalRows") is not None else ""
    parts.append(f"{progress.get('rows', 0)}{total} rows")
    if failed := _failed(run):
        parts.append(f"{failed} failed")
    if float(progress.get("rowsPerSecond", 0)):
        parts.append(f"{float(progress['rowsPerSecond']):.0f} rows/s")
    return "  ".join([*parts, _status(run), *_duration(run, now)])


def operation_line(operation: Document, now: datetime) -> str:
    """Return the progress of an operation as one line: a bar if the total is known, the status, the duration."""
    parts = [f"{operation.get('kind', 'Erasure')} {operation['id']}"]
    if operation.get("total") is not None:
        total = int(operation["total"])
        parts.append(draw_bar(min(1.0, int(operation["done"]) / total) if total else 1.0))
    if "done" in operation:
        parts.append(_share(operation))
    return "  ".join([*parts, _status(operation), *_duration(operation, now)])


def _start_operation(api: Api, arguments: argparse.Namespace, path: str, names: tuple[str, ...]) -> None:
    """Start an operation and print its id alone, or with `--validate-only` the number of what it would send."""
    document: dict[str, object] = {"since": arguments.since, "until": arguments.until}
    for name in names:
        value = getattr(arguments, name)
        document[name] = value if value is None or name == "reason" else parse_identifier(value)
    if (filter_ := read_filter(api.client, getattr(arguments, "filter", None))) is not None:
        document["filter"] = json.loads(filter_)
    document["validateOnly"] = arguments.validate_only
    body = api.client.send("POST", path, {name: value for name, value in document.items() if value is not None})
    api.print_created(body, "total" if arguments.validate_only else "id")
    if arguments.watch and not arguments.validate_only:
        _watch(api, f"/v1/operations/{json.loads(body)['id']}", operation_line, _ended_operation, "Completed")


def _watch(
    api: Api,
    path: str,
    line: Callable[[Document, datetime], str],
    ended: Callable[[Document], str],
    success: str,
) -> None:
    view = ProgressView(sys.stderr)
    while True:
        body = api.client.call("GET", path)
        found = json.loads(body)
        is_last = found.get("endTime") is not None
        view.show(printable(line(found, datetime.now(UTC))), is_last=is_last)
        if is_last:
            break
        time.sleep(WATCH_SECONDS)
    view.close()
    if found["status"] != success:
        raise CommandError(printable(ended(found)))
    api.print_done(body, printable(ended(found)))


def _ended_run(run: Document) -> str:
    passed = run.get("passed") or [0] * len(STEPS)
    rows = _progress(run).get("rows", 0)
    text = f"Run {run['id']} is {run['status'].lower()}: {rows} rows read, {passed[-1]} passed, {_failed(run)} failed"
    return f"{text}: {run['error']}" if run.get("error") else text


def _ended_operation(operation: Document) -> str:
    text = f"{operation.get('kind', 'Erasure')} {operation['id']} is {operation['status'].lower()}"
    if "done" in operation:
        text += f": {_share(operation)} done"
    return f"{text}: {operation['error']}" if operation.get("error") else text


def _run(arguments: argparse.Namespace) -> str:
    return f"/v1/pipelines/runs/{parse_identifier(arguments.id)}"


def _operation(arguments: argparse.Namespace) -> str:
    return f"/v1/operations/{parse_identifier(arguments.id)}"


def _progress(run: Document) -> Document:
    found: Document = run.get("progress") or {}
    return found


def _failed(run: Document) -> int:
    """Return the number of failed records, without those that were filtered out."""
    failed = run.get("failed") or [0] * len(STEPS)
    return sum(failed) - int(failed[STEPS.index("Filter")])


def _share(operation: Document) -> str:
    done = operation.get("done", "0")
    return f"{done}" if operation.get("total") is None else f"{done} of {operation['total']}"


def _status(document: Document) -> str:
    is_ending = document.get("cancelRequested") and document.get("endTime") is None
    return "Cancelling" if is_ending else str(document["status"])


def _duration(document: Document, now: datetime) -> list[str]:
    if document.get("startTime") is None:
        return []
    end = now if document.get("endTime") is None else datetime.fromisoformat(document["endTime"])
    return [f"{max(0, int((end - datetime.fromisoformat(document['startTime'])).total_seconds()))} s"]
