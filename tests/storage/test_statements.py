"""Statements as text, on the driver of SQLite and through SQLAlchemy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.exc import IntegrityError, OperationalError

from headwater.storage.database import configure_sqlite
from headwater.storage.statements import fetch, run, run_each


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
