"""Fixtures for several packages, and settings of all tests."""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import hypothesis
import pytest
import structlog

from tests import postgresql
from tests.examples import DEFAULT, QUICK, THOROUGH
from tests.memory import roomy_memory
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start

pytest_plugins = ["tests.tiers"]

ROOM_BYTES: Final = 4 << 30

TESTS: Final = Path(__file__).parent
CLOCK_FOLDER: Final = TESTS / "clock"
ABOVE_STORES: Final = {"api", "management"}
"""Folders of packages without SQL. The statements that they cause are tested on both databases with the stores, and the
whole API on PostgreSQL in tests/e2e."""

# TEST_CLOCK_DAYS=400 runs the tests, and the Python processes that they start, with a clock that is 400 days ahead.
if os.environ.get("TEST_CLOCK_DAYS"):
    sys.path.append(str(CLOCK_FOLDER))  # tests give sys.path to child processes
    os.environ["PYTHONPATH"] = ":".join(filter(None, [str(CLOCK_FOLDER), os.environ.get("PYTHONPATH")]))
    sys.modules.pop("sitecustomize", None)  # Debian has one
    importlib.import_module("sitecustomize")

# The duration of an example depends on the load of the machine.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None, max_examples=DEFAULT)
hypothesis.settings.load_profile("unhurried")
hypothesis.settings.register_profile("quick", hypothesis.settings(), max_examples=QUICK)  # of `make test-unit`
hypothesis.settings.register_profile("thorough", hypothesis.settings(), max_examples=THOROUGH)  # of `make test-long`

# A shell lets its background jobs ignore SIGINT, and programs that the tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# structlog prints the variables of each level of a traceback by default, which takes seconds.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

if (memory := roomy_memory(ROOM_BYTES, programs=True)) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))  # the folders of tests, for pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Leave modules and tests, some million objects, out of all collections of garbage: one takes 0.4 s with them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder = metafunc.definition.path.relative_to(TESTS).parts[0]
    is_both = folder not in ABOVE_STORES or metafunc.definition.get_closest_marker("both_databases") is not None
    own = {marker.args[0] for marker in metafunc.definition.iter_markers("parametrize")}
    for name in {"database_url", "empty_database_url"}.intersection(metafunc.fixturenames) - own:
        metafunc.parametrize(name, ["sqlite", "postgresql"] if is_both else ["sqlite"], indirect=True)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start one system for all tests that only send requests to it. Tests that stop or harm a system start their
    own."""
    running = start(tmp_path_factory.mktemp("system") / "data")
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Start one PostgreSQL for all tests. Those that stop it start it again."""
    if reason := postgresql.missing():
        pytest.skip(reason)
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """Start one NATS for all tests that leave it alone."""
    server = NatsServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgresql_system(
    postgresql_server: PostgresqlServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSystem]:
    """Start a system like `system`, with a PostgreSQL database in which it creates the tables."""
    url = postgresql_server.create(empty=True)
    running = start(tmp_path_factory.mktemp("system") / "data", HEADWATER_DATABASE_URL=url)
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Return a database for this test: None for SQLite files in a folder, or the URL of one in PostgreSQL.

    `-k sqlite` and `-k postgresql` select. Tests in `ABOVE_STORES` run on SQLite only, unless they are marked with
    `both_databases`.
    """
    if request.param == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def empty_database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Return a database like `database_url`, without tables."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    url = server.create(empty=True)
    yield url
    server.drop(url)
