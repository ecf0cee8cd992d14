"""Queries that never end, connections that are lost or closed, and addresses that are not allowed."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import TableWrite
from headwater.connectors.databases import mysql, mysql_session, postgresql, postgresql_session, sqlite
from tests.connectors.databases import test_mysql, test_postgresql, test_sqlite
from tests.connectors.databases.test_mysql import mariadb_server
from tests.postgresql import PASSWORD

__all__ = ["mariadb_server"]

pytestmark = pytest.mark.process

postgresql_database = pytest.fixture(test_postgresql.database.__wrapped__, name="postgresql_database")  # type: ignore[attr-defined]
mysql_database = pytest.fixture(test_mysql.database.__wrapped__, name="mysql_database")  # type: ignore[attr-defined]
sqlite_database = pytest.fixture(test_sqlite.database.__wrapped__, name="sqlite_database")  # type: ignore[attr-defined]

ENDLESS = {
    "postgresql": "SELECT pg_sleep(1000) AS a",
    "mysql": "SELECT SLEEP(1000) AS a",
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS a FROM n",
}
LONG = {
    "postgresql": "SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 10000000) n",
    "mysql": "SELECT seq, REPEAT('x', 1000) AS t FROM seq_1_to_10000000",
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i, hex(zeroblob(500)) AS t FROM n",
}
RUNNING: dict[str, str] = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP%' AND id <> connection_id()",
}


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def database(request: pytest.FixtureRequest) -> Any:
    database = request.getfixturevalue(f"{request.param}_database")
    database.kind = request.param
    return database


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Start a function in a thread, and return one that waits for its result or its error."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(function())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> Any:
        thread.join(30)
        assert not thread.is_alive()
        return result[0]

    return wait


def read_all(source: Any, query: str, started: threading.Event | None = None) -> int:
    count = 0
    with source.query(query, {}, None) as rows:
        for batch in rows.batches():
            count += len(batch)
            if started is not None:
                started.set()
    return count


def gone(database: Any) -> bool:
    """Return whether the server no longer runs an endless query."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if database.kind == "sqlite" or database.execute(RUNNING[database.kind]) == [(0,)]:
            return True
        time.sleep(0.02)
    return False


def test_closing_ends_an_endless_query(database: Any) -> None:
    source = database.source()
    wait = in_thread(lambda: read_all(source, ENDLESS[database.kind]))
    if database.kind in RUNNING:
        while database.execute(RUNNING[database.kind]) == [(0,)]:
            time.sleep(0.02)
    source.close()
    error = wait()
    assert isinstance(error, Unavailable), error
    assert gone(database)
    with pytest.raises(Unavailable):
        read_all(source, "SELECT 1 AS a")


def test_closing_ends_a_query_that_is_read(database: Any) -> None:
    source, started = database.source(), threading.Event()
    wait = in_thread(lambda: read_all(source, LONG[database.kind], started))
    assert started.wait(30)
    source.close()
    assert isinstance(wait(), Unavailable)


def test_a_query_that_gives_no_rows_is_ended_after_a_time(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (postgresql, mysql_session, sqlite):
        monkeypatch.setattr(module, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(postgresql_session, "WAIT_SECONDS", 0.3)
    with pytest.raises(Unavailable, match=r"0\.3 seconds"):
        read_all(database.source(), ENDLESS[database.kind])
    assert gone(database)


def test_a_connection_that_is_lost_is_unavailable(database: Any) -> None:
    if database.kind == "sqlite":
        pytest.skip("a file has no connection")
    kill = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%repeat%' "
        "AND pid <> pg_backend_pid()",
        "mysql": None,
    }[database.kind]
    with pytest.raises(Unavailable), database.source().query(LONG[database.kind], {}, None) as rows:
        batches = rows.batches()
        next(batches)
        if kill is not None:
            assert database.execute(kill) == [(True,)]
        else:
            [(number,)] = database.execute(
                "SELECT id FROM information_schema.processlist WHERE info LIKE '%REPEAT%' AND id <> connection_id()"
            )
            database.execute(f"KILL {number}")
        for _ in batches:
            pass


def test_a_sink_connects_again_after_a_failure(database: Any) -> None:
    if database.kind == "sqlite":
        pytest.skip("a file has no connection")
    database.execute("CREATE TABLE people (id int PRIMARY KEY, name varchar(9))")
    write = TableWrite(table="people", columns=("id", "name"), key=("id",))
    sink = database.sink()
    sink.upsert(write, [(1, "a")])
    if database.kind == "postgresql":
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'headwater' AND datname = current_database()"
        )
    else:
        for (number,) in database.execute("SELECT id FROM information_schema.processlist WHERE id <> connection_id()"):
            database.execute(f"KILL {number}")
    with pytest.raises(Unavailable):
        sink.upsert(write, [(2, "b")])
    sink.upsert(write, [(2, "b")])
    assert database.execute("SELECT count(*) FROM people") == [(2,)]
    sink.close()


def test_a_missing_server_a_wrong_password_and_a_forbidden_address(database: Any) -> None:
    if database.kind == "sqlite":
        pytest.skip("a file has no server")
    module = {"postgresql": postgresql, "mysql": mysql}[database.kind]
    context = database.source()._context
    module.check(database.settings, context)
    wrong = msgspec.structs.replace(database.settings, password="wrong-secret")
    with pytest.raises(Unprocessable) as refused:
        module.check(wrong, context)
    assert refused.value.code == "InvalidSettings" and "wrong-secret" not in refused.value.message
    with pytest.raises(Unprocessable):
        module.check(msgspec.structs.replace(database.settings, database="missing"), context)
    with pytest.raises(Unavailable):
        module.check(msgspec.structs.replace(database.settings, port=1), context)
    if database.kind == "postgresql":  # the server has no TLS
        with pytest.raises(Unavailable):
            module.check(msgspec.structs.replace(database.settings, tls="Required"), context)
    private = msgspec.structs.replace(context, addresses=AddressPolicy())
    with pytest.raises(HeadwaterError, match="HEADWATER_ALLOW_PRIVATE_DESTINATIONS") as forbidden:
        module.check(database.settings, private)
    assert PASSWORD not in forbidden.value.message
    module.check(msgspec.structs.replace(database.settings, host="localhost"), context)


def test_large_values_stay_within_bounds(database: Any) -> None:
    """Values of 1 MB come in batches of few rows."""
    query = {
        "postgresql": "SELECT n, repeat('x', 1000000) AS t FROM generate_series(1, 60) n",
        "mysql": "SELECT seq, REPEAT('x', 1000000) AS t FROM seq_1_to_60",
        "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60) "
        "SELECT i, hex(zeroblob(500000)) AS t FROM n",
    }[database.kind]
    with database.source().query(query, {}, None) as rows:
        sizes = [len(batch) for batch in rows.batches()]
    assert sum(sizes) == 60 and max(sizes) <= 9


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before + 1
