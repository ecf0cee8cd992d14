"""The commands of connections, pipelines and connectors."""

from typing import Final

from headwater.cli.table.shared import CONNECTION, FILE, ID
from headwater.cli.usage import Argument, Command, flag, option

_CONNECTION_MEMBERS: Final = (
    option("--name", "NAME", "a name for people"),
    option(
        "--strategy",
        "STRATEGY",
        "what happens to an anonymous user who logs in or out",
        choices=("Conversion", "Fusion", "Isolation", "Preservation"),
    ),
    option("--settings", "FILE", "a file with the settings of the connector as JSON; - for standard input"),
)
CONNECTIONS: Final = (
    Command(
        "connections",
        "list",
        "list the connections of the workspace",
        (option("--role", "ROLE", "only sources or destinations", choices=("Source", "Destination")),),
        run="connections:list_connections",
    ),
    Command("connections", "get", "show a connection", (ID,), run="connections:get_connection"),
    Command(
        "connections",
        "create",
        "create a connection and print its id",
        (
            FILE,
            *_CONNECTION_MEMBERS,
            option("--connector", "CODE", "the code of the connector, such as javascript"),
            option("--role", "ROLE", "Source or Destination", choices=("Source", "Destination")),
        ),
        run="connections:create_connection",
        description="Create a connection and print its id alone. Options replace members of the JSON object in FILE.",
    ),
    Command(
        "connections",
        "update",
        "change the members of a connection that are given",
        (ID, FILE, *_CONNECTION_MEMBERS),
        run="connections:update_connection",
    ),
    Command(
        "connections", "delete", "delete a connection and its pipelines", (ID,), run="connections:delete_connection"
    ),
    Command(
        "connections",
        "test",
        "show whether a call with a key of the connection has arrived",
        (ID,),
        run="connections:test_connection",
    ),
    *(
        Command(
            "connections",
            action,
            text,
            (
                Argument("source", "the id of the source", "SOURCE"),
                Argument("destination", "the id of the destination", "DESTINATION"),
            ),
            run=f"connections:{action}_connections",
        )
        for action, text in (
            ("link", "let the events of a source reach a destination"),
            ("unlink", "stop the events of a source from reaching a destination"),
        )
    ),
    Command(
        "connections", "keys", "list the event write keys of a connection", (ID,), run="connections:list_write_keys"
    ),
    Command(
        "connections",
        "create-key",
        "add an event write key to a connection and print it",
        (ID,),
        run="connections:create_write_key",
    ),
    Command(
        "connections",
        "delete-key",
        "delete an event write key of a connection",
        (ID, Argument("key", "the key; - to read it from standard input", "KEY")),
        run="connections:delete_write_key",
    ),
)

PIPELINES: Final = (
    Command(
        "pipelines", "list", "list the pipelines of the workspace", (CONNECTION,), run="connections:list_pipelines"
    ),
    Command("pipelines", "get", "show a pipeline", (ID,), run="connections:get_pipeline"),
    Command(
        "pipelines",
        "create",
        "create a pipeline and print its id",
        (
            FILE,
            option("--connection", "ID", "the connection of the pipeline"),
            option("--target", "TARGET", "Event or User", choices=("Event", "User")),
            option("--name", "NAME", "a name for people"),
            flag("--enabled", "enable it"),
        ),
        run="connections:create_pipeline",
        description="Create a pipeline and print its id alone. Options replace members of the JSON object in FILE.",
    ),
    Command(
        "pipelines",
        "suggest",
        "print a pipeline as most people want it, for create",
        (
            option("--connection", "ID", "the connection of the pipeline", is_required=True),
            option("--target", "TARGET", "Event or User", choices=("Event", "User"), default="Event"),
            option("--event-type", "TYPE", "the event type to send to an application"),
        ),
        run="connections:suggest_pipeline",
        description="Print a pipeline with the suggested filter and mapping. Create it with: headwater pipelines "
        "suggest ... | headwater pipelines create -",
    ),
    Command(
        "pipelines",
        "update",
        "replace a pipeline by a JSON object",
        (ID, Argument("file", FILE.help, "FILE")),
        run="connections:update_pipeline",
    ),
    Command("pipelines", "enable", "enable a pipeline", (ID,), run="connections:enable_pipeline"),
    Command("pipelines", "disable", "disable a pipeline", (ID,), run="connections:disable_pipeline"),
    Command("pipelines", "delete", "delete a pipeline", (ID,), run="connections:delete_pipeline"),
    Command(
        "pipelines",
        "run",
        "start a run of a batch pipeline and print its id",
        (
            ID,
            Argument(
                "--incremental",
                "read only what changed since the last run, or everything; the setting of the pipeline if absent",
                kind="toggle",
                is_required=False,
            ),
            flag("--full", "send also what the destination has already"),
            flag("--watch", "show a progress bar until the run ends; exit 1 if it does not succeed"),
        ),
        run="work:start_run",
    ),
)

CONNECTORS: Final = (
    Command(
        "connectors",
        "list",
        "list the connectors",
        (flag("--available", "only those that connections can be created of"),),
        run="connections:list_connectors",
    ),
    Command(
        "connectors",
        "get",
        "show a connector and its settings",
        (Argument("code", "the code that `headwater connectors list` shows", "CODE"),),
        run="connections:get_connector",
    ),
)
