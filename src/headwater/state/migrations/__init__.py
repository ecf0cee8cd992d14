"""Alembic revisions of the state store. A new revision moves `HEAD`; a released revision is never edited."""

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.storage.split import FORMER_REVISION_TABLE, REVISION_TABLE, STATE_TABLES

HEAD = "0021"
OLDEST_USABLE = "0017"
"""The head of the former version. Its code can use the tables at `HEAD`."""
VERSION_TABLE = REVISION_TABLE
SCHEMA = "state"
"""The schema of the tables on PostgreSQL; SQLite has a file for them."""
_FORMER_SCHEMA = "warehouse"
"""The schema of the tables in earlier releases, shared with the events."""


async def take_over(connection: AsyncConnection) -> None:
    """On PostgreSQL, move the tables out of the schema of earlier releases.

    The caller's transaction holds the lock of this schema's migrations, so one of several processes does it.
    """
    if connection.dialect.name != "postgresql" or await _exists(connection, SCHEMA, VERSION_TABLE):
        return
    if not await _exists(connection, _FORMER_SCHEMA, FORMER_REVISION_TABLE):
        return
    for table in STATE_TABLES:
        if await _exists(connection, _FORMER_SCHEMA, table):
            await connection.execute(text(f"ALTER TABLE {_FORMER_SCHEMA}.{table} SET SCHEMA {SCHEMA}"))
    await connection.execute(text(f"ALTER TABLE {_FORMER_SCHEMA}.{FORMER_REVISION_TABLE} SET SCHEMA {SCHEMA}"))
    await connection.execute(text(f"ALTER TABLE {SCHEMA}.{FORMER_REVISION_TABLE} RENAME TO {VERSION_TABLE}"))


async def _exists(connection: AsyncConnection, schema: str, table: str) -> bool:
    return (await connection.execute(select(func.to_regclass(f"{schema}.{table}")))).scalar_one() is not None
