"""A delivery queue in a real SQLite file, and in PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.state.deliveries import open_delivery_store
from headwater.state.deliveries.store import SqlDeliveryStore
from headwater.storage.database import sqlite_url
from tests.sqlite import migrated_url


@pytest.fixture
def url(database_url: str | None, tmp_path: Path) -> str:
    return database_url or migrated_url(tmp_path / "delivery.db")


@pytest.fixture
def empty_url(empty_database_url: str | None, tmp_path: Path) -> str:
    """A database without tables."""
    return empty_database_url or sqlite_url(tmp_path / "delivery.db")


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlDeliveryStore]:
    async with open_delivery_store(url) as store:
        yield store
