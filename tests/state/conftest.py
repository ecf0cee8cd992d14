"""A warehouse in a real SQLite file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.state import StateStore, open_state
from headwater.storage.database import sqlite_url
from tests.harness import MovableClock
from tests.sqlite import migrated_url


@pytest.fixture
def url(database_url: str | None, tmp_path: Path) -> str:
    return database_url or migrated_url(tmp_path / "state.db")


@pytest.fixture
def empty_url(empty_database_url: str | None, tmp_path: Path) -> str:
    """A database without tables."""
    return empty_database_url or sqlite_url(tmp_path / "state.db")


@pytest.fixture
async def state(url: str) -> AsyncIterator[StateStore]:
    async with open_state(url, writes=True, clock=MovableClock()) as state:
        yield state
