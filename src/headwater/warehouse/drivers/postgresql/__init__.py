"""The warehouse on PostgreSQL: events partitioned by day, loaded with COPY, with counts by slot of time."""

from headwater.warehouse.drivers.postgresql.warehouse import PostgresqlWarehouse, open_postgresql_warehouse

__all__ = ["PostgresqlWarehouse", "open_postgresql_warehouse"]
