"""The arguments of the commands for operators. It imports no slow module."""

import argparse
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # generic in the stubs only


def add_commands(commands: "Commands") -> None:
    """Add `keys`, `workspaces`, `events`, `runs`, `operations` and `secrets`, each with its actions."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--data-dir", metavar="FOLDER", help="folder of all data [HEADWATER_DATA_DIR, ./data]")
    where.add_argument(
        "--database-url",
        metavar="URL",
        help="the database, if it is not in the data directory; a URL with a password only in "
        "[HEADWATER_DATABASE_URL, DATABASE_URL]",
    )

    keys = _actions(commands, "keys", "create, list and revoke API keys")
    create = keys.add_parser("create", parents=[where], help="create an API key and print it once")
    create.add_argument("name", metavar="NAME", help="a name for people")
    opens = create.add_mutually_exclusive_group()
    opens.add_argument("--workspace", metavar="ID", help="the workspace of the key; required if there are several")
    opens.add_argument(
        "--every-workspace", action="store_true", help="the key is valid for all workspaces, and can create workspaces"
    )
    create.add_argument("--read-only", action="store_true", help="the key can only read: GET calls")
    keys.add_parser("list", parents=[where], help="list the API keys, without their secrets")
    revoke = keys.add_parser("revoke", parents=[where], help="revoke an API key")
    revoke.add_argument("id", metavar="ID", help="the number that `headwater keys list` shows")

    workspaces = _actions(commands, "workspaces", "create, list and delete workspaces")
    create = workspaces.add_parser("create", parents=[where], help="create a workspace and print its identifier")
    create.add_argument("name", metavar="NAME", help="a name for people")
    workspaces.add_parser("list", parents=[where], help="list the workspaces")
    delete = workspaces.add_parser(
        "delete",
        parents=[where],
        help="delete a workspace, its connections, pipelines and keys; stored events are kept",
    )
    delete.add_argument("id", metavar="ID", help="the number that `headwater workspaces list` shows")

    events = _actions(commands, "events", "export stored events")
    export = events.add_parser(
        "export",
        parents=[where],
        help="write events as Parquet files",
        description="Write the events of a workspace, or of all, as Parquet files, one for each day of the events' "
        "timestamps (UTC): FOLDER/workspace=ID/day=YYYY-MM-DD/events.parquet. Existing files are replaced. Needs "
        "the extra headwater[parquet].",
    )
    export.add_argument(
        "--parquet", metavar="FOLDER", required=True, help="the folder to write to; created if it is missing"
    )
    export.add_argument("--workspace", metavar="ID", help="export only this workspace")
    export.add_argument("--since", metavar="DATE", type=date.fromisoformat, help="the first day, as YYYY-MM-DD")
    export.add_argument("--until", metavar="DATE", type=date.fromisoformat, help="the day after the last")

    runs = _actions(commands, "runs", "start, list, watch and cancel runs of batch pipelines")
    begin = runs.add_parser("start", parents=[where], help="start a run of a pipeline and print its id")
    begin.add_argument("id", metavar="PIPELINE", help="the number of the pipeline")
    begin.add_argument(
        "--incremental",
        action=argparse.BooleanOptionalAction,
        help="read only what changed since the last run, or everything; the setting of the pipeline if absent",
    )
    begin.add_argument("--full", action="store_true", help="send also what the destination has already")
    listed = runs.add_parser("list", parents=[where], help="list the latest runs")
    listed.add_argument("--workspace", metavar="ID", help="list only those of this workspace")
    listed.add_argument("--pipeline", metavar="ID", help="list only those of this pipeline")
    for name, text in (
        ("watch", "show a progress bar until a run ends; exit 1 if it does not succeed"),
        ("cancel", "end a run within some seconds"),
    ):
        action = runs.add_parser(name, parents=[where], help=text)
        action.add_argument("id", metavar="ID", help="the number that `headwater runs list` shows")

    operations = _actions(commands, "operations", "list, show, watch and cancel re-sends and replays")
    listed = operations.add_parser("list", parents=[where], help="list the latest operations")
    listed.add_argument("--workspace", metavar="ID", help="list only those of this workspace")
    for name, text in (
        ("show", "show an operation and its parameters"),
        ("watch", "show a progress bar until an operation ends; exit 1 if it does not complete"),
        ("cancel", "end an operation after its present step"),
    ):
        action = operations.add_parser(name, parents=[where], help=text)
        action.add_argument("id", metavar="ID", help="the number that `headwater operations list` shows")

    secrets = _actions(commands, "secrets", "manage the encryption of settings")
    secrets.add_parser(
        "rotate",
        parents=[where],
        help="encrypt the settings of all connections with the present key",
        description="Encrypt the settings of all connections with the present key (HEADWATER_SECRET_KEY, or the file "
        "secret-key in the data directory). Older keys are read from HEADWATER_OLD_SECRET_KEYS, separated by commas; "
        "the file counts as an older one while HEADWATER_SECRET_KEY is set.",
    )


def _actions(commands: "Commands", name: str, text: str) -> "Commands":
    parser = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")
