"""Runs the revisions on the connection, and in the transaction, that `storage.database.migrate` opened."""

from alembic import context

from headwater.state.runs.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
