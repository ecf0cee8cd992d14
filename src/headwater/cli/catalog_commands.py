"""The commands for operators: API keys, workspaces, secrets, runs, operations and the export of events.

They work on the catalog directly, with or without a running server. A running server sees the changes within a second.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from headwater.base.clock import SystemClock
from headwater.base.errors import HeadwaterError, UnusableDatabase
from headwater.base.identifiers import Identifiers
from headwater.catalog import ApiKey, Catalog, open_catalog
from headwater.cli.api import print_table
from headwater.cli.documents import print_document, print_message
from headwater.cli.progress import ProgressView
from headwater.cli.tables import parse_identifier
from headwater.management import api_keys, secrets, workspaces
from headwater.server import preflight
from headwater.server.errors import StartupError
from headwater.server.secrets import keyring
from headwater.server.settings import Settings
from headwater.storage.database import sqlite_url
from headwater.warehouse import open_warehouse

Action = Callable[[Catalog, argparse.Namespace], Awaitable[None]]


def run(settings: Settings, arguments: argparse.Namespace) -> None:
    """Run the command that the arguments name. Raises StartupError with one line if it fails."""
    os.umask(0o077)
    try:
        asyncio.run(_run(settings, arguments))
    except HeadwaterError as error:
        raise StartupError(error.message) from error
    except UnusableDatabase as error:
        raise StartupError(str(error)) from error


async def _run(settings: Settings, arguments: argparse.Namespace) -> None:
    preflight.check_not_moved(settings)
    if settings.database_url is None and not settings.catalog_path.is_file():
        raise StartupError(
            f"nothing has been set up in {settings.data_dir} yet: start `headwater serve` once, or change "
            "HEADWATER_DATA_DIR"
        )
    if arguments.command == "operations":
        from headwater.cli.operation_commands import run_operation_command

        await run_operation_command(settings, arguments)
        return
    if arguments.command == "runs":
        from headwater.cli.run_commands import run_run_command

        await run_run_command(settings, arguments)
        return
    url = settings.database_url or sqlite_url(settings.catalog_path)
    keys = keyring(settings, create=False) if arguments.command == "secrets" else None
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), keyring=keys) as catalog:
        if arguments.command == "events":
            await export_events(settings, catalog, arguments)
        else:
            await _ACTIONS[arguments.command, arguments.action](catalog, arguments)


async def create_key(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Create an API key. Standard output gets the key alone, so that it can be assigned to a variable."""
    created = await api_keys.create_api_key(
        catalog,
        None,
        arguments.name,
        _key_workspace(catalog, arguments),
        access="Read" if arguments.read_only else "Full",
    )
    if arguments.json:
        print_document({"id": created.key.id, "token": created.token})
        return
    print(f"API key {created.key.id} opens {_scope(created.key)}. It is shown only now:", file=sys.stderr)
    print(created.token)


async def list_keys(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Print the API keys, without their secrets."""
    if arguments.json:
        from headwater.api.services.api_keys import key_message  # importing gRPC takes time

        for key in api_keys.list_api_keys(catalog, None):
            print_message(key_message(key))
        return
    rows = [
        (str(key.id), key.hint, _scope(key), key.created_at.strftime("%Y-%m-%d %H:%M"), key.name)
        for key in api_keys.list_api_keys(catalog, None)
    ]
    print_table(("ID", "KEY", "OPENS", "CREATED (UTC)", "NAME"), rows)


async def revoke_key(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Delete an API key."""
    await api_keys.delete_api_key(catalog, None, parse_identifier(arguments.id))
    if arguments.json:
        print_document({})


async def create_workspace(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Create a workspace and print its identifier alone."""
    created = await workspaces.create_workspace(catalog, None, arguments.name)
    if arguments.json:
        print_document({"id": created.id})
    else:
        print(created.id)


async def list_workspaces(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Print the workspaces; as JSON their ids and names only."""
    if arguments.json:
        for workspace in workspaces.list_workspaces(catalog, None):
            print_document({"id": workspace.id, "name": workspace.name})
        return
    rows = [
        (
            str(workspace.id),
            str(len(catalog.connections(workspace.id))),
            workspace.created_at.strftime("%Y-%m-%d %H:%M"),
            workspace.name,
        )
        for workspace in workspaces.list_workspaces(catalog, None)
    ]
    print_table(("ID", "CONNECTIONS", "CREATED (UTC)", "NAME"), rows)


async def delete_workspace(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Delete a workspace."""
    await workspaces.delete_workspace(catalog, parse_identifier(arguments.id))
    if arguments.json:
        print_document({})


async def rotate_secrets(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Encrypt all settings and tokens with the present key, and print when earlier keys are no longer needed."""
    rotated, total = await secrets.rotate(catalog)
    rotated_accounts, accounts = await secrets.rotate_tokens(catalog)
    if accounts:
        print(
            f"The tokens of {accounts} OAuth accounts are encrypted with the present key, those of {rotated_accounts} "
            "since now."
        )
    print(
        f"The settings of {total} connections are encrypted with the present key, those of {rotated} since now. "
        "Older keys are no longer needed."
    )


async def export_events(settings: Settings, catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Write events as Parquet files, and print a table of the files."""
    try:
        from headwater.warehouse.parquet import export_events as export
    except ModuleNotFoundError as error:
        raise StartupError("exporting Parquet files needs pyarrow: install headwater[parquet]") from error
    exported_workspaces = _select_workspaces(catalog, arguments.workspace)
    if settings.database_url is None and not settings.warehouse_path.is_file():
        raise StartupError(f"no events have been stored in {settings.data_dir} yet")
    url = settings.database_url or sqlite_url(settings.warehouse_path)
    rows = []
    view, events = ProgressView(sys.stderr), 0

    def show(page: int) -> None:
        nonlocal events
        events += page
        view.show(f"{events} events", is_last=False)

    async with open_warehouse(url, writes=False, clock=SystemClock()) as warehouse:
        for workspace in exported_workspaces:
            days = await export(
                warehouse,
                workspace,
                Path(arguments.parquet),
                since=arguments.since,
                until=arguments.until,
                progress=show,
            )
            rows += [(str(workspace), str(day.day), str(day.events), str(day.path)) for day in days]
    view.close()
    print_table(("WORKSPACE", "DAY", "EVENTS", "FILE"), rows)


_ACTIONS: Final[Mapping[tuple[str, str], Action]] = {
    ("keys", "create"): create_key,
    ("keys", "list"): list_keys,
    ("keys", "revoke"): revoke_key,
    ("workspaces", "create"): create_workspace,
    ("workspaces", "list"): list_workspaces,
    ("workspaces", "delete"): delete_workspace,
    ("secrets", "rotate"): rotate_secrets,
}


def _key_workspace(catalog: Catalog, arguments: argparse.Namespace) -> int | None:
    """Return the workspace of a key to create; None: every workspace, which the operator must request explicitly."""
    if arguments.every_workspace:
        return None
    if arguments.workspace is not None:
        return parse_identifier(arguments.workspace)
    found = catalog.workspaces()
    if len(found) != 1:
        raise StartupError(
            f"there are {len(found)} workspaces: say which one the key opens with --workspace ID, or --every-workspace"
        )
    return found[0].id


def _scope(key: ApiKey) -> str:
    scope = "every workspace" if key.workspace is None else f"workspace {key.workspace}"
    return f"{scope}, read-only" if key.access == "Read" else scope


def _select_workspaces(catalog: Catalog, wanted: str | None) -> list[int]:
    found = [workspace.id for workspace in catalog.workspaces()]
    if wanted is None:
        return found
    if parse_identifier(wanted) not in found:
        raise StartupError(f"there is no workspace {parse_identifier(wanted)}")
    return [parse_identifier(wanted)]
