"""The default warehouse: a SQLite file in which most events are compressed blocks (decision 31)."""

from headwater.warehouse.drivers.sqlite.warehouse import SqliteWarehouse, open_sqlite_warehouse

__all__ = ["SqliteWarehouse", "open_sqlite_warehouse"]
