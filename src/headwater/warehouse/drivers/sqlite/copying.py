"""Reads all events of a warehouse file, to copy them into another warehouse."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from headwater.base.errors import UnusableDatabase
from headwater.warehouse.contract import StoredEvent
from headwater.warehouse.drivers.sqlite.block import HOUR, Block, unpack_counts
from headwater.warehouse.drivers.sqlite.database import VERSION, has_old_rows
from headwater.warehouse.drivers.sqlite.loading import loaded
from headwater.warehouse.drivers.sqlite.removing import read_documents
from headwater.warehouse.drivers.sqlite.rows import COLUMNS, read_row

MAX_ROWS: Final = 2_000
"""Maximum number of events that are returned together, unless they are a block."""


def check_file(path: Path) -> None:
    """Raise UnusableDatabase if the file does not have the tables of this release, or still has rows of an earlier
    one."""
    try:
        with closing(open_events(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise UnusableDatabase(f"{path} is of another release: start `headwater serve` of this release on it")
            if has_old_rows(connection) and connection.execute("SELECT 1 FROM events LIMIT 1").fetchone():
                raise UnusableDatabase(
                    f"{path} has events of an earlier release: start `headwater serve` until they are moved into blocks"
                )
    except sqlite3.Error as error:
        raise UnusableDatabase(f"{path} cannot be read: {error}") from error


def open_events(path: Path) -> sqlite3.Connection:
    """Open an existing file. The caller begins transactions, and closes the connection."""
    if not path.is_file():
        raise UnusableDatabase(f"{path} is missing: start `headwater serve` of this release once, which creates it")
    return sqlite3.connect(path, isolation_level=None)


def read_loaded(connection: sqlite3.Connection) -> int:
    """Return the position through which events are loaded."""
    return loaded(connection)


def count_events(connection: sqlite3.Connection) -> int:
    """Return the number of events."""
    query = "SELECT (SELECT coalesce(sum(events), 0) FROM event_blocks) + (SELECT count(*) FROM event_rows)"
    return int(connection.execute(query).fetchone()[0])


def find_days(connection: sqlite3.Connection) -> set[int]:
    """Return the days since the epoch, in UTC, on which events arrived."""
    days = {day for (day,) in connection.execute(f"SELECT DISTINCT received_at / {24 * HOUR} FROM event_rows")}
    blocks = connection.execute("SELECT min_received_at, max_received_at, counts FROM event_blocks")
    for first, last, counts in blocks:
        if first // (24 * HOUR) == last // (24 * HOUR):
            days.add(first // (24 * HOUR))
        else:
            days.update(row[1] // 24 for row in unpack_counts(counts))
    return days


def read_events(connection: sqlite3.Connection) -> Iterator[list[StoredEvent]]:
    """Yield all events in lists of one block, or of some rows."""
    for id_, workspace, columns in connection.execute("SELECT id, workspace, columns FROM event_blocks ORDER BY id"):
        block = Block(id_, columns)
        yield block.stored_events(workspace, read_documents(connection, block))
    rows = connection.execute(f"SELECT {COLUMNS} FROM event_rows ORDER BY position")
    while some := rows.fetchmany(MAX_ROWS):
        yield list(map(read_row, some))
