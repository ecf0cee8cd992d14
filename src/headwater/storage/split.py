"""Moves the operational tables of an installation on SQLite from warehouse.db into their own file, state.db.

Earlier releases kept both in one file. The tables are copied in one transaction of state.db, and then deleted from
warehouse.db in another one: after a kill at any moment every row is in at least one of the files, and the next call
continues. Only the standard library is imported: the supervisor calls this before it starts anything.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from headwater.base.errors import UnusableDatabase

FORMER_REVISION_TABLE: Final = "warehouse_revision"
"""The table with the revision of the tables in their former file or schema."""
REVISION_TABLE: Final = "state_revision"
STATE_TABLES: Final = (
    "messages",
    "identities",
    "devices",
    "traits",
    "rejected_events",
    "refusals",
    "rejection_counts",
    "calls",
    "lanes",
    "lane_chunks",
    "lane_bodies",
    "progress",
)
"""The tables that earlier releases may have next to `events`, at any of their revisions."""
_KEPT: Final = "progress"
"""The table with the position up to which the warehouse has loaded events. The warehouse keeps a copy."""
_COPIED: Final = 1
"""The `user_version` of a state.db whose tables are still in warehouse.db, too."""


def split_state(warehouse: Path, state: Path) -> bool:
    """Move the operational tables from one file to the other. Return whether anything was moved.

    The caller ensures that no other process uses the files. Raises UnusableDatabase if they cannot be read or written,
    or do not belong together.
    """
    if not warehouse.exists():
        return False
    try:
        with closing(_connect(warehouse)) as old:
            if not _has_table(old, FORMER_REVISION_TABLE):
                return False
        with closing(_connect(state)) as new:
            if not _has_table(new, REVISION_TABLE):
                _copy(new, warehouse)
            elif _user_version(new) != _COPIED:
                raise UnusableDatabase(
                    f"{warehouse} is of an earlier release, but {state} exists: restore both files from the same backup"
                )
        _sync(state.parent)
        with closing(_connect(warehouse)) as old:
            _remove(old)
        with closing(_connect(state)) as new:
            new.execute("PRAGMA user_version = 0")
    except sqlite3.Error as error:
        raise UnusableDatabase(f"the tables of {warehouse} cannot be moved to {state}: {error}") from error
    return True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _copy(new: sqlite3.Connection, warehouse: Path) -> None:
    new.execute("ATTACH ? AS old", (str(warehouse),))
    new.execute("BEGIN IMMEDIATE")
    for table in _tables(new, "old"):
        definition, indexes = _definitions(new, table)
        new.execute(definition)
        new.execute(f"INSERT INTO main.{table} SELECT * FROM old.{table}")
        for index in indexes:
            new.execute(index)
    new.execute(f"CREATE TABLE {REVISION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    new.execute(f"INSERT INTO {REVISION_TABLE} SELECT version_num FROM old.{FORMER_REVISION_TABLE}")
    new.execute(f"PRAGMA user_version = {_COPIED}")
    new.execute("COMMIT")


def _definitions(new: sqlite3.Connection, table: str) -> tuple[str, list[str]]:
    """Return the statements that create a table and its indexes in the attached file."""
    query = "SELECT type, sql FROM old.sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type = 'index'"
    (_, definition), *indexes = new.execute(query, (table,))
    return definition, [sql for _, sql in indexes]


def _remove(old: sqlite3.Connection) -> None:
    old.execute("BEGIN IMMEDIATE")
    for table in _tables(old, "main"):
        if table != _KEPT:
            old.execute(f"DROP TABLE {table}")
    old.execute(f"DROP TABLE {FORMER_REVISION_TABLE}")
    old.execute("COMMIT")


def _tables(connection: sqlite3.Connection, schema: str) -> list[str]:
    names = {name for (name,) in connection.execute(f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table'")}
    return [table for table in STATE_TABLES if table in names]


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _sync(folder: Path) -> None:
    """Make the name of a created file durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
