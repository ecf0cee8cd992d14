"""Fixtures that several rooms share."""

from collections.abc import Iterator

import pytest

from tests import postgresql
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """One running system for all tests that only talk to it. Tests that stop or harm one start their own."""
    running = start(tmp_path_factory.mktemp("system") / "data")
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """One PostgreSQL for all tests. Those that stop it start it again."""
    if reason := postgresql.missing():
        pytest.skip(reason)
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgresql_system(
    postgresql_server: PostgresqlServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSystem]:
    """As `system`, with a PostgreSQL whose tables it has made itself."""
    url = postgresql_server.create(empty=True)
    running = start(tmp_path_factory.mktemp("system") / "data", HEADWATER_DATABASE_URL=url)
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """A database of this test's own: None for SQLite files in a folder, or the URL of one in PostgreSQL.

    `-k sqlite` and `-k postgresql` select.
    """
    if request.param == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """As `database_url`, with no table made yet."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    url = server.create(empty=True)
    yield url
    server.drop(url)
