"""The command `headwater`: parses the arguments, and imports the module of one command.

Imports little, so that wrong usage is reported without delay.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module

from headwater.cli.errors import BROKEN_PIPE, INTERRUPTED, NO_SERVER, USAGE, NoServer, UsageError
from headwater.cli.table import COMMANDS, GROUPS
from headwater.cli.usage import Command, add_commands
from headwater.server.errors import StartupError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. A failure prints one line and exits 1, wrong usage exits 2, and an absent server 3."""
    parsed = _parser().parse_args(arguments)
    try:
        _run(parsed.chosen, dict(os.environ), parsed)
        sys.stdout.flush()
    except NoServer as error:
        _end(error, NO_SERVER)
    except UsageError as error:
        _end(error, USAGE)
    except StartupError as error:
        sys.exit(f"headwater: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # the interpreter flushes standard output when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def _end(error: StartupError, status: int) -> None:
    print(f"headwater: {error}", file=sys.stderr)
    sys.exit(status)


def _run(command: Command, environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    if command.local:
        _find(command.local)(environ, arguments)
        return
    from headwater.cli.api import given_url, open_api

    if command.direct and (not command.run or given_url(environ, arguments) is None):
        from headwater.cli.direct import run_direct

        run_direct(command, _find(command.direct), environ, arguments)
        return
    if getattr(arguments, "database_url", None) is not None:
        raise UsageError("--database-url and --url exclude each other: the API knows its database")
    _find(command.run)(open_api(environ, arguments), arguments)


def _find(name: str) -> Callable[..., None]:
    module, _, function = name.partition(":")
    found: Callable[..., None] = getattr(import_module(f"headwater.cli.{module}"), function)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headwater",
        description="An open customer data platform.",
        epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 3 no response from the server, 130 after Ctrl-C.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    add_commands(parser, GROUPS, COMMANDS)
    return parser


class _Version(argparse.Action):
    """Prints the version. It imports importlib.metadata only when it is used, because that import is slow."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"headwater {version('headwater')}")
        parser.exit()
