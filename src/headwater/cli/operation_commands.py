"""The commands for operations: `headwater operations list`, `show`, `watch` and `cancel`.

Like the other commands they use the database directly, with or without a running server. An operation goes on only
while the server runs.
"""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from headwater.base.clock import SystemClock, from_microseconds
from headwater.base.identifiers import Identifiers
from headwater.cli.api import print_table
from headwater.cli.documents import print_message
from headwater.cli.progress import draw_bar, watch
from headwater.cli.tables import parse_identifier
from headwater.server.errors import StartupError
from headwater.server.settings import Settings
from headwater.state.operations import DELIVERY_KINDS, Operation, OperationStore, open_operations
from headwater.storage.database import sqlite_url

Action = Callable[[OperationStore, argparse.Namespace], Awaitable[None]]


async def run_operation_command(settings: Settings, arguments: argparse.Namespace) -> None:
    """Run the command that the arguments name. Raises StartupError with one line if it fails."""
    if settings.database_url is None and not settings.operations_path.is_file():
        raise StartupError(f"no operation has been started in {settings.data_dir} yet")
    url = settings.database_url or sqlite_url(settings.operations_path)
    async with open_operations(url, clock=SystemClock(), identifiers=Identifiers()) as operations:
        await _ACTIONS[arguments.action](operations, arguments)


async def list_operations(operations: OperationStore, arguments: argparse.Namespace) -> None:
    """Print the latest operations."""
    workspace = None if arguments.workspace is None else parse_identifier(arguments.workspace)
    found = await operations.page(workspace, limit=arguments.limit)
    if arguments.json:
        for each in found:
            _print_json(each)
        return
    rows = [
        (
            str(each.id),
            str(each.workspace),
            each.kind,
            each.status,
            _share(each),
            from_microseconds(each.created_at).strftime("%Y-%m-%d %H:%M"),
            each.error,
        )
        for each in found
    ]
    print_table(("ID", "WORKSPACE", "KIND", "STATUS", "DONE", "CREATED (UTC)", "ERROR"), rows)


async def show_operation(operations: OperationStore, arguments: argparse.Namespace) -> None:
    """Print an operation with its parameters."""
    found = await _find(operations, arguments)
    if arguments.json:
        _print_json(found)
        return
    parameters = msgspec.to_builtins(found.parameters)
    rows = [
        ("id", str(found.id)),
        ("workspace", str(found.workspace)),
        *((name, _value(name, value)) for name, value in parameters.items() if name != "type"),
        ("kind", found.kind),
        ("status", f"{found.status}, to be cancelled" if _is_ending(found) else found.status),
        ("done", _share(found)),
        ("enqueued", str(found.enqueued) if found.kind in DELIVERY_KINDS else ""),
        ("created", _time(found.created_at)),
        ("started", _time(found.started_at)),
        ("ended", _time(found.ended_at)),
        ("error", found.error),
        ("result", found.result),
    ]
    print_table(("NAME", "VALUE"), [row for row in rows if row[1]])


async def cancel_operation(operations: OperationStore, arguments: argparse.Namespace) -> None:
    """Ask an operation to end."""
    found = await operations.cancel(parse_identifier(arguments.id))
    if found is None:
        raise _unknown(arguments)
    if arguments.json:
        _print_json(found)
        return
    print(f"Operation {found.id} ends after its present step." if _is_ending(found) else _ended(found))


async def watch_operation(operations: OperationStore, arguments: argparse.Namespace) -> None:
    """Show the progress of an operation until it ends. Raises StartupError if it does not complete."""
    found = await watch(lambda: _find(operations, arguments), progress_line)
    if found.status != "Completed":
        raise StartupError(_ended(found))
    if arguments.json:
        _print_json(found)
    else:
        print(_ended(found))


def progress_line(operation: Operation, now: datetime) -> str:
    """Return the progress as one line: a bar if the total is known, the numbers, the status and the duration."""
    status = "Cancelling" if _is_ending(operation) else operation.status
    parts = [f"{operation.kind} {operation.id}", _share(operation), status]
    if operation.total is not None:
        share = 1.0 if not operation.total else min(1.0, operation.done / operation.total)
        parts.insert(1, draw_bar(share))
    if operation.started_at is not None:
        end = now if operation.ended_at is None else from_microseconds(operation.ended_at)
        parts.append(f"{max(0, int((end - from_microseconds(operation.started_at)).total_seconds()))} s")
    return "  ".join(parts)


def _print_json(operation: Operation) -> None:
    from headwater.api.services.operations import operation_message  # importing gRPC takes time

    print_message(operation_message(operation))


async def _find(operations: OperationStore, arguments: argparse.Namespace) -> Operation:
    found = await operations.find(parse_identifier(arguments.id))
    if found is None:
        raise _unknown(arguments)
    return found


def _unknown(arguments: argparse.Namespace) -> StartupError:
    return StartupError(f"there is no operation {parse_identifier(arguments.id)}")


def _is_ending(operation: Operation) -> bool:
    return operation.is_cancelled and operation.ended_at is None


def _ended(operation: Operation) -> str:
    text = f"Operation {operation.id} is {operation.status.lower()}: {_share(operation)} done"
    if operation.error:
        return f"{text}: {operation.error}"
    return f"{text}, {operation.enqueued} deliveries enqueued" if operation.kind in DELIVERY_KINDS else text


def _share(operation: Operation) -> str:
    return str(operation.done) if operation.total is None else f"{operation.done} of {operation.total}"


def _time(at: int | None) -> str:
    return "" if at is None else from_microseconds(at).strftime("%Y-%m-%d %H:%M:%S")


def _value(name: str, value: object) -> str:
    return _time(value) if name in ("since", "until") and isinstance(value, int) else str(value)


_ACTIONS: Final[Mapping[str, Action]] = {
    "list": list_operations,
    "show": show_operation,
    "watch": watch_operation,
    "cancel": cancel_operation,
}
