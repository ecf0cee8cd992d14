"""Commands on the database itself, without a server. They say so on standard error."""

import argparse
import sys
from collections.abc import Callable, Mapping

from headwater.cli.errors import UsageError
from headwater.cli.usage import WORKSPACE, Command
from headwater.server.settings import Settings, read

Run = Callable[[Settings, argparse.Namespace], None]


def run_direct(command: Command, run: Run, environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Run a command on the database that the settings name. Raises StartupError."""
    settings = read(environ, {"data_dir": arguments.data_dir, "database_url": arguments.database_url})
    if command.run:
        own = {argument.name for argument in command.arguments}
        if arguments.workspace is not None and WORKSPACE.name not in own:
            raise UsageError("--workspace is for calls of the API: add --url, or set HEADWATER_URL")
        print(f"headwater: using {_describe(settings)} directly; --url uses the API", file=sys.stderr)
    run(settings, arguments)


def _describe(settings: Settings) -> str:
    return f"the database in {settings.data_dir}" if settings.database_url is None else "the PostgreSQL database"
