"""Expects an error with its status, its code and its field, and an unchanged catalog."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog

IMPOSSIBLE_IDS = (0, -1, 2**31)
UNKNOWN_ID = 2**31 - 1


def _state(catalog: Catalog) -> list[object]:
    return [(workspace, catalog.connections(workspace.id)) for workspace in catalog.workspaces()]


@asynccontextmanager
async def refused(catalog: Catalog, status: int, code: str, field: str | None = None) -> AsyncIterator[None]:
    before = _state(catalog)
    version = catalog._view.version
    with pytest.raises(HeadwaterError) as caught:
        yield
    assert (caught.value.status, caught.value.code, caught.value.field) == (status, code, field), caught.value.message
    await catalog.refresh()
    assert catalog._view.version == version
    assert _state(catalog) == before
