"""Kill -9 under load, in every arrangement: what was acknowledged is stored exactly once, whoever dies.

HEADWATER_CRASH_ROUNDS sets how often each arrangement is struck, HEADWATER_CRASH_SEED where and when. Each round prints
what it did; `-s` shows it.
"""

import asyncio
import math
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.crash.arrangement import Arrangement
from tests.e2e.crash.senders import Sender, dialects
from tests.e2e.source import make_source
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer

ROUNDS: Final = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
SEED: Final = int(os.environ.get("HEADWATER_CRASH_SEED", "20260101"))
SENDERS_OF_A_DIALECT: Final = 2
BETWEEN: Final = 100
"""How many events are acknowledged at least between two kills: all is well again by then."""
LONGEST_WAIT_S: Final = 1.0
RECOVERY_S: Final = 60

pytestmark = pytest.mark.timeout(120 + 20 * ROUNDS)


@pytest.fixture
def dice() -> random.Random:
    return random.Random(SEED)


async def test_embedded_with_two_backends(tmp_path: Path, dice: random.Random) -> None:
    async with _arranged(Arrangement(tmp_path, processes=2)) as arrangement:
        await _kill_under_load(arrangement, dice)


async def test_postgresql(tmp_path: Path, dice: random.Random, postgresql_server: PostgresqlServer) -> None:
    async with _arranged(Arrangement(tmp_path, database=postgresql_server)) as arrangement:
        await _kill_under_load(arrangement, dice)


async def test_two_machines_with_postgresql_and_nats_one_of_which_stays_dead(
    tmp_path: Path, dice: random.Random, postgresql_server: PostgresqlServer
) -> None:
    nats = NatsServer()
    try:
        shared = Arrangement(tmp_path, machines=2, database=postgresql_server, nats=nats)
        async with _arranged(shared) as arrangement:
            # Its worker was there first. As long as it is spared here, it is the one that works when it dies.
            await _kill_under_load(arrangement, dice, spared="machine-1 worker", dying="machine-1")
    finally:
        nats.close()


@asynccontextmanager
async def _arranged(arrangement: Arrangement) -> AsyncIterator[Arrangement]:
    try:
        await asyncio.to_thread(arrangement.start)
        yield arrangement
    finally:
        await asyncio.to_thread(arrangement.close)


async def _kill_under_load(
    arrangement: Arrangement, dice: random.Random, *, spared: str = "", dying: str | None = None
) -> None:
    source = make_source(next(iter(arrangement.systems.values())))
    senders = [
        Sender(f"{dialect.name}-{number}", dialect, arrangement, source.write_key)
        for number in range(SENDERS_OF_A_DIALECT)
        for dialect in dialects()
    ]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as sending:
        for sender in senders:
            sending.create_task(sender.run(stop))
        for number, victims in enumerate(_rounds(arrangement, dice, spared), 1):
            await _until_more(senders, dice)
            kills = arrangement.victims()
            async with asyncio.TaskGroup() as killing:
                for victim in victims:
                    killing.create_task(kills[victim](dice.uniform(0, LONGEST_WAIT_S)))
            print(f"round {number}: killed {', '.join(victims)} after {_count(senders)} acknowledged events")
        await _until_more(senders, dice)
        if dying is not None:
            await arrangement.kill_for_good(dying)
            print(f"killed {dying} for good after {_count(senders)} acknowledged events")
            await _until_more(senders, dice)
        stop.set()
    await _until_stored(arrangement, senders)
    _check(await arrangement.stored(), senders)
    print(f"most memory in MiB: {arrangement.memory()}")


def _rounds(arrangement: Arrangement, dice: random.Random, spared: str) -> list[list[str]]:
    """Whom each round kills: everyone, dealt to the first ones; then up to three at once."""
    candidates = [victim for victim in arrangement.victims() if victim != spared and not _takes(victim, spared)]
    dice.shuffle(candidates)
    share = math.ceil(len(candidates) / ROUNDS)
    rounds = [candidates[first : first + share] for first in range(0, len(candidates), share)]
    return rounds + [dice.sample(candidates, dice.randint(1, 3)) for _ in range(ROUNDS - len(rounds))]


def _takes(victim: str, spared: str) -> bool:
    """Whether the one dies with the other."""
    return bool(spared) and victim == f"{spared.partition(' ')[0]} everything"


def _count(senders: list[Sender]) -> int:
    return sum(len(sender.acknowledged) for sender in senders)


async def _until_more(senders: list[Sender], dice: random.Random) -> None:
    """Until all goes on, and then for a while."""
    enough = _count(senders) + BETWEEN
    async with asyncio.timeout(RECOVERY_S):
        while _count(senders) < enough:
            await asyncio.sleep(0.01)
    await asyncio.sleep(dice.uniform(0, LONGEST_WAIT_S))


async def _until_stored(arrangement: Arrangement, senders: list[Sender]) -> None:
    acknowledged = {name for sender in senders for name in sender.acknowledged}
    async with asyncio.timeout(RECOVERY_S):
        while missing := acknowledged.difference(await arrangement.stored()):
            await asyncio.sleep(0.2)
    assert not missing


def _check(stored: list[str], senders: list[Sender]) -> None:
    """Every acknowledged event is stored once, nothing that was not sent, and each sender's in its order."""
    acknowledged, retries = _count(senders), sum(sender.retries for sender in senders)
    print(f"seed {SEED}: {acknowledged} acknowledged, {len(stored)} stored, {retries} calls were sent again")
    twice = [name for name, times in Counter(stored).items() if times > 1]
    assert not twice, "stored twice"
    unknown = set(stored).difference(*(sender.attempted for sender in senders))
    assert not unknown, "stored and never sent"
    place = {name: number for number, name in enumerate(stored)}
    for sender in senders:
        places = [place[name] for name in sender.acknowledged]
        assert places == sorted(places), f"the events of {sender.name} are not in their order"
