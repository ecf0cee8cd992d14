"""Kill -9 under load, in every arrangement: what was acknowledged is stored exactly once, whoever dies.

HEADWATER_CRASH_ROUNDS sets how often each arrangement is struck, HEADWATER_CRASH_SEED where and when. Each round prints
what it did; `-s` shows it.
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
"""How many events are acknowledged at least between two rounds: all is well again by then."""
LONGEST_WAIT_S: Final = 1.0

pytestmark = pytest.mark.timeout(120 + 20 * ROUNDS)


@pytest.fixture
def dice() -> random.Random:
    return random.Random(SEED)


async def test_embedded_with_two_backends(tmp_path: Path, dice: random.Random) -> None:
    await _kill_under_load(Arrangement(tmp_path, processes=2), dice)


async def test_postgresql(tmp_path: Path, dice: random.Random, postgresql_server: PostgresqlServer) -> None:
    await _kill_under_load(Arrangement(tmp_path, database=postgresql_server), dice)


async def test_two_machines_with_postgresql_and_nats_one_of_which_stays_dead(
    tmp_path: Path, dice: random.Random, postgresql_server: PostgresqlServer
) -> None:
    nats = NatsServer()
    try:
        # The worker of the first machine was there first. While it is spared it is the one that works when it dies.
        shared = Arrangement(tmp_path, machines=2, database=postgresql_server, nats=nats)
        await _kill_under_load(shared, dice, spared=("machine-1 worker", "machine-1 everything"), dying="machine-1")
    finally:
        nats.close()


async def _kill_under_load(
    arrangement: Arrangement, dice: random.Random, *, spared: tuple[str, ...] = (), dying: str | None = None
) -> None:
    print(f"seed {SEED}, {ROUNDS} rounds")
    async with loaded(arrangement) as load:
        for number, victims in enumerate(_rounds(arrangement, dice, spared), 1):
            await load.until_more(BETWEEN)
            await asyncio.sleep(dice.uniform(0, LONGEST_WAIT_S))
            kills = arrangement.victims()
            async with asyncio.TaskGroup() as killing:
                for victim in victims:
                    killing.create_task(kills[victim](dice.uniform(0, LONGEST_WAIT_S)))
            print(f"round {number}: killed {', '.join(victims)} after {load.acknowledged} acknowledged events")
        await load.until_more(BETWEEN)
        if dying is not None:
            await arrangement.kill_for_good(dying)
            print(f"killed {dying} for good after {load.acknowledged} acknowledged events")
            await load.until_more(BETWEEN)


def _rounds(arrangement: Arrangement, dice: random.Random, spared: tuple[str, ...]) -> list[list[str]]:
    """Whom each round kills: everyone, dealt to the first ones; then up to three at once."""
    candidates = [victim for victim in arrangement.victims() if victim not in spared]
    dice.shuffle(candidates)
    share = math.ceil(len(candidates) / ROUNDS)
    rounds = [candidates[first : first + share] for first in range(0, len(candidates), share)]
    return rounds + [dice.sample(candidates, dice.randint(1, 3)) for _ in range(ROUNDS - len(rounds))]
