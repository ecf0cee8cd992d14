"""The revisions make the tables that the code expects."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData

from headwater.state.deliveries import migrations, tables
from headwater.storage.database import migrate, open_engine


def _shape(metadata: MetaData) -> dict[str, Any]:
    return {
        table.name: (
            [column.name for column in table.columns],
            [column.name for column in table.primary_key],
            sorted((str(index.name), tuple(column.name for column in index.columns)) for index in table.indexes),
        )
        for table in metadata.sorted_tables
    }


async def test_the_revisions_make_the_tables_of_the_code(empty_url: str) -> None:
    def differences(connection: Any) -> list[Any]:
        options = {"version_table": migrations.VERSION_TABLE, "compare_type": True}
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), tables.METADATA)
        return found

    def reflected(connection: Any) -> MetaData:
        made = MetaData()
        made.reflect(connection)
        made.remove(made.tables[migrations.VERSION_TABLE])
        return made

    engine = open_engine(empty_url, schema=migrations.SCHEMA)
    try:
        await migrate(engine, migrations.__name__)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
            assert _shape(await connection.run_sync(reflected)) == _shape(tables.METADATA)
    finally:
        await engine.dispose()
