"""A broker that stands still under calls, whose clients try again: stored once, and nobody is told of what is not."""

from pathlib import Path

import pytest

from tests.e2e.crash.arrangement import Arrangement
from tests.e2e.crash.load import loaded
from tests.nats import NatsServer


@pytest.mark.timeout(180)
async def test_nothing_is_acknowledged_by_a_broker_that_stands_still(tmp_path: Path) -> None:
    nats = NatsServer()
    try:
        async with loaded(Arrangement(tmp_path, processes=2, nats=nats)) as load:
            for is_killed in (False, True):
                await load.until_more(100)
                nats.freeze()
                await load.until_all_try_again()  # what it had acknowledged before has reached its clients
                before = load.acknowledged
                await load.until_all_try_again()
                assert load.acknowledged == before
                print(f"frozen after {before} acknowledged events")
                if is_killed:
                    nats.stop()
                    nats.start()
                else:
                    nats.thaw()
    finally:
        nats.close()
