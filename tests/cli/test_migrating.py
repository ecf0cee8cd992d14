"""`headwater migrate-data` copies every row of every table, once, into an empty database, or nothing."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
from sqlalchemy import Boolean, Column, DateTime, LargeBinary, Numeric, Table

from headwater.base.clock import SystemClock, microseconds
from headwater.base.errors import UnusableDatabase
from headwater.cli import migrating
from headwater.server import preflight
from headwater.server.settings import read
from headwater.state import open_state
from headwater.state.deduplication import MessageKey, MessageState, RocksMessageStore, SqlMessageStore, Step
from headwater.state.deduplication.copying import TABLE as MESSAGES
from headwater.storage import copying, postgresql
from headwater.storage.copying import SourceStore
from headwater.storage.database import open_database, sqlite_url
from headwater.storage.postgresql import SCHEMAS
from headwater.storage.sessions import sessions
from headwater.warehouse import EventQuery, StoredEvent, open_warehouse
from headwater.warehouse.drivers.postgresql.copying import TABLES as WAREHOUSE_TABLES
from headwater.warehouse.drivers.postgresql.partitions import DAY_MICROSECONDS
from tests.cli.running import Result, Shell
from tests.postgresql import PostgresqlServer
from tests.sqlite import fill

ROWS: Final = 3
"""Number of rows of each table."""
OTHER_TABLES: Final = {"free_space", "sqlite_sequence", "sqlite_stat1"}
"""Tables of a file that are no data."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data directory with empty stores."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    fill(folder)
    return folder


@pytest.fixture
def target(postgresql_server: PostgresqlServer, shell: Shell) -> Iterator[str]:
    """Return the URL of a database with empty tables, which is the target of commands."""
    url = postgresql_server.create()
    shell.set({"HEADWATER_DATABASE_URL": url})
    yield url
    postgresql_server.drop(url)


@pytest.fixture
def empty_target(postgresql_server: PostgresqlServer, shell: Shell) -> Iterator[str]:
    """Return the URL of a database without tables, which is the target of commands."""
    url = postgresql_server.create(empty=True)
    shell.set({"HEADWATER_DATABASE_URL": url})
    yield url
    postgresql_server.drop(url)


def stores(data_dir: Path) -> list[SourceStore]:
    return migrating.source_stores(read({"HEADWATER_DATA_DIR": str(data_dir)}))


def raw_value(column: "Column[Any]", number: int) -> object:
    """Return the value of a column in the row `number`, as SQLite stores it."""
    type_ = getattr(column.type, "impl_instance", column.type)
    if isinstance(type_, Boolean):
        return number % 2
    if isinstance(type_, DateTime):
        return f"2026-11-{number:02} 10:00:00.{number:06}"
    if isinstance(type_, LargeBinary):
        return bytes([0, 255, number])
    if type_.python_type in (int, float) or isinstance(type_, Numeric):
        return number
    return f"{number}é\U0001f600"[: getattr(type_, "length", None) or 10]


def fill_table(connection: sqlite3.Connection, table: Table) -> None:
    """Replace the rows of a table. Equal numbers in each row satisfy all foreign keys."""
    connection.execute(f'DELETE FROM "{table.name}"')
    numbers = [1] if table.name == "catalog_version" else range(1, ROWS + 1)
    for number in numbers:
        values = [None if column.nullable and number == 1 else raw_value(column, number) for column in table.columns]
        marks = ", ".join("?" * len(values))
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        connection.execute(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', values)


def fill_stores(data_dir: Path) -> None:
    for store in stores(data_dir):
        with closing(sqlite3.connect(store.path)) as connection, connection:
            for table in store.tables:
                fill_table(connection, table)


async def fetch(url: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [tuple(row) for row in await connection.fetch(query, *parameters)]
    finally:
        await connection.close()


async def find_rows(url: str, tables: list[str]) -> str | None:
    async with copying.open_target(url) as driver:
        return await copying.find_rows(driver, tables)


def counts(output: str) -> dict[str, int]:
    """Return the printed numbers of rows by table."""
    lines = [line.split() for line in output.partition("\n\n")[0].splitlines()[1:]]
    return {table: int(rows) for table, rows in lines}


def event(position: int, received_at: int) -> StoredEvent:
    name = f"Event {position % 3}"
    document = f'{{"type":"track","event":"{name}","userId":"u{position % 7}","n":{position}}}'.encode()
    return StoredEvent(
        position, 1, 2, 3, received_at - 1_000, received_at, "track", name, f"u{position % 7}", None, document
    )


def test_every_table_of_the_files_and_of_postgresql_is_copied(
    data_dir: Path, postgresql_server: PostgresqlServer
) -> None:
    """A table that a revision adds is in the metadata of a store that is copied, or this fails."""
    named = []
    for store in stores(data_dir):
        with closing(sqlite3.connect(store.path)) as connection:
            found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        revision = next(name for name in found if name.endswith("_revision"))
        assert found - OTHER_TABLES - {revision} == {table.name for table in store.tables}, store.path.name
        named += store.names
    covered = {*named, MESSAGES, *WAREHOUSE_TABLES}
    assert len(covered) == len(named) + 1 + len(WAREHOUSE_TABLES)
    url = postgresql_server.create()
    query = """
        SELECT table_schema || '.' || table_name FROM information_schema.tables
        WHERE table_schema = ANY($1) AND table_name NOT LIKE '%\\_revision' AND table_name NOT LIKE 'events\\_%'
    """
    assert {name for (name,) in asyncio.run(fetch(url, query, list(SCHEMAS)))} == covered
    assert asyncio.run(find_rows(url, sorted(covered))) is None, "a revision adds rows: see storage/copying.py"
    postgresql_server.drop(url)


def test_every_row_is_copied_as_it_is(shell: Shell, data_dir: Path, target: str) -> None:
    fill_stores(data_dir)
    with closing(sqlite3.connect(data_dir / "state.db")) as state, state:
        state.execute("UPDATE sqlite_sequence SET seq = 90 WHERE name = 'separations'")
    result = shell.succeed("migrate-data")
    printed = counts(result.output)
    for store in stores(data_dir):
        with closing(sqlite3.connect(store.path)) as source:
            for table, name in zip(store.tables, store.names, strict=True):
                expected = sorted(map(repr, copying.read_rows(source, table, lambda _: None)))
                columns = ", ".join(f'"{column.name}"' for column in table.columns)
                found = asyncio.run(fetch(target, f"SELECT {columns} FROM {name}"))
                assert sorted(map(repr, map(_in_utc, found))) == expected, name
                assert printed[name] == len(expected) > 0, name
    assert "secret" not in result.errors
    # generated ids continue after the last one, also after one whose row was deleted
    next_id = "SELECT nextval(pg_get_serial_sequence($1, 'id'))"
    assert asyncio.run(fetch(target, next_id, "state.identities")) == [(ROWS + 1,)]
    assert asyncio.run(fetch(target, next_id, "state.separations")) == [(91,)]


def _in_utc(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.astimezone(UTC) if isinstance(value, datetime) else value for value in row)


def test_events_and_messages_are_the_same(shell: Shell, data_dir: Path, empty_target: str) -> None:
    clock = SystemClock()
    now = microseconds(clock.now())
    days = (0, 0, 0, 1, 45, 700)
    """Days ago: two of them are before the days that a new database has partitions for."""
    events = [event(number, now - days[number % len(days)] * DAY_MICROSECONDS) for number in range(1, 3_001)]
    messages: dict[MessageKey, MessageState] = {
        (2, "2f0b4fb4-98a3-4c4e-8f0e-5d1a1b1a0a01"): MessageState(1, now, (Step(3, 2, "Finalize", "Passed"),)),
        (2, "0123456789abcdef0123456789abcdef"): MessageState(2, now),
        (7, "order-1 é"): MessageState(3, now, repeated=2),
        (7, "2F0B4FB4-98A3-4C4E-8F0E-5D1A1B1A0A01"): MessageState(4, now),
        (8, "expired"): MessageState(5, now - 8 * DAY_MICROSECONDS),
    }

    async def store() -> None:
        async with open_warehouse(sqlite_url(data_dir / "warehouse.db"), writes=True, clock=clock) as warehouse:
            await warehouse.load(events[:2_900], through=2_900)
            await warehouse.load(events[2_900:], through=3_017)
        async with open_state(sqlite_url(data_dir / "state.db"), writes=True, clock=clock):
            pass
        await save_messages(data_dir, messages)

    async def read_all(url: str) -> tuple[object, ...]:
        async with open_warehouse(url, writes=True, clock=clock) as warehouse:
            page = await warehouse.events(EventQuery(workspace=1), ascending=True, after=None, offset=0, limit=5_000)
            by_day = await warehouse.counts(EventQuery(workspace=1), by=("event",), interval="day", limit=100)
            query = EventQuery(workspace=1, user_id="u3", since=now - 60 * DAY_MICROSECONDS)
            of_user = await warehouse.events(query, ascending=False, after=None, offset=0, limit=1_000)
            return page.documents, page.positions, by_day, of_user.positions, await warehouse.loaded()

    asyncio.run(store())
    expected = asyncio.run(read_all(sqlite_url(data_dir / "warehouse.db")))
    printed = counts(shell.succeed("migrate-data").output)
    assert asyncio.run(read_all(empty_target)) == expected
    assert expected[-1] == 3_017
    assert (printed["warehouse.events"], printed["state.messages"]) == (3_000, 4)
    assert asyncio.run(read_messages(empty_target, list(messages))) == {
        key: state for key, state in messages.items() if key[1] != "expired"
    }
    partitions = asyncio.run(fetch(empty_target, "SELECT DISTINCT tableoid::regclass::text FROM warehouse.events"))
    shared = {name for (name,) in partitions if name.endswith("events_before")}
    assert len(partitions) == 4
    assert len(shared) == 1  # the day that is too long ago


async def save_messages(data_dir: Path, messages: dict[MessageKey, MessageState]) -> None:
    store = RocksMessageStore(data_dir / "ledger", writes=True, clock=SystemClock())
    try:
        async with (
            open_database(sqlite_url(data_dir / "state.db"), "headwater.state.migrations") as engine,
            sessions(engine) as some,
            some.open() as session,
        ):
            await store.save(session, messages)
    finally:
        await store.close()


async def read_messages(url: str, keys: list[MessageKey]) -> dict[MessageKey, MessageState]:
    async with (
        open_database(url, "headwater.state.migrations") as engine,
        sessions(engine) as some,
        some.open() as session,
    ):
        return await SqlMessageStore(SystemClock()).lookup(session, keys)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO catalog.workspaces (id, name, created_at) VALUES (1, 'x', now())",
        "UPDATE catalog.catalog_version SET version = 1",
        "INSERT INTO delivery.delivery_counts VALUES (1, 1, 1, 1, 1, 1)",
        "INSERT INTO state.messages VALUES (1, 1, 'x', 1, '')",
        "UPDATE warehouse.event_loading SET position = 1",
    ],
)
def test_a_database_with_rows_is_refused(
    shell: Shell, data_dir: Path, postgresql_server: PostgresqlServer, statement: str
) -> None:
    url = postgresql_server.create()
    fill_stores(data_dir)
    shell.set({"HEADWATER_DATABASE_URL": url})
    asyncio.run(fetch(url, statement))
    before = postgresql_server.dump(url)
    result = shell.run("migrate-data")
    assert (result.status, result.output) == (1, "")
    table = next(word for word in statement.split() if "." in word)
    assert result.errors.endswith(f"is not empty: {table} has rows. Nothing was moved: use a new database\n")
    assert _without_restrictions(postgresql_server.dump(url)) == _without_restrictions(before)
    postgresql_server.drop(url)


def _without_restrictions(dump: bytes) -> list[bytes]:
    """Return the lines of a dump without those that have a random key."""
    return [line for line in dump.splitlines() if b"restrict" not in line]


KILLED: Final = """
import os, signal
from headwater.cli import main, migrating
async def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
migrating.{function} = kill
main.main(["migrate-data"])
"""


@pytest.mark.parametrize("function", ["prepare_partitions", "copy_events", "copy_messages"])
def test_a_killed_command_is_repeated(shell: Shell, data_dir: Path, target: str, function: str) -> None:
    fill_stores(data_dir)
    environ = {**os.environ, "HEADWATER_DATA_DIR": str(data_dir), "HEADWATER_DATABASE_URL": target}
    killed = subprocess.run([sys.executable, "-c", KILLED.format(function=function)], env=environ, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert asyncio.run(fetch(target, "SELECT count(*) FROM catalog.workspaces")) == [(0,)]
    assert counts(shell.succeed("migrate-data").output)["catalog.workspaces"] == ROWS


def test_a_second_command_is_refused(shell: Shell, data_dir: Path, target: str) -> None:
    fill_stores(data_dir)
    shell.succeed("migrate-data")
    assert "is not empty: catalog." in shell.run("migrate-data").errors


def test_a_database_that_another_process_writes_is_refused(shell: Shell, data_dir: Path, target: str) -> None:
    shell.monkeypatch.setattr(postgresql, "LOCK_TIMEOUT_SECONDS", 0.2)

    async def hold() -> Result:
        connection = await asyncpg.connect(target.replace("+asyncpg", ""))
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE runs.runs IN ROW EXCLUSIVE MODE")
                return await asyncio.to_thread(shell.run, "migrate-data")
        finally:
            await connection.close()

    assert "another process uses the database" in asyncio.run(hold()).errors


@pytest.mark.parametrize(
    ("statement", "file", "message"),
    [
        ("UPDATE state_revision SET version_num = '0001'", "state.db", "is at revision 0001, and this release needs"),
        (
            "UPDATE run_revision SET version_num = '9999'",
            "runs.db",
            "is at revision 9999, of a later release: use that",
        ),
        ("PRAGMA user_version = 0", "warehouse.db", "is of another release"),
        (
            "CREATE TABLE events (workspace); INSERT INTO events VALUES (1)",
            "warehouse.db",
            "has events of an earlier release",
        ),
    ],
)
def test_files_of_another_release_are_refused(
    shell: Shell, data_dir: Path, empty_target: str, statement: str, file: str, message: str
) -> None:
    with closing(sqlite3.connect(data_dir / file)) as connection:
        connection.executescript(statement)
    result = shell.run("migrate-data")
    assert (result.status, result.errors.count("\n")) == (1, 1)
    assert message in result.errors
    assert asyncio.run(fetch(empty_target, "SELECT to_regclass('catalog.workspaces')::text")) == [(None,)]


def test_a_missing_file_is_refused(shell: Shell, data_dir: Path, target: str) -> None:
    (data_dir / "runs.db").unlink()
    assert "runs.db is missing" in shell.run("migrate-data").errors


def test_a_running_server_is_refused(shell: Shell, data_dir: Path, target: str) -> None:
    lock = preflight.claim_data_dir(read({"HEADWATER_DATA_DIR": str(data_dir)}))
    result = shell.run("migrate-data")
    os.close(lock)
    assert result.status == 1
    assert "is in use by another running server" in result.errors


def test_calls_that_nats_would_not_get_are_not_left_behind(shell: Shell, data_dir: Path, target: str) -> None:
    from headwater.log import LogEntry, SqliteEventLog

    async def append() -> None:
        log = SqliteEventLog(data_dir / "log.db", SystemClock())
        await log.append(LogEntry(1, b"", b"x"))
        await log.close()

    asyncio.run(append())
    shell.set({"HEADWATER_NATS_URL": "nats://127.0.0.1:1"})
    result = shell.run("migrate-data")
    assert "has calls that are not processed (1): unset HEADWATER_NATS_URL" in result.errors
    refused = shell.run("serve")
    assert refused.status == 1
    assert "has calls that are not processed (1), and HEADWATER_NATS_URL is set: unset it" in refused.errors
    shell.monkeypatch.delenv("HEADWATER_NATS_URL")
    assert "log.db stays in use" in shell.succeed("migrate-data").output


def test_files_that_were_moved_are_not_used_again(shell: Shell, data_dir: Path, target: str, tmp_path: Path) -> None:
    """A server on them would store and deliver the same events twice."""
    shell.succeed("migrate-data")
    shell.monkeypatch.delenv("HEADWATER_DATABASE_URL")
    shell.succeed("backup", str(tmp_path / "copy"))
    shell.succeed("restore", str(tmp_path / "copy"), "--data-dir", str(tmp_path / "restored"))
    for folder in (data_dir, tmp_path / "restored"):
        for command in (["serve"], ["keys", "list"]):
            refused = shell.run(*command, "--data-dir", str(folder))
            assert (refused.status, refused.errors.count("\n")) == (1, 1 + (command[0] == "keys"))
            assert f"the files in {folder} were moved to PostgreSQL: set HEADWATER_DATABASE_URL" in refused.errors
    (data_dir / preflight.MOVED).unlink()
    shell.succeed("keys", "list")


def test_files_that_were_not_moved_are_not_marked(shell: Shell, data_dir: Path, target: str) -> None:
    fill_stores(data_dir)
    shell.monkeypatch.setattr("headwater.cli.migrating.copying.analyze", _fail)
    assert shell.run("migrate-data").status == 1
    assert not (data_dir / preflight.MOVED).exists()


async def _fail(*_: object) -> None:
    raise UnusableDatabase("the disk is full")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, "set HEADWATER_DATABASE_URL to the empty PostgreSQL database"),
        ("postgresql://127.0.0.1:1/x", "cannot be used: nothing listens there"),
    ],
)
def test_a_target_that_cannot_be_used_is_named(shell: Shell, data_dir: Path, url: str | None, message: str) -> None:
    if url is not None:
        shell.set({"HEADWATER_DATABASE_URL": url})
    result = shell.run("migrate-data")
    assert (result.status, result.errors.count("\n")) == (1, 1)
    assert message in result.errors
