"""Databases that change between two runs of a pipeline and during one: their tables, and the rights of the user."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from headwater.catalog import Definition, Pipeline, TransformationDefinition
from headwater.connectors.contract import Engine, QuerySource, Rows
from headwater.runs.exporting import execute_export, pausing, tables
from headwater.runs.exporting.recording import Recorder
from headwater.runs.importing import execute_import, records
from headwater.runs.job import Job, RunCancelled, RunFailed
from headwater.schemas import DateTimeType, IntType, Property, StringType, Value
from tests.connectors.databases import test_mysql, test_postgresql, test_sqlite
from tests.connectors.databases.test_mysql import mariadb_server
from tests.postgresql import PASSWORD, USER, PostgresqlServer
from tests.runs.exporting.installation import connector, open_installation
from tests.runs.exporting.test_export_tables import MAPPING, OUT, people
from tests.runs.scenario import TEXT, Scenario, open_scenario, passed, schema

__all__ = ["mariadb_server"]

pytestmark = pytest.mark.process

postgresql_database = pytest.fixture(test_postgresql.database.__wrapped__, name="postgresql_database")  # type: ignore[attr-defined]
mysql_database = pytest.fixture(test_mysql.database.__wrapped__, name="mysql_database")  # type: ignore[attr-defined]
sqlite_database = pytest.fixture(test_sqlite.database.__wrapped__, name="sqlite_database")  # type: ignore[attr-defined]

ROWS = 12_000
CREATE = {
    "postgresql": "CREATE TABLE people (id int PRIMARY KEY, name text, changed timestamptz)",
    "mysql": "CREATE TABLE people (id int PRIMARY KEY, name varchar(99), changed datetime)",
    "sqlite": "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, changed TIMESTAMP)",
}
CHANGES = {
    "dropped": ("ALTER TABLE people DROP COLUMN name", "property name no longer exists"),
    "renamed": ("ALTER TABLE people RENAME COLUMN name TO label", "property name no longer exists"),
}
RETYPED = {
    "postgresql": "ALTER TABLE people ALTER COLUMN name TYPE int USING 1",
    "mysql": "ALTER TABLE people DROP COLUMN name, ADD COLUMN name int",
}


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def database(request: pytest.FixtureRequest) -> Any:
    database = request.getfixturevalue(f"{request.param}_database")
    database.kind = request.param
    create(database)
    return database


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reader wait for the store: it is a few thousand rows ahead."""
    monkeypatch.setattr(records, "MIN_BATCH_ROWS", 1_000)
    monkeypatch.setattr(records, "MAX_BATCH_ROWS", 1_000)


def create(database: Any) -> None:
    """Create the table of the pipeline, with rows."""
    database.execute(CREATE[database.kind])
    for start in range(1, ROWS, 1_000):
        rows = (f"({number}, 'n{number}', '2026-03-05 10:00:00')" for number in range(start, start + 1_000))
        database.execute(f"INSERT INTO people (id, name, changed) VALUES {', '.join(rows)}")


class Live:
    """The database of a pipeline: each run has a source of its own."""

    def __init__(self, make: Callable[[], QuerySource]) -> None:
        self._make = make

    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> AbstractContextManager[Rows]:
        self._source = self._make()
        return self._source.query(text, parameters, limit)

    def close(self) -> None:
        with suppress(AttributeError):
            self._source.close()


def definition(database: Any) -> Definition:
    integer = IntType(64 if database.kind == "sqlite" else 32)
    members = (
        Property("id", integer, nullable=True),
        Property("name", StringType(max_length=99) if database.kind == "mysql" else TEXT, nullable=True),
        Property("changed", DateTimeType(), nullable=True),
    )
    return Definition(
        in_schema=schema(*members),
        out_schema=schema(name=TEXT),
        transformation=TransformationDefinition(mapping={"name": "name"}),
        query="SELECT * FROM people",
        user_id_column="id",
        updated_at_column="changed",
    )


def during(job: Job, action: Callable[[], object]) -> None:
    """Do something once, when a part of the source was stored."""
    check, is_done = job.report.check, False

    def check_and_act() -> None:
        nonlocal is_done
        check()
        if not is_done and job.report.progress.rows:
            is_done = True
            action()

    job.report.check = check_and_act  # type: ignore[method-assign]


async def fail(job: Job) -> RunFailed:
    with pytest.raises(RunFailed) as raised:
        await execute_import(job)
    return raised.value


async def cursor(scenario: Scenario) -> list[tuple[Any, ...]]:
    return await scenario.rows("SELECT cursor FROM pipeline_cursors")


@pytest.mark.parametrize("change", [*CHANGES, "retyped"])
async def test_a_changed_table_ends_the_next_run_and_leaves_everything(
    tmp_path: Path, database: Any, change: str
) -> None:
    if change == "retyped" and database.kind not in RETYPED:
        pytest.skip("the types of SQLite's columns do not change")
    statement, reason = CHANGES[change] if change in CHANGES else (RETYPED[database.kind], "property name")
    async with open_scenario(tmp_path, definition(database), database=Live(database.source)) as scenario:
        await scenario.run()
        before, at = await scenario.stored(), await cursor(scenario)
        assert len(before) == ROWS
        database.execute(statement)
        failure = await fail(scenario.job())
        assert (failure.step, reason in failure.message) == ("InputValidation", True), failure.message
        assert failure.message.startswith("the schema of the source has changed: ")
        assert (await scenario.stored(), await cursor(scenario)) == (before, at)
        database.execute("DROP TABLE people")
        create(database)
        assert passed((await scenario.run()).progress)["Finalize"] == (ROWS, 0)


async def test_a_run_reads_the_table_as_it_was_at_its_start(tmp_path: Path, database: Any) -> None:
    """Databases let a change of the table wait for the query."""
    waits = {
        "postgresql": "SET lock_timeout = '100ms'",
        "mysql": "SET lock_wait_timeout = 1",
        "sqlite": "PRAGMA busy_timeout = 100",
    }
    async with open_scenario(tmp_path, definition(database), database=Live(database.source)) as scenario:
        job = scenario.job()
        refused: list[Exception] = []

        def change() -> None:
            database.execute(waits[database.kind])
            with pytest.raises(
                (psycopg.errors.LockNotAvailable, pymysql.err.OperationalError, sqlite3.OperationalError)
            ) as raised:
                database.execute(CHANGES["dropped"][0])
            refused.append(raised.value)

        during(job, change)
        await execute_import(job)
        assert len(refused) == 1
        found = await scenario.identities()
        assert len(found) == ROWS and found["4321"] == {"name": "n4321"}


async def test_a_run_that_is_continued_after_the_table_changed_fails(tmp_path: Path, database: Any) -> None:
    async with open_scenario(tmp_path, definition(database), database=Live(database.source)) as scenario:
        await scenario.run()
        database.execute("DELETE FROM people WHERE id <= 10")
        before, at = await scenario.stored(), await cursor(scenario)
        job = scenario.job()
        during(job, lambda: job.report.cancel(continues=True))
        with pytest.raises(RunCancelled):
            await execute_import(job)
        database.execute(CHANGES["renamed"][0])
        failure = await fail(scenario.job(run=job.run.id, fence=2))
        assert "property name no longer exists" in failure.message
        # The rows that the source no longer has are still there: the run has not seen all rows.
        assert (await scenario.stored(), await cursor(scenario)) == (before, at)
        database.execute("ALTER TABLE people RENAME COLUMN label TO name")
        await scenario.run()
        assert len(await scenario.stored()) == ROWS - 10


# --- Rights of the user -------------------------------------------------------------------------------------------

RESTORE = f"ALTER ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"
REVOKED = {
    "no login": (f"ALTER ROLE {USER} NOLOGIN", "is not permitted to log in"),
    "another password": (f"ALTER ROLE {USER} PASSWORD 'x'", "password authentication failed"),
}


@pytest.fixture
def server(postgresql_database: Any, postgresql_server: PostgresqlServer) -> Iterator[Any]:
    postgresql_database.kind, postgresql_database.server = "postgresql", postgresql_server
    yield postgresql_database
    postgresql_server.administer(RESTORE)


def end_sessions(server: Any) -> None:
    own = f"application_name = 'headwater' AND datname = '{server.settings.database}'"
    server.server.administer(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {own}")


@pytest.mark.parametrize("revoked", REVOKED)
async def test_a_user_that_is_locked_out_during_an_import(tmp_path: Path, server: Any, revoked: str) -> None:
    create(server)
    server.execute("ALTER TABLE people ADD COLUMN note text DEFAULT repeat('x', 2000)")  # more than buffers have
    statement, reason = REVOKED[revoked]
    async with open_scenario(tmp_path, definition(server), database=Live(server.source)) as scenario:
        await scenario.run()
        server.execute("UPDATE people SET name = 'new', changed = '2026-03-06 10:00:00'")
        at, job = await cursor(scenario), scenario.job()

        def lock_out() -> None:
            server.server.administer(statement)
            end_sessions(server)

        during(job, lock_out)
        failure = await fail(job)
        # The server may be unable to name its reason, because its connection is full of rows.
        assert failure.step == "Receive"
        assert failure.message in (
            "the database failed: terminating connection due to administrator command",
            "the database failed: server closed the connection unexpectedly",
        )
        failure = await fail(scenario.job())
        assert failure.step == "Receive"
        assert failure.message.startswith("the database refuses the connection: ") and reason in failure.message
        assert PASSWORD not in failure.message
        assert (len(await scenario.stored()), await cursor(scenario)) == (ROWS, at)
        await asyncio.to_thread(server.server.administer, RESTORE)
        await scenario.run()
        assert {each["name"] for each in (await scenario.identities()).values()} == {"new"}


async def test_a_right_to_read_that_is_revoked(tmp_path: Path, server: Any) -> None:
    create(server)
    database = server.settings.database
    async with open_scenario(tmp_path, definition(server), database=Live(server.source)) as scenario:
        job = scenario.job()
        # The server checks the right at the start of a query, so the run goes on.
        during(job, lambda: server.execute(f"REVOKE SELECT ON people FROM {USER}"))
        await execute_import(job)
        assert len(await scenario.stored()) == ROWS
        failure = await fail(scenario.job())
        assert failure.message == "the database rejects the statement: permission denied for table people"
        assert len(await scenario.stored()) == ROWS
        await asyncio.to_thread(server.server.administer, f"GRANT SELECT ON people TO {USER}", database)
        await scenario.run()


# --- Exports ------------------------------------------------------------------------------------------------------

TABLE = "CREATE TABLE people (email text PRIMARY KEY, name text, age bigint)"
BROKEN: dict[str, tuple[str, str, str]] = {
    "dropped": (
        "ALTER TABLE people DROP COLUMN name",
        "ALTER TABLE people ADD COLUMN name text",
        "name",
    ),
    "no right": (
        f"REVOKE INSERT, UPDATE ON people FROM {USER}",
        f"GRANT INSERT, UPDATE ON people TO {USER}",
        "permission denied",
    ),
    "no login": (REVOKED["no login"][0], RESTORE, "is not permitted to log in"),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_table_that_changes_during_an_export(
    tmp_path: Path, server: Any, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "next_delay", lambda previous, random: 0.001)
    monkeypatch.setattr(tables, "MAX_ROWS", 10)
    server.execute(TABLE)
    statement, mend, reason = BROKEN[broken]
    made = connector("table", "Database", Engine(table_sink=lambda settings, context: server.sink()))
    async with open_installation(tmp_path, None, [made]) as installation:
        await installation.write_profiles(people(*range(1, 41)))
        pipeline: Pipeline = await installation.add_pipeline(
            "table",
            out_schema=OUT,
            transformation=TransformationDefinition(mapping=MAPPING),
            table_name="people",
            table_key="email",
        )
        job = installation.job(pipeline)
        commit, written = Recorder.commit, 0

        async def commit_and_break(self: Any, records: Any) -> None:
            nonlocal written
            await commit(self, records)
            written += 1
            if written == 2:
                await asyncio.to_thread(server.server.administer, statement, server.settings.database)
                await asyncio.to_thread(end_sessions, server)

        monkeypatch.setattr(Recorder, "commit", commit_and_break)
        with pytest.raises(RunFailed) as raised:
            await execute_export(job)
        assert reason in raised.value.message, raised.value.message
        records_ = await installation.records()
        assert sorted(number for number, each in records_.items() if not each.is_failed) == list(range(1, 21))
        assert not job.report.take_errors()
        await asyncio.to_thread(server.server.administer, mend, server.settings.database)
        assert server.execute("SELECT count(*) FROM people") == [(20,)]
        await installation.export(pipeline)
        assert server.execute("SELECT count(*), count(name) FROM people") in ([(40, 40)], [(40, 20)])
