"""The revisions make the tables that the code expects, once, however many processes start together."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text

from headwater.catalog import migrations, tables
from headwater.catalog.migrations import HEAD, VERSION_TABLE
from headwater.storage.database import migrate, open_engine
from tests.catalog import opening
from tests.forked import start_program

PACKAGE = "headwater.catalog.migrations"


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def _names(metadata: MetaData) -> set[str]:
    """The names of all constraints and indexes, by which a later revision drops them."""
    made = metadata.tables.values()
    constraints = {str(constraint.name) for table in made for constraint in table.constraints}
    return constraints | {str(index.name) for table in made for index in table.indexes}


async def test_the_revisions_make_the_tables_of_the_code(empty_url: str) -> None:
    def differences(connection: Any) -> list[Any]:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata)
        return found

    def reflected(connection: Any) -> MetaData:
        made = MetaData()
        made.reflect(connection)
        made.remove(made.tables[VERSION_TABLE])
        return made

    engine = open_engine(empty_url, schema="catalog")
    try:
        await migrate(engine, PACKAGE)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
            assert _names(await connection.run_sync(reflected)) == _names(tables.metadata)
    finally:
        await engine.dispose()


async def test_migrating_again_changes_nothing(empty_url: str) -> None:
    engine = open_engine(empty_url, schema="catalog")
    try:
        await migrate(engine, PACKAGE)
        await migrate(engine, PACKAGE)
        async with engine.connect() as connection:
            versions = (await connection.execute(text("SELECT version FROM catalog_version"))).scalars().all()
        assert versions == [0]
    finally:
        await engine.dispose()


async def test_tasks_of_one_process_may_migrate_together(empty_url: str) -> None:
    engines = [open_engine(empty_url, schema="catalog") for _ in range(4)]
    try:
        await asyncio.wait_for(asyncio.gather(*(migrate(engine, PACKAGE) for engine in engines)), timeout=20)
    finally:
        for engine in engines:
            await engine.dispose()


@pytest.mark.process
async def test_processes_may_start_together(empty_url: str) -> None:
    started = [await start_program(opening.__name__, empty_url) for _ in range(3)]
    for process, output in started:
        await asyncio.wait_for(output.read(), timeout=30)
        assert process.wait(30) == 0


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is full")

    engine = open_engine(empty_url, schema="catalog")
    try:
        with monkeypatch.context() as patched:
            patched.setattr(op, "bulk_insert", broken)
            with pytest.raises(RuntimeError):
                await migrate(engine, PACKAGE)
        async with engine.connect() as connection:
            assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
        await migrate(engine, PACKAGE)
    finally:
        await engine.dispose()
