"""`headwater keys`: API keys."""

import argparse
import sys

from headwater.catalog import ApiKey, Catalog
from headwater.management import api_keys
from headwater.server.commands.printing import identifier, table
from headwater.server.errors import StartupError


async def create(catalog: Catalog, arguments: argparse.Namespace) -> None:
    """Print the new key alone on standard output, so that it can be assigned to a variable."""
    created = await api_keys.create_api_key(
        catalog,
        None,
        arguments.name,
        _workspace(catalog, arguments),
        access="Read" if arguments.read_only else "Full",
    )
    print(f"API key {created.key.id} opens {_opens(created.key)}. It is shown only now:", file=sys.stderr)
    print(created.token)


async def show(catalog: Catalog, arguments: argparse.Namespace) -> None:
    rows = [
        (str(key.id), key.hint, _opens(key), key.created_at.strftime("%Y-%m-%d %H:%M"), key.name)
        for key in api_keys.list_api_keys(catalog, None)
    ]
    print(table(("ID", "KEY", "OPENS", "CREATED (UTC)", "NAME"), rows))


async def revoke(catalog: Catalog, arguments: argparse.Namespace) -> None:
    await api_keys.delete_api_key(catalog, None, identifier(arguments.id))


def _workspace(catalog: Catalog, arguments: argparse.Namespace) -> int | None:
    """What the new key is to open: a key that opens everything must be asked for."""
    if arguments.every_workspace:
        return None
    if arguments.workspace is not None:
        return identifier(arguments.workspace)
    workspaces = catalog.workspaces()
    if len(workspaces) != 1:
        raise StartupError(
            f"there are {len(workspaces)} workspaces: say which one the key opens with --workspace ID, or "
            "--every-workspace"
        )
    return workspaces[0].id


def _opens(key: ApiKey) -> str:
    opens = "every workspace" if key.workspace is None else f"workspace {key.workspace}"
    return f"{opens}, read-only" if key.access == "Read" else opens
