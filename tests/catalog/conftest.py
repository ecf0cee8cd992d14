"""A catalog in a real SQLite file, and a second one on the same file as another process would open it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Workspace, open_catalog
from headwater.storage.database import sqlite_url
from tests.sqlite import migrated_url


@pytest.fixture
def url(database_url: str | None, tmp_path: Path) -> str:
    return database_url or migrated_url(tmp_path / "catalog.db")


@pytest.fixture
def empty_url(empty_database_url: str | None, tmp_path: Path) -> str:
    """A database without tables."""
    return empty_database_url or sqlite_url(tmp_path / "catalog.db")


@pytest.fixture
async def catalog(url: str) -> AsyncIterator[Catalog]:
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as catalog:
        yield catalog


@pytest.fixture
async def other(catalog: Catalog, url: str) -> AsyncIterator[Catalog]:
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as other:
        yield other


@pytest.fixture
async def workspace(catalog: Catalog) -> Workspace:
    async with catalog.change() as change:
        workspace = Workspace(id=change.new_id(), name="Shop", created_at=change.now)
        change.add_workspace(workspace)
    return workspace
