"""The table that a sink writes into: its errors, the check of its columns and keys, and the clause of an upsert."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from headwater.base.errors import BadRequest
from headwater.connectors.contract import TableWrite
from headwater.connectors.databases.quoting import quote, quote_all


def table_not_found(table: str) -> BadRequest:
    """Return the error for a table that the database does not have, by its name in the settings."""
    return BadRequest(f"table {table[:200]!r} does not exist in the database", field="table")


def check_columns_exist(write: TableWrite, columns: Collection[str]) -> None:
    """Raise BadRequest if a table with these columns lacks one that is written."""
    if missing := [name for name in write.columns if name not in columns]:
        raise BadRequest(f"table {write.table} has no column {missing[0]}", field="table")


def check_key_is_unique(write: TableWrite, keys: Collection[AbstractSet[str]], create: str) -> None:
    """Raise BadRequest if a table with these unique keys does not have the key of the rows.

    `create` is the statement that creates its index, for the message.
    """
    if set(write.key) not in keys:
        raise BadRequest(f"table {write.table} needs a unique index on its key: {create}", field="tableKey")


def conflict_clause(write: TableWrite) -> str:
    """Return the end of an INSERT that updates the row of an equal key, as PostgreSQL, SQLite and DuckDB have it."""
    update = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in write.columns if name not in write.key)
    return f"ON CONFLICT ({quote_all(write.key)}) DO {f'UPDATE SET {update}' if update else 'NOTHING'}"
