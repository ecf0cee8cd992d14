"""The commands of runs, operations, API keys, workspaces and secrets."""

from typing import Final

from headwater.cli.table.shared import DIRECT, FILTER, ID, LIMIT
from headwater.cli.usage import Argument, Command, flag, option

_SENDING: Final = (
    option("--since", "TIME", "the first time, such as 2026-11-30T00:00:00Z"),
    option("--until", "TIME", "the time after the last"),
    flag("--validate-only", "print how many there are, and send nothing"),
    flag("--watch", "show a progress bar until the operation ends; exit 1 if it does not complete"),
)

WORK: Final = (
    Command(
        "runs",
        "start",
        "start a run of a pipeline and print its id",
        (
            Argument("id", "the number of the pipeline", "PIPELINE"),
            Argument(
                "--incremental",
                "read only what changed since the last run, or everything; the setting of the pipeline if absent",
                kind="toggle",
                is_required=False,
            ),
            flag("--full", "send also what the destination has already"),
        ),
        run="work:start_run",
        direct="catalog_commands:run",
        description="Start a run of a pipeline and print its id." + DIRECT,
    ),
    Command(
        "runs",
        "list",
        "list the latest runs",
        (
            option("--workspace", "ID", "list only those of this workspace"),
            option("--pipeline", "ID", "list only those of this pipeline"),
            LIMIT,
        ),
        run="work:list_runs",
        direct="catalog_commands:run",
        description="List the latest runs." + DIRECT,
    ),
    Command("runs", "show", "show a run", (ID,), run="work:show_run"),
    Command("runs", "errors", "list the reasons why records of a run failed", (ID, LIMIT), run="work:list_run_errors"),
    *(
        Command(
            "runs",
            action,
            text,
            (ID,),
            run=f"work:{action}_run",
            direct="catalog_commands:run",
            description=f"{text.capitalize()}." + DIRECT,
        )
        for action, text in (
            ("watch", "show a progress bar until a run ends; exit 1 if it does not succeed"),
            ("cancel", "end a run within some seconds"),
        )
    ),
    Command(
        "operations",
        "resend",
        "send dead letters again and print the id of the operation",
        (
            option("--destination", "ID", "only those of this destination"),
            option("--pipeline", "ID", "only those of this pipeline"),
            option("--reason", "REASON", "only those with this reason, such as Rejected"),
            *_SENDING,
        ),
        run="work:resend",
    ),
    Command(
        "operations",
        "replay",
        "send stored events to a pipeline again and print the id of the operation",
        (Argument("pipeline", "the number of the pipeline of a destination", "PIPELINE"), FILTER, *_SENDING),
        run="work:replay",
    ),
    Command(
        "operations",
        "list",
        "list the latest operations",
        (option("--workspace", "ID", "list only those of this workspace"), LIMIT),
        run="work:list_operations",
        direct="catalog_commands:run",
        description="List the latest operations." + DIRECT,
    ),
    *(
        Command(
            "operations",
            action,
            text,
            (ID,),
            run=f"work:{action}_operation",
            direct="catalog_commands:run",
            description=f"{text.capitalize()}." + DIRECT,
        )
        for action, text in (
            ("show", "show an operation and its parameters"),
            ("watch", "show a progress bar until an operation ends; exit 1 if it does not complete"),
            ("cancel", "end an operation after its present step"),
        )
    ),
)

ACCESS: Final = (
    Command(
        "keys",
        "create",
        "create an API key and print it once",
        (
            Argument("name", "a name for people", "NAME"),
            option("--workspace", "ID", "the workspace of the key; required if there are several"),
            flag("--every-workspace", "the key is valid for all workspaces, and can create workspaces"),
            flag("--read-only", "the key can only read: GET calls"),
        ),
        run="access:create_key",
        direct="catalog_commands:run",
        description="Create an API key and print it once." + DIRECT,
        exclusive=("--workspace", "--every-workspace"),
    ),
    Command(
        "keys",
        "list",
        "list the API keys, without their secrets",
        run="access:list_keys",
        direct="catalog_commands:run",
        description="List the API keys, without their secrets." + DIRECT,
    ),
    Command(
        "keys",
        "revoke",
        "revoke an API key",
        (ID,),
        run="access:revoke_key",
        direct="catalog_commands:run",
        description="Revoke an API key." + DIRECT,
    ),
    Command(
        "workspaces",
        "create",
        "create a workspace and print its id",
        (Argument("name", "a name for people", "NAME"),),
        run="access:create_workspace",
        direct="catalog_commands:run",
        description="Create a workspace and print its id." + DIRECT,
    ),
    Command(
        "workspaces",
        "list",
        "list the workspaces",
        run="access:list_workspaces",
        direct="catalog_commands:run",
        description="List the workspaces." + DIRECT,
    ),
    Command("workspaces", "get", "show the workspace of the API key", run="access:get_workspace"),
    Command(
        "workspaces",
        "delete",
        "delete a workspace, its connections, pipelines and keys; stored events are kept",
        (ID,),
        run="access:delete_workspace",
        direct="catalog_commands:run",
        description="Delete a workspace, its connections, pipelines and keys. Stored events are kept." + DIRECT,
    ),
    Command(
        "secrets",
        "rotate",
        "encrypt the settings of all connections with the present key",
        direct="catalog_commands:run",
        has_json=False,
        description="Encrypt the settings of all connections with the present key (HEADWATER_SECRET_KEY, or the file "
        "secret-key in the data directory). Older keys are read from HEADWATER_OLD_SECRET_KEYS, separated by commas; "
        "the file counts as an older one while HEADWATER_SECRET_KEY is set.",
    ),
)
