"""One of the processes that race for ticks: `main(DATABASE_URL)`.

It fires 40 ticks of five minutes one after another, and claims and ends all runs that it finds. It prints the ids of
the runs that it ended.
"""

import asyncio
from datetime import UTC, datetime, timedelta

from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.runs.scheduling import Ticker
from headwater.state.runs import RunLost, open_runs
from tests.harness import MovableClock

FIRST = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TICKS = 40


async def race(url: str) -> None:
    clock, identifiers = MovableClock(FIRST), Identifiers()
    async with (
        open_catalog(url, clock=clock, identifiers=identifiers) as catalog,
        open_runs(url, clock=clock, identifiers=identifiers) as runs,
    ):
        await catalog.refresh()
        [workspace] = catalog.workspaces()
        ticker = Ticker(catalog, runs, clock)
        for number in range(1, TICKS + 1):
            clock.advance((FIRST + timedelta(minutes=5 * number) - clock.now()).total_seconds())
            await ticker.fire()
            while (run := await runs.claim(workspace.id)) is not None:
                try:
                    await runs.finish(run.id, run.fence, "Succeeded")
                except RunLost:
                    continue
                print(run.id, flush=True)


def main(url: str) -> None:
    asyncio.run(race(url))
