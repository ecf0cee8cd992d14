"""An installation in a folder of the test, and one source in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.catalog import Connection
from tests.harness import Harness, add_source, open_harness


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@pytest.fixture
async def source(harness: Harness) -> Connection:
    return await add_source(harness.catalog, harness.workspace)
