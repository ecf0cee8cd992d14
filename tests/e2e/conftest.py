"""Systems that several modules of end-to-end tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.mmdb import write_mmdb
from tests.system import RunningSystem, start
from tests.tenants import add_tenant

MAX_EVENT_BYTES: Final = 2 << 20
MAX_BATCH_BYTES: Final = 6 << 20
PLACE: Final = {
    "city": {"names": {"en": "Rome"}},
    "country": {"iso_code": "IT"},
    "location": {"latitude": 41.9, "longitude": 12.5},
}
"""The location of 203.0.113.0/24."""


@pytest.fixture(scope="session")
def delivering_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start one system whose destinations may be receivers of the tests, which may kill its courier."""
    system = start(tmp_path_factory.mktemp("delivering") / "data", HEADWATER_ALLOW_PRIVATE_DESTINATIONS="1")
    try:
        yield system
    finally:
        assert system.stop() == 0, system.errors
    assert "Traceback" not in system.errors


@pytest.fixture(scope="session")
def files_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the files that `configured_system` may read."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def configured_system(tmp_path_factory: pytest.TempPathFactory, files_root: Path) -> Iterator[RunningSystem]:
    """Start one system for the tests of settings that do not affect each other."""
    folder = tmp_path_factory.mktemp("configured")
    write_mmdb(folder / "city.mmdb", {"203.0.113.0/24": PLACE})
    system = start(
        folder / "data",
        HEADWATER_ALLOW_PRIVATE_DESTINATIONS="127.0.0.0/8",
        HEADWATER_FILESYSTEM_ROOT=str(files_root),
        HEADWATER_MAX_BATCH_BYTES=str(MAX_BATCH_BYTES),
        HEADWATER_MAX_CONNECTION_DEFINITION_BYTES="16MiB",
        HEADWATER_MAX_EVENT_BYTES=str(MAX_EVENT_BYTES),
        HEADWATER_MAXMIND_DB=str(folder / "city.mmdb"),
        HEADWATER_TRUSTED_PROXIES="127.0.0.0/8,10.0.0.0/8",
    )
    try:
        yield system
    finally:
        assert system.stop() == 0, system.errors


@pytest.fixture(scope="module")
def tenant(system: RunningSystem) -> RunningSystem:
    """Make a workspace for tests that list its connections: in the shared one there are hundreds."""
    return add_tenant(system, "Tenant")
