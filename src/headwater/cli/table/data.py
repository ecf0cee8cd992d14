"""The commands that copy and move the data of an installation."""

from typing import Final

from headwater.cli.usage import Argument, Command

DATA: Final = (
    Command(
        "",
        "backup",
        "copy the data directory to a folder, also while the server runs",
        (Argument("folder", "a folder that is empty or does not exist", "FOLDER"),),
        direct="backup:run_backup",
        description="Copy the data directory to an empty folder, in the state of one moment, also while the server "
        "runs. The copy contains the secret key: keep it private. Databases in PostgreSQL are not copied.",
        has_json=False,
    ),
    Command(
        "",
        "restore",
        "copy a backup to an empty data directory",
        (Argument("folder", "the folder of a backup", "FOLDER"),),
        direct="backup:run_restore",
        description="Copy a backup to an empty data directory. A restore that was interrupted is repeated.",
        has_json=False,
    ),
    Command(
        "",
        "migrate-data",
        "move an installation from SQLite to an empty PostgreSQL database",
        direct="migrating:run",
        description="Move everything but the event log from the SQLite files of the data directory to the empty "
        "PostgreSQL database at HEADWATER_DATABASE_URL, in one transaction. The server is stopped meanwhile. The files "
        "are not changed.",
        has_json=False,
    ),
)
