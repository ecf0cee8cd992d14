"""An installation of an earlier release gets a state.db: complete, once, and after any kill."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.clock import SystemClock
from headwater.base.errors import UnusableDatabase
from headwater.state import migrations, open_state
from headwater.storage.database import open_engine, sqlite_url
from headwater.storage.split import FORMER_REVISION_TABLE, REVISION_TABLE, STATE_TABLES, split_state
from tests.postgresql import PostgresqlServer

REVISIONS = ("0001", "0004", "0009")
Rows = dict[str, list[tuple[Any, ...]]]


async def install(url: str, revision: str) -> None:
    """Make the tables of an earlier release, with their former names and rows in each."""
    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    engine = open_engine(url, schema="warehouse")

    def upgrade(connection: Any) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("CREATE SCHEMA warehouse"))
        await connection.run_sync(upgrade)
        await connection.execute(text(f"ALTER TABLE {REVISION_TABLE} RENAME TO {FORMER_REVISION_TABLE}"))
        for table in await list_tables(connection):
            await fill(connection, table)
    await engine.dispose()


async def list_tables(connection: AsyncConnection) -> list[str]:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if connection.dialect.name == "sqlite"
        else "SELECT tablename FROM pg_tables WHERE schemaname = 'warehouse'"
    )
    names = set(await connection.scalars(text(query)))
    return sorted(names & {*STATE_TABLES, "events"})


async def fill(connection: AsyncConnection, table: str) -> None:
    def columns(sync: Any) -> list[Any]:
        return list(Table(table, MetaData(), autoload_with=sync).columns)

    found = await connection.run_sync(columns)
    for number in (1, 2, 3):
        values = {}
        for column in found:
            kind = column.type.python_type
            values[column.name] = {str: f'["{number}"]', int: number, bytes: bytes([number]), bool: True}[kind]
        if table == "progress":
            values["consumer"] = ("warehouse", "lanes", "c")[number - 1]
        await connection.execute(found[0].table.insert().values(values))


def read_rows(path: Path) -> Rows:
    with closing(sqlite3.connect(path)) as file:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: file.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}


def list_indexes(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as file:
        return {sql for (sql,) in file.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")}


@pytest.fixture(params=REVISIONS)
def former(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The warehouse.db of an earlier release, at one of its revisions."""
    path = tmp_path / "former" / "warehouse.db"
    path.parent.mkdir()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, install(sqlite_url(path), request.param)).result()
    return path


def check(before: Rows, warehouse: Path, state: Path) -> None:
    """Every row is where it belongs, and in no other place."""
    moved, kept = read_rows(state), read_rows(warehouse)
    assert kept == {table: before[table] for table in ("events", "progress")}
    assert moved.pop(REVISION_TABLE) == before[FORMER_REVISION_TABLE]
    assert moved == {table: rows for table, rows in before.items() if table not in ("events", FORMER_REVISION_TABLE)}


def test_the_operational_tables_move(former: Path, tmp_path: Path) -> None:
    before, indexes, state = read_rows(former), list_indexes(former), tmp_path / "state.db"
    assert all(len(rows) == 3 for table, rows in before.items() if table != FORMER_REVISION_TABLE)
    assert split_state(former, state)
    check(before, former, state)
    assert list_indexes(state) | list_indexes(former) == indexes
    assert not split_state(former, state), "once"
    check(before, former, state)


async def test_the_state_store_continues_with_what_there_was(former: Path, tmp_path: Path) -> None:
    before, state = read_rows(former), tmp_path / "state.db"
    split_state(former, state)
    async with open_state(sqlite_url(state), writes=True, clock=SystemClock()) as store:
        assert [await store.position(each) for each in ("warehouse", "lanes", "c", "nobody")] == [1, 2, 3, 0]
        for number in (1, 2, 3):
            ([identity], total) = await store.identities(number, first=0, limit=9)
            assert (identity.user_id, identity.anonymous_ids, total) == (None, [str(number)], 1)
            rejected, _ = await store.rejected(number, connection_id=None, protocol=None, first=0, limit=9)
            assert [row.body for row in rejected] == [bytes([number])]
    assert len(before["identities"]) == 3


def test_there_may_be_nothing_to_do(tmp_path: Path) -> None:
    assert not split_state(tmp_path / "warehouse.db", tmp_path / "state.db")
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as file:
        file.execute("CREATE TABLE loaded (position INTEGER)")
    assert not split_state(tmp_path / "warehouse.db", tmp_path / "state.db")
    assert not (tmp_path / "state.db").exists()


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
connect, left = sqlite3.connect, [int(sys.argv[3])]

def count(statement):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(count)
    return connection

sqlite3.connect = counted
from headwater.storage.split import split_state
split_state(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.process
@pytest.mark.parametrize("former", REVISIONS[-1:], indirect=True)
def test_a_kill_at_any_statement_loses_nothing(former: Path, tmp_path: Path) -> None:
    before, number, killed = read_rows(former), 0, True
    while killed:
        number += 1
        folder = tmp_path / str(number)
        shutil.copytree(former.parent, folder)
        warehouse, state = folder / "warehouse.db", folder / "state.db"
        done = subprocess.run([sys.executable, "-c", KILLED, str(warehouse), str(state), str(number)], check=False)
        killed = done.returncode != 0
        left = read_rows(warehouse)
        copied = read_rows(state) if state.exists() else {}
        for table, rows in before.items():
            found = left.get(table) or copied.get(REVISION_TABLE if table == FORMER_REVISION_TABLE else table)
            assert found == rows, f"{table} is lost by a kill at statement {number}"
        split_state(warehouse, state)
        check(before, warehouse, state)
        shutil.rmtree(folder)
    assert number > 20


def test_files_that_do_not_belong_together_are_left_alone(former: Path, tmp_path: Path) -> None:
    """A backup of before the split was put back, and state.db was forgotten."""
    backup, state = tmp_path / "backup.db", tmp_path / "state.db"
    shutil.copyfile(former, backup)
    split_state(former, state)
    before, copied = read_rows(backup), read_rows(state)
    with pytest.raises(UnusableDatabase, match="restore both files from the same backup"):
        split_state(backup, state)
    assert (read_rows(backup), read_rows(state)) == (before, copied)


def test_files_that_cannot_be_read_are_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "warehouse.db").write_bytes(b"no database" * 1000)
    with pytest.raises(UnusableDatabase, match="not a database"):
        split_state(tmp_path / "warehouse.db", tmp_path / "state.db")


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


async def snapshot(url: str, schema: str) -> Rows:
    engine = open_engine(url, schema=schema)
    async with engine.connect() as connection:
        query = text("SELECT tablename FROM pg_tables WHERE schemaname = :schema ORDER BY 1")
        tables = list(await connection.scalars(query, {"schema": schema}))
        found: Rows = {}
        for table in tables:
            rows = await connection.execute(text(f"SELECT * FROM {schema}.{table} ORDER BY 1"))
            found[table] = [tuple(row) for row in rows]
    await engine.dispose()
    return found


@pytest.mark.parametrize("revision", REVISIONS)
async def test_several_processes_that_start_together_move_the_tables_once(
    postgresql_server: PostgresqlServer, revision: str
) -> None:
    url = postgresql_server.create(empty=True)
    await install(url, revision)
    before = await snapshot(url, "warehouse")

    async def start() -> list[int]:
        async with open_state(url, writes=False, clock=SystemClock()) as store:
            return [await store.position(each) for each in ("warehouse", "lanes", "c")]

    assert await asyncio.gather(*(start() for _ in range(5))) == [[1, 2, 3]] * 5
    assert await snapshot(url, "warehouse") == {"events": before["events"]}
    after = await snapshot(url, "state")
    assert len(after["identities"]) == 3
    assert after["calls"] == before.get("calls", [])
    assert after[REVISION_TABLE] == [(migrations.HEAD, migrations.OLDEST_USABLE)]
    async with open_state(url, writes=True, clock=SystemClock()) as store, store.transaction() as transaction:
        await transaction.advance("warehouse", 1, 5)
    postgresql_server.drop(url)
