"""The revisions make the tables that the code expects."""

from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, UniqueConstraint

from headwater.state import migrations, tables
from headwater.storage.database import migrate, open_engine

PACKAGE = "headwater.state.migrations"


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def _shape(*metadata: MetaData) -> dict[str, Any]:
    """Return the parts that autogenerate does not compare in SQLite: keys, and constraints and indexes with their
    columns."""
    return {
        table.name: (
            [column.name for column in table.columns],
            [column.name for column in table.primary_key],
            sorted(
                (str(constraint.name), tuple(column.name for column in constraint.columns))
                for constraint in table.constraints
                if isinstance(constraint, UniqueConstraint)
            ),
            sorted((str(index.name), tuple(column.name for column in index.columns)) for index in table.indexes),
        )
        for each in metadata
        for table in each.sorted_tables
    }


async def test_the_revisions_make_the_tables_of_the_code(empty_url: str) -> None:
    def differences(connection: Any) -> list[Any]:
        options = {"version_table": migrations.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        found: list[Any] = compare_metadata(context, expected)  # type: ignore[arg-type]  # it takes a list
        return found

    def reflected(connection: Any) -> MetaData:
        made = MetaData()
        made.reflect(connection)
        made.remove(made.tables[migrations.VERSION_TABLE])
        return made

    engine = open_engine(empty_url, schema="state")
    expected = [tables.METADATA] + ([tables.POSTGRESQL_METADATA] if engine.dialect.name == "postgresql" else [])
    try:
        await migrate(engine, PACKAGE)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
            assert _shape(await connection.run_sync(reflected)) == _shape(*expected)
    finally:
        await engine.dispose()
