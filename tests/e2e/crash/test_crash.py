"""Kill -9 under load, in every arrangement: acknowledged events are stored exactly once, whichever process dies.

HEADWATER_CRASH_ROUNDS sets the number of kills of each arrangement, HEADWATER_CRASH_SEED their places and times. Each
round prints its kills; `-s` shows them.
"""

import asyncio
import math
import os
import random
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.crash.arrangement import Arrangement
from tests.e2e.crash.load import loaded
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer

ROUNDS: Final = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
SEED: Final = int(os.environ.get("HEADWATER_CRASH_SEED", "20260101"))
BETWEEN: Final = 100
"""Minimum number of events that are acknowledged between two rounds, which shows that the system has recovered."""
MAX_WAIT_SECONDS: Final = 1.0

pytestmark = pytest.mark.timeout(120 + 20 * ROUNDS)


@pytest.fixture
def random_() -> random.Random:
    return random.Random(SEED)


async def test_embedded_with_two_backends(tmp_path: Path, random_: random.Random) -> None:
    await _kill_under_load(Arrangement(tmp_path, processes=2), random_)


async def test_postgresql(tmp_path: Path, random_: random.Random, postgresql_server: PostgresqlServer) -> None:
    await _kill_under_load(Arrangement(tmp_path, database=postgresql_server), random_)


async def test_two_machines_with_postgresql_and_nats_one_of_which_stays_dead(
    tmp_path: Path, random_: random.Random, postgresql_server: PostgresqlServer
) -> None:
    nats = NatsServer()
    try:
        # The worker of the first machine started first. While it is spared it is the active one, until it dies.
        shared = Arrangement(tmp_path, machines=2, database=postgresql_server, nats=nats)
        await _kill_under_load(shared, random_, spared=("machine-1 worker", "machine-1 everything"), dying="machine-1")
    finally:
        nats.close()


async def _kill_under_load(
    arrangement: Arrangement, random_: random.Random, *, spared: tuple[str, ...] = (), dying: str | None = None
) -> None:
    print(f"seed {SEED}, {ROUNDS} rounds")
    async with loaded(arrangement) as load:
        for number, victims in enumerate(_rounds(arrangement, random_, spared), 1):
            await load.until_more(BETWEEN)
            await asyncio.sleep(random_.uniform(0, MAX_WAIT_SECONDS))
            kills = arrangement.victims()
            async with asyncio.TaskGroup() as killing:
                for victim in victims:
                    killing.create_task(kills[victim](random_.uniform(0, MAX_WAIT_SECONDS)))
            print(f"round {number}: killed {', '.join(victims)} after {load.acknowledged} acknowledged events")
        await load.until_more(BETWEEN)
        if dying is not None:
            await arrangement.kill_for_good(dying)
            print(f"killed {dying} for good after {load.acknowledged} acknowledged events")
            await load.until_more(BETWEEN)


def _rounds(arrangement: Arrangement, random_: random.Random, spared: tuple[str, ...]) -> list[list[str]]:
    """Return the victims of each round: first every victim in turn, then up to three together."""
    candidates = [victim for victim in arrangement.victims() if victim not in spared]
    random_.shuffle(candidates)
    share = math.ceil(len(candidates) / ROUNDS)
    rounds = [candidates[first : first + share] for first in range(0, len(candidates), share)]
    return rounds + [random_.sample(candidates, random_.randint(1, 3)) for _ in range(ROUNDS - len(rounds))]
