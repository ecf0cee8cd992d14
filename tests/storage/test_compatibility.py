"""The code of the former version can use the tables of this one, on both databases.

Both versions run on one PostgreSQL database while several machines are upgraded, and after a rollback.
"""

import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Column, Connection, DateTime, MetaData, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.base.errors import UnusableDatabase
from headwater.storage.database import OLDEST_USABLE_COLUMN, migrate, open_engine, sqlite_url
from headwater.storage.inspecting import Revision, read_revision

PACKAGES: Final = (
    "headwater.catalog.migrations",
    "headwater.state.migrations",
    "headwater.state.deliveries.migrations",
    "headwater.state.lanestore.migrations",
    "headwater.state.operations.migrations",
    "headwater.state.runs.migrations",
)
POSTGRESQL_ONLY: Final = "headwater.warehouse.drivers.postgresql.migrations"
STATE: Final = "headwater.state.migrations"

FORMER_STATEMENTS: Final[dict[str, list[tuple[str, list[tuple[int]] | None]]]] = {
    STATE: [
        ("UPDATE profile_counter SET last = last + 3 RETURNING last", []),
        ("INSERT INTO profile_counter (id, last) VALUES (1, 3)", None),
        ("UPDATE profile_counter SET last = last + 3 RETURNING last", [(6,)]),
    ],
    "headwater.catalog.migrations": [("SELECT version FROM catalog_version", [(0,)])],
}
"""Statements of the former version about tables with one row, on an empty installation, and their results."""


@pytest.fixture
def url(empty_database_url: str | None, tmp_path: Path) -> str:
    return empty_database_url or sqlite_url(tmp_path / "tables.db")


def upgrade_to(connection: Connection, migrations: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(str(import_module(migrations).__file__)).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def reflect(connection: Connection, migrations: str) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    found.remove(found.tables[import_module(migrations).VERSION_TABLE])
    return found


def a_value(column: Column[Any]) -> object:
    """Return a value that a column accepts."""
    if isinstance(column.type, DateTime):
        return datetime.datetime.fromtimestamp(0, datetime.UTC if column.type.timezone else None)
    return {int: 1, str: "1", bytes: b"x", bool: True, float: 1.0, dict: {}}[column.type.python_type]


async def test_every_package_is_tested() -> None:
    source = Path(__file__).parents[2] / "src"
    folders = {str(path.parent.relative_to(source)).replace("/", ".") for path in source.rglob("migrations/env.py")}
    assert folders == {*PACKAGES, POSTGRESQL_ONLY}


@pytest.mark.parametrize("migrations", [*PACKAGES, POSTGRESQL_ONLY])
async def test_the_former_version_can_use_the_tables(migrations: str, url: str) -> None:
    """The former version names the columns that it writes, and reads those that it knows."""
    package = import_module(migrations)
    engine = open_engine(url, schema=package.SCHEMA)
    if migrations == POSTGRESQL_ONLY and engine.dialect.name == "sqlite":
        await engine.dispose()
        return
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {package.SCHEMA}"))
            await connection.run_sync(upgrade_to, migrations, package.OLDEST_USABLE)
            former = await connection.run_sync(reflect, migrations)
        await migrate(engine, migrations)
        async with engine.begin() as connection:
            present = await connection.run_sync(reflect, migrations)
            check_tables(former, present)
            for statement, rows in FORMER_STATEMENTS.get(migrations, []):
                result = await connection.execute(text(statement))
                assert rows is None or [tuple(row) for row in result] == rows
            # Rows of events must fit their partition.
            writable = [] if migrations == POSTGRESQL_ONLY else former.sorted_tables
            for table in reversed(writable):
                await connection.execute(table.delete())
            for table in writable:
                values = {column.name: a_value(column) for column in table.columns}
                await connection.execute(table.insert().values(values))
                (row,) = (await connection.execute(table.select())).all()
                assert row._mapping == values
    finally:
        await engine.dispose()


def check_tables(former: MetaData, present: MetaData) -> None:
    """Check that tables and columns stay, and that what is added does not concern code that does not know it."""
    for name, table in former.tables.items():
        successor = present.tables[name]
        assert [each.name for each in successor.primary_key] == [each.name for each in table.primary_key]
        for column in table.columns:
            assert repr(successor.columns[column.name].type) == repr(column.type), (name, column.name)
            assert successor.columns[column.name].nullable == column.nullable, (name, column.name)
        for column in successor.columns:
            if column.name not in table.columns:
                assert column.nullable or column.server_default is not None, (name, column.name)
        unique = {tuple(index.columns.keys()) for index in table.indexes if index.unique}
        assert {tuple(index.columns.keys()) for index in successor.indexes if index.unique} == unique


async def migrated_later(engine: AsyncEngine, oldest_usable: str | None) -> None:
    """Make the tables, and give them the revision of a later version."""
    package = import_module(STATE)
    await migrate(engine, STATE)
    async with engine.begin() as connection:
        statement = f"UPDATE {package.VERSION_TABLE} SET version_num = '9999', {OLDEST_USABLE_COLUMN} = :oldest"
        await connection.execute(text(statement), {"oldest": oldest_usable})


async def test_a_migration_records_the_former_version(url: str) -> None:
    package = import_module(STATE)
    engine = open_engine(url, schema=package.SCHEMA)
    try:
        await migrate(engine, STATE)
        assert await read_revision(engine, package.VERSION_TABLE) == Revision(package.HEAD, package.OLDEST_USABLE)
    finally:
        await engine.dispose()


async def test_a_version_uses_the_tables_of_the_next_one(url: str) -> None:
    package = import_module(STATE)
    engine = open_engine(url, schema=package.SCHEMA)
    try:
        await migrated_later(engine, package.HEAD)
        await migrate(engine, STATE)
        assert await read_revision(engine, package.VERSION_TABLE) == Revision("9999", package.HEAD)
    finally:
        await engine.dispose()


@pytest.mark.parametrize("oldest_usable", ["9998", None])
async def test_tables_of_a_version_that_is_too_new_are_refused(url: str, oldest_usable: str | None) -> None:
    engine = open_engine(url, schema="state")
    try:
        await migrated_later(engine, oldest_usable)
        with pytest.raises(UnusableDatabase, match="start the later version, or restore a backup"):
            await migrate(engine, STATE)
        async with engine.connect() as connection:
            assert await connection.run_sync(lambda sync: inspect(sync).has_table("profiles"))
    finally:
        await engine.dispose()
