"""The command line: `headwater serve`, and the commands for operators.

Imports little, so that wrong usage is reported without delay.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headwater.server.errors import StartupError
from headwater.server.usage import add_commands

if TYPE_CHECKING:
    from headwater.server.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. A start that fails prints one line and exits 1; wrong usage exits 2."""
    parsed = _parser().parse_args(arguments)
    from headwater.server.settings import read

    environ = dict(os.environ)
    environ.setdefault("HEADWATER_LOG_FORMAT", "text" if sys.stderr.isatty() else "json")
    flags = {name: value for name, value in vars(parsed).items() if name != "command"}
    try:
        _run(read(environ, flags), parsed)
    except StartupError as error:
        sys.exit(f"headwater: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _run(settings: "Settings", parsed: argparse.Namespace) -> None:
    if parsed.command == "serve":
        from headwater.server.supervisor import serve

        serve(settings)
    else:
        from headwater.server.commands import run

        run(settings, parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headwater", description="An open customer data platform.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the whole system in the foreground",
        description="Run the whole system in the foreground until Ctrl-C or SIGTERM.",
        epilog="Secrets are read from the environment only, because other users can read a command line: "
        "HEADWATER_API_KEY (registered at the first start; without it one is generated), HEADWATER_SECRET_KEY "
        "(encrypts the settings of connections; without it one is generated) and HEADWATER_OLD_SECRET_KEYS.",
    )
    for flag, metavar, text in (
        ("--host", "ADDRESS", "IP address to listen on [HEADWATER_HOST, 127.0.0.1]"),
        ("--port", "PORT", "the one public port [HEADWATER_PORT, 8080]"),
        ("--data-dir", "FOLDER", "folder of all data [HEADWATER_DATA_DIR, ./data]"),
        (
            "--database-url",
            "URL",
            "postgresql://user@host/database; with a password only in [HEADWATER_DATABASE_URL, DATABASE_URL]; "
            "without it SQLite files in the data directory",
        ),
        (
            "--nats-url",
            "URL",
            "nats://host:4222, the event log; with credentials only in [HEADWATER_NATS_URL]; without it a file in "
            "the data directory",
        ),
        ("--backends", "NUMBER", "backend processes, 1 to 64 [HEADWATER_BACKENDS, 1]"),
        (
            "--metrics-port",
            "PORT",
            "private port of Prometheus metrics [HEADWATER_METRICS_PORT, none]",
        ),
        ("--metrics-host", "ADDRESS", "IP address of the metrics port [HEADWATER_METRICS_HOST, 127.0.0.1]"),
        ("--maxmind-db", "FILE", "database of the locations of IP addresses [HEADWATER_MAXMIND_DB, none]"),
        ("--log-level", "LEVEL", "debug, info, warning or error [HEADWATER_LOG_LEVEL, info]"),
        ("--log-format", "FORMAT", "json or text [HEADWATER_LOG_FORMAT, text on a terminal]"),
    ):
        serve.add_argument(flag, metavar=metavar, help=text)
    serve.add_argument("--workers", dest="backends", help=argparse.SUPPRESS)  # the earlier name of --backends
    add_commands(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version. It imports importlib.metadata only when it is used, because that import is slow."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"headwater {version('headwater')}")
        parser.exit()


if __name__ == "__main__":
    main()
