"""Copies the messages of a folder of RocksDB into the table on PostgreSQL, in a transaction of the caller."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from headwater.state.deduplication.message import MessageKey, decode_message
from headwater.state.deduplication.rocksdb import read_messages

TABLE: Final = "state.messages"
BATCH_MESSAGES: Final = 5_000
_INSERT: Final = f"""
    INSERT INTO {TABLE} (position, connection, message_id, received_at, entry)
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::bigint[], $5::bytea[]) ON CONFLICT DO NOTHING
"""
_Row = tuple[int, int, str, int, bytes]


async def copy_messages(driver: Any, folder: Path, *, since: int, count: Callable[[int], None]) -> int:
    """Copy the messages that arrived since a time, in microseconds since the epoch. Return their number.

    No process may write the folder. `driver` is a connection of asyncpg. `count` is called with numbers of messages
    that were read.
    """
    copied, rows = 0, list[_Row]()
    for key, value in read_messages(folder):
        row = _row(key, value)
        if row[3] >= since:
            rows.append(row)
        if len(rows) == BATCH_MESSAGES:
            copied += await _insert(driver, rows)
            count(len(rows))
            rows.clear()
    copied += await _insert(driver, rows)
    count(len(rows))
    return copied


def _row(key: MessageKey, value: bytes) -> _Row:
    connection, message_id = key
    state = decode_message(value)
    return state.position, connection, message_id, state.received_at, value


async def _insert(driver: Any, rows: list[_Row]) -> int:
    if not rows:
        return 0
    status: str = await driver.execute(_INSERT, *map(list, zip(*rows, strict=True)))
    return int(status.rpartition(" ")[2])
