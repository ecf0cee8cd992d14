"""Runs a command on the catalog of an installation."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from headwater.base.clock import SystemClock
from headwater.base.errors import HeadwaterError, UnusableDatabase
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, open_catalog
from headwater.server.commands import events, keys, secrets, workspaces
from headwater.server.errors import StartupError
from headwater.server.secrets import keyring
from headwater.server.settings import Settings
from headwater.storage.database import sqlite_url

Action = Callable[[Catalog, argparse.Namespace], Awaitable[None]]

_ACTIONS: Final[Mapping[tuple[str, str], Action]] = {
    ("keys", "create"): keys.create,
    ("keys", "list"): keys.show,
    ("keys", "revoke"): keys.revoke,
    ("workspaces", "create"): workspaces.create,
    ("workspaces", "list"): workspaces.show,
    ("workspaces", "delete"): workspaces.delete,
    ("secrets", "rotate"): secrets.rotate,
}


def run(settings: Settings, arguments: argparse.Namespace) -> None:
    """Run the command that the arguments name. Raises StartupError, with one line, when it cannot be done."""
    os.umask(0o077)
    try:
        asyncio.run(_run(settings, arguments))
    except HeadwaterError as error:
        raise StartupError(error.message) from error
    except UnusableDatabase as error:
        raise StartupError(str(error)) from error


async def _run(settings: Settings, arguments: argparse.Namespace) -> None:
    if settings.database_url is None and not settings.catalog_path.is_file():
        raise StartupError(
            f"nothing has been set up in {settings.data_dir} yet: start `headwater serve` once, or change "
            "HEADWATER_DATA_DIR"
        )
    url = settings.database_url or sqlite_url(settings.catalog_path)
    keys_given = keyring(settings, make=False) if arguments.command == "secrets" else None
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers(), keyring=keys_given) as catalog:
        if arguments.command == "events":
            await events.export(settings, catalog, arguments)
        else:
            await _ACTIONS[arguments.command, arguments.action](catalog, arguments)
