"""`headwater events`: the events that are stored."""

import argparse
from pathlib import Path

from headwater.base.clock import SystemClock
from headwater.catalog import Catalog
from headwater.server.commands.printing import identifier, table
from headwater.server.errors import StartupError
from headwater.server.settings import Settings
from headwater.storage.database import sqlite_url
from headwater.warehouse import open_warehouse


async def export(settings: Settings, catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Write Parquet files, and print a table of them."""
    try:
        from headwater.warehouse.parquet import export_events
    except ModuleNotFoundError as error:
        raise StartupError("exporting Parquet files needs pyarrow: install headwater[parquet]") from error
    workspaces = _workspaces(catalog, arguments.workspace)
    if settings.database_url is None and not settings.warehouse_path.is_file():
        raise StartupError(f"no events have been stored in {settings.data_dir} yet")
    url = settings.database_url or sqlite_url(settings.warehouse_path)
    rows = []
    async with open_warehouse(url, writes=False, clock=SystemClock()) as warehouse:
        for workspace in workspaces:
            exported = await export_events(
                warehouse, workspace, Path(arguments.parquet), since=arguments.since, until=arguments.until
            )
            rows += [(str(workspace), str(day.day), str(day.events), str(day.path)) for day in exported]
    print(table(("WORKSPACE", "DAY", "EVENTS", "FILE"), rows))


def _workspaces(catalog: Catalog, wanted: str | None) -> list[int]:
    workspaces = [workspace.id for workspace in catalog.workspaces()]
    if wanted is None:
        return workspaces
    if identifier(wanted) not in workspaces:
        raise StartupError(f"there is no workspace {identifier(wanted)}")
    return [identifier(wanted)]
