"""PostgreSQL: errors about unusable databases, the definition of an outage, and the settings of connections."""

import asyncio
import socket
import ssl
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from sqlalchemy import Connection, func, literal, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from headwater.base.errors import Unavailable, UnusableDatabase
from headwater.storage import postgresql, statements
from headwater.storage.database import as_unavailable, migrate, open_database, open_engine
from headwater.storage.postgresql import describe_url, explain, is_outage
from headwater.storage.sessions import begin_snapshot
from headwater.storage.statements import open_cursor
from tests.postgresql import PASSWORD, USER, PostgresqlServer

MIGRATIONS = "headwater.state.migrations"


async def refused(url: str) -> str:
    """Why the database at `url` cannot be used."""
    with pytest.raises(UnusableDatabase) as caught:
        async with open_database(url, MIGRATIONS):
            raise AssertionError("it can")
    message = str(caught.value)
    assert "\n" not in message
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "wrong-word"):
        assert secret not in message
    return message


@pytest.mark.parametrize(
    ("user", "password", "database", "rule"),
    [
        (USER, "wrong-word", "postgres", "it rejects the user or the password"),
        ("nobody-known", "wrong-word", "postgres", "it rejects the user or the password"),
        (USER, PASSWORD, "missing", "there is no such database"),
        (USER, PASSWORD, "postgres", "the user may not do what is needed (permission denied for database postgres)"),
        (USER, PASSWORD, "latin", "its encoding is LATIN1, and UTF8 is needed"),
        (USER, PASSWORD, "standby", "it takes no writes"),
        (USER, PASSWORD, "postgres?sslmode=require", "rejected SSL upgrade"),
        (USER, PASSWORD, "postgres?ssl=require", "rejected SSL upgrade"),
        (USER, PASSWORD, "postgres?sslmode=nonsense", "sslmode"),
        (USER, PASSWORD, "postgres?sslmode=verify-full&sslrootcert=/nowhere", "a file that its TLS parameters name"),
    ],
)
async def test_a_database_that_cannot_be_used(
    postgresql_server: PostgresqlServer, user: str, password: str, database: str, rule: str
) -> None:
    if database == "latin":
        postgresql_server.administer("CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0")
    if database == "standby":
        postgresql_server.administer(f"CREATE DATABASE standby OWNER {USER}")
        postgresql_server.administer("ALTER DATABASE standby SET default_transaction_read_only = on")
    message = await refused(postgresql_server.url(database, user=user, password=password))
    assert message.startswith(f"the PostgreSQL database '{database.partition('?')[0]}' at 127.0.0.1:")
    assert rule in message


async def test_a_server_that_is_too_old(postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "MINIMUM_VERSION", 19)
    assert "it is PostgreSQL 18, and 19 or newer is needed" in await refused(postgresql_server.url("postgres"))


async def test_a_server_that_is_not_there() -> None:
    url = f"postgresql+asyncpg://u:{quote(PASSWORD, safe='')}@127.0.0.1:1/x"
    assert "the PostgreSQL database 'x' at 127.0.0.1:1 cannot be used: nothing listens there" in await refused(url)
    assert "nothing listens there" in await refused("postgresql+asyncpg:///x?host=/nowhere")


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "CONNECT_TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with asyncio.timeout(30):
            assert "it did not respond within" in await refused(f"postgresql+asyncpg://u:p@127.0.0.1:{port}/x")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its host name is not known"),
        (ConnectionRefusedError(111, "refused"), "nothing listens there"),
        (TimeoutError(), "it did not respond within 5 seconds"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed: p@ss"), "TLS failed"),
        (OSError("Multiple exceptions: p@ss"), "Multiple exceptions: ***"),
        (ValueError("invalid DSN\nmore"), "invalid DSN"),
        (KeyError("a defect"), None),
    ],
)
def test_reasons(error: Exception, reason: str | None) -> None:
    found = explain(error, "postgresql+asyncpg://u:p%40ss@db/x")
    assert (found is None) == (reason is None)
    if found is not None and reason is not None:
        assert reason in found
        assert "p@ss" not in found


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql+asyncpg://u:p@db:5433/shop?x=y", "PostgreSQL database 'shop' at db:5433"),
        ("postgresql+asyncpg://u:p@[::1]/shop", "PostgreSQL database 'shop' at [::1]"),
        ("postgresql+asyncpg:///shop?host=/run/postgresql", "PostgreSQL database 'shop' at /run/postgresql"),
    ],
)
def test_a_database_is_named_without_its_password(url: str, name: str) -> None:
    assert describe_url(url) == name


async def failing(url: str, statement: str) -> BaseException:
    engine = open_engine(url, schema="state")
    try:
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError) as caught:
                await connection.execute(text(statement))
        return caught.value
    finally:
        await engine.dispose()


@pytest.mark.parametrize(
    ("statement", "outage"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", True),
        ("SELECT pg_sleep(5)", True),
        ("SELECT 1 / 0", False),
        ("SELECT nonsense", False),
        ("INSERT INTO progress VALUES (NULL, 1)", False),
    ],
)
async def test_what_counts_as_an_outage(
    postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch, statement: str, outage: bool
) -> None:
    monkeypatch.setattr(postgresql, "STATEMENT_TIMEOUT_SECONDS", 0.05)
    url = postgresql_server.create()
    assert is_outage(await failing(url, statement)) == outage
    postgresql_server.drop(url)


async def test_a_failover_without_a_primary_is_an_outage() -> None:
    async def connect() -> Any:
        raise asyncpg.TargetServerAttributeNotMatched("none of the hosts match the target attribute requirement")

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
    with pytest.raises(Unavailable):
        async with as_unavailable("it"), engine.connect():
            pass


async def test_only_outages_are_unavailable() -> None:
    with pytest.raises(Unavailable, match="the database does not respond"):
        async with as_unavailable("the database"):
            raise ConnectionResetError
    with pytest.raises(IntegrityError):
        async with as_unavailable("the database"):
            raise IntegrityError("INSERT", {}, Exception("unique"))


async def test_connections_do_not_depend_on_the_servers_settings(postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.create()
    name = url.rpartition("/")[2]
    postgresql_server.administer(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    engine = open_engine(f"{url}?application_name=shop", schema="state")
    try:
        async with engine.connect() as connection:
            shown = {
                setting: (await connection.execute(text(f"SHOW {setting}"))).scalar_one()
                for setting in ("search_path", "transaction_isolation", "statement_timeout", "lock_timeout", "timezone")
            }
        assert shown == {
            "search_path": "state",
            "transaction_isolation": "read committed",
            "statement_timeout": "30s",
            "lock_timeout": "5s",
            "timezone": "UTC",
        }
    finally:
        await engine.dispose()
        postgresql_server.drop(url)


async def test_a_pool_that_lost_its_connections_makes_new_ones(postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.create()
    engine = open_engine(url, schema="state")
    try:
        for _ in range(2):
            async with engine.connect() as connection:
                assert (await connection.execute(text("SELECT count(*) FROM checkpoints"))).scalar_one() == 0
            await asyncio.to_thread(postgresql_server.stop)
            await asyncio.to_thread(postgresql_server.start)
        await migrate(engine, MIGRATIONS)
    finally:
        await engine.dispose()
        postgresql_server.drop(url)


async def test_whoever_may_not_make_schemas_may_use_those_that_were_made(postgresql_server: PostgresqlServer) -> None:
    postgresql_server.administer("CREATE DATABASE prepared")
    postgresql_server.administer(f"CREATE SCHEMA state AUTHORIZATION {USER}", "prepared")
    async with open_database(postgresql_server.url("prepared"), MIGRATIONS) as engine, engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM messages"))).scalar_one() == 0


async def test_rows_in_parts_are_waited_for_longer_than_other_statements(
    postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part waits until everything is sorted."""
    monkeypatch.setattr(postgresql, "STATEMENT_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(postgresql, "COMMAND_TIMEOUT_SECONDS", 0.4)
    slow = select(literal(1), func.pg_sleep(0.6))

    def read(connection: Connection) -> list[Any]:
        begin_snapshot(connection)
        cursor = open_cursor(connection, slow)
        return [cursor.fetchmany(10), cursor.fetchmany(10)]

    def refused(connection: Connection) -> None:
        monkeypatch.setattr(statements, "MAX_READ_SECONDS", 0.1)
        with pytest.raises((DBAPIError, TimeoutError)) as caught:
            read(connection)
        assert isinstance(caught.value, TimeoutError) or is_outage(caught.value)

    engine = open_engine(postgresql_server.url("postgres"))
    try:
        async with engine.connect() as connection:
            assert [len(rows) for rows in await connection.run_sync(read)] == [1, 0]
        async with engine.connect() as connection:
            with pytest.raises((DBAPIError, TimeoutError)):
                await connection.execute(slow)
        async with engine.connect() as connection:
            await connection.run_sync(refused)
    finally:
        await engine.dispose()
