"""Runs the revisions on the connection, and in the transaction, that `storage.database.migrate` opened."""

from alembic import context

from headwater.warehouse.drivers.postgresql.migrations import SCHEMA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, version_table_schema=SCHEMA
)
with context.begin_transaction():
    context.run_migrations()
