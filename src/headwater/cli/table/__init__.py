"""The table of all commands. It imports no slow module: the functions are named, and imported when they run."""

from typing import Final

from headwater.cli.table.administration import ACCESS, WORK
from headwater.cli.table.connections import CONNECTIONS, CONNECTORS, PIPELINES
from headwater.cli.table.data import DATA
from headwater.cli.table.events import ERASURES, EVENTS, PROFILES
from headwater.cli.table.serve import SERVE
from headwater.cli.usage import Argument, Command, flag, option

GROUPS: Final = {
    "connections": "list, create, change, link and delete connections, and their event write keys",
    "pipelines": "list, create, enable, run and delete pipelines",
    "events": "list, count, watch, trace and export events",
    "profiles": "list, read, explain and export profiles",
    "erasures": "erase persons",
    "runs": "start, list, watch and cancel runs of batch pipelines",
    "operations": "list, show, watch and cancel re-sends and replays",
    "connectors": "list the connectors",
    "keys": "create, list and revoke API keys",
    "workspaces": "create, list and delete workspaces",
    "secrets": "manage the encryption of settings",
}
"""The groups of commands with their help texts."""

SHELLS: Final = ("bash", "zsh", "fish")

_LOCAL: Final = (
    SERVE,
    Command(
        "",
        "doctor",
        "check this installation, and say what to do about each problem",
        (
            option("--url", "URL", "address of the running server [HEADWATER_URL, the port of this machine]"),
            option("--data-dir", "FOLDER", "folder of all data [HEADWATER_DATA_DIR, ./data]"),
        ),
        local="doctor.report:run",
        description="Check the installation of this machine: settings, disk, clock, databases, sandboxes, ports, and "
        "the running server. Each check is ok, a warning or a problem, with the remedy. The exit status is 1 if there "
        "is a problem. Nothing is changed.",
    ),
    Command(
        "",
        "health",
        "check that the server of this machine serves calls, for the health check of a container",
        local="health:run",
        has_json=False,
    ),
    Command(
        "",
        "settings",
        "list every setting with its meaning, default and value",
        (flag("--changed", "only those that differ from the default"),),
        local="settings_command:run",
    ),
    Command(
        "",
        "completion",
        "print the completion script of a shell",
        (Argument("shell", "bash, zsh or fish", "SHELL", choices=SHELLS),),
        local="completion:run",
        has_json=False,
    ),
    Command("", "version", "print the version", local="version:run"),
)

COMMANDS: Final = (
    *_LOCAL,
    *DATA,
    *CONNECTIONS,
    *PIPELINES,
    *EVENTS,
    *PROFILES,
    *ERASURES,
    *WORK,
    *CONNECTORS,
    *ACCESS,
)
"""All commands."""
