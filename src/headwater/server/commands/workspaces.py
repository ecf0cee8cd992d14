"""`headwater workspaces`: workspaces."""

import argparse

from headwater.catalog import Catalog
from headwater.management import workspaces
from headwater.server.commands.printing import identifier, table


async def create(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Print the identifier of the new workspace alone."""
    print((await workspaces.create_workspace(catalog, None, arguments.name)).id)


async def show(catalog: Catalog, arguments: argparse.Namespace) -> None:
    rows = [
        (
            str(workspace.id),
            str(len(catalog.connections(workspace.id))),
            workspace.created_at.strftime("%Y-%m-%d %H:%M"),
            workspace.name,
        )
        for workspace in workspaces.list_workspaces(catalog, None)
    ]
    print(table(("ID", "CONNECTIONS", "CREATED (UTC)", "NAME"), rows))


async def delete(catalog: Catalog, arguments: argparse.Namespace) -> None:
    await workspaces.delete_workspace(catalog, identifier(arguments.id))
