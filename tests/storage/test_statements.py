"""Statements as text, on the drivers and through SQLAlchemy."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from headwater.storage.database import configure_sqlite, is_outage, open_engine
from headwater.storage.postgresql import read_sqlstate
from headwater.storage.statements import fetch, run, run_each
from tests.postgresql import MIGRATED, PostgresqlServer


@pytest.fixture(params=["direct", "listening"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", poolclass=NullPool, hide_parameters=True)
    configure_sqlite(engine)
    if request.param == "listening":
        event.listen(engine, "before_cursor_execute", lambda *_: None)
    with engine.connect() as opened:
        run(opened, "CREATE TABLE things (id INTEGER PRIMARY KEY)")
        opened.commit()
        yield opened


def test_work_is_a_part_of_the_transaction(connection: Connection) -> None:
    assert run_each(connection, "INSERT INTO things VALUES (?)", [(1,), (2,)]) == 2
    assert run(connection, "DELETE FROM things WHERE id = ?", (1,)) == 1
    assert [tuple(row) for row in fetch(connection, "SELECT id FROM things")] == [(2,)]
    assert connection.in_transaction()
    connection.rollback()
    assert fetch(connection, "SELECT id FROM things") == []
    run(connection, "INSERT INTO things VALUES (3)")
    connection.commit()
    connection.rollback()
    assert [tuple(row) for row in fetch(connection, "SELECT id FROM things")] == [(3,)]


def test_errors_are_those_of_sqlalchemy_without_parameters(connection: Connection) -> None:
    run_each(connection, "INSERT INTO things VALUES (?)", [(4711,)])
    for call in (run, fetch):
        with pytest.raises(IntegrityError) as refused:
            call(connection, "INSERT INTO things VALUES (?)", (4711,))
        assert "4711" not in str(refused.value) and "INSERT INTO things" in str(refused.value)
    with pytest.raises(IntegrityError):
        run_each(connection, "INSERT INTO things VALUES (?)", [(4711,)])
    with pytest.raises(OperationalError):
        fetch(connection, "SELECT nothing FROM things")


def test_a_listener_sees_statements(connection: Connection) -> None:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(connection, "before_cursor_execute", note)
    fetch(connection, "SELECT id FROM things")
    run_each(connection, "INSERT INTO things VALUES (?)", [(1,)])
    run(connection, "DELETE FROM things")
    assert [statement.split()[0] for statement in seen] == ["SELECT", "INSERT", "DELETE"]


@pytest.mark.parametrize("is_listening", [False, True])
async def test_statements_on_postgresql(postgresql_server: PostgresqlServer, is_listening: bool) -> None:
    def work(connection: Connection) -> None:
        assert run(connection, "CREATE TEMPORARY TABLE things (id bigint PRIMARY KEY) ON COMMIT DROP") == -1
        assert run(connection, "INSERT INTO things VALUES ($1), (2), (3)", (1,)) == 3
        assert run(connection, "UPDATE things SET id = id + 10 WHERE id > $1", (1,)) == 2
        assert run(connection, "SAVEPOINT attempt") == -1
        with pytest.raises(DBAPIError) as refused:
            run(connection, "INSERT INTO things VALUES ($1)", (1,))
        assert read_sqlstate(refused.value) == "23505" and not is_outage(refused.value)
        assert "$1" in str(refused.value) and "parameters:" not in str(refused.value)
        run(connection, "ROLLBACK TO SAVEPOINT attempt")
        rows = fetch(connection, "SELECT id, id > $1 FROM things ORDER BY id", (1,))
        assert [tuple(row) for row in rows] == [(1, False), (12, True), (13, True)]
        assert [row.id for row in sorted(rows, reverse=True)] == [13, 12, 1] and not hasattr(rows[0], "missing")
        assert run(connection, "DELETE FROM things WHERE id = $1", (12,)) == 1
        assert connection.in_transaction()

    await _on_postgresql(postgresql_server, work, is_listening=is_listening)


@pytest.mark.parametrize("is_listening", [False, True])
async def test_a_connection_that_the_server_closes_is_an_outage(
    postgresql_server: PostgresqlServer, is_listening: bool
) -> None:
    def work(connection: Connection) -> None:
        fetch(connection, "SELECT 1")
        with pytest.raises(DBAPIError) as ended:
            fetch(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert is_outage(ended.value)
        connection.rollback()
        assert [tuple(row) for row in fetch(connection, "SELECT 1")] == [(1,)]

    await _on_postgresql(postgresql_server, work, is_listening=is_listening)


@pytest.mark.parametrize("is_listening", [False, True])
async def test_a_connection_works_again_after_a_cancelled_statement(
    postgresql_server: PostgresqlServer, is_listening: bool
) -> None:
    engine = open_engine(postgresql_server.url(MIGRATED))
    if is_listening:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: None)

    def wait(connection: Connection) -> None:
        fetch(connection, "SELECT 1")
        fetch(connection, "SELECT pg_sleep(60)")

    try:
        async with engine.connect() as connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await connection.run_sync(wait)
            await connection.rollback()
            assert len(await connection.run_sync(fetch, "SELECT 1")) == 1
    finally:
        await engine.dispose()


async def _on_postgresql(server: PostgresqlServer, work: Callable[[Connection], None], *, is_listening: bool) -> None:
    engine = open_engine(server.url(MIGRATED))
    if is_listening:
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: None)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()
