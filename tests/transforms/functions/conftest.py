"""One runner for each module, because no call may leave anything behind."""

from collections.abc import AsyncIterator

import pytest_asyncio

from headwater.transforms.functions import Limits, Runner

LIMITS = Limits(seconds=0.5, memory=64 << 20, output=4 << 20, printed=10_000)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner() -> AsyncIterator[Runner]:
    async with Runner(LIMITS, javascript=1, python=2) as runner:
        yield runner
