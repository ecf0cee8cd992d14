"""An installation in a folder of the test, and one source in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.catalog import Connection
from tests.parts import OpenParts, add_source, open_parts


@pytest.fixture
async def parts(tmp_path: Path, database_url: str | None) -> AsyncIterator[OpenParts]:
    async with open_parts(tmp_path, database_url=database_url) as parts:
        yield parts


@pytest.fixture
async def source(parts: OpenParts) -> Connection:
    return await add_source(parts.catalog, parts.workspace)
