"""The load of the crash tests: clients of every protocol, and the guarantees for their events."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

from tests.e2e.crash.arrangement import Arrangement
from tests.e2e.crash.senders import CallSender, Sender, protocols
from tests.e2e.crash.streaming import StreamSender
from tests.e2e.source import get, make_source
from tests.system import RunningSystem

SENDERS_OF_A_DIALECT: Final = 2
RECOVERY_SECONDS: Final = 60


class Load:
    """The running senders."""

    def __init__(self, senders: list[Sender]) -> None:
        self.senders = senders

    @property
    def acknowledged(self) -> int:
        """Number of acknowledged events."""
        return sum(len(sender.acknowledged) for sender in self.senders)

    @property
    def retries(self) -> int:
        """Number of calls that were sent again."""
        return sum(sender.retries for sender in self.senders)

    async def until_more(self, events: int) -> None:
        """Wait until this number of further events is acknowledged, which shows that the system works."""
        enough = self.acknowledged + events
        async with asyncio.timeout(RECOVERY_SECONDS):
            while self.acknowledged < enough:
                await asyncio.sleep(0.01)

    async def until_all_retry(self) -> None:
        """Wait until a call of each sender has failed once more."""
        before = [sender.retries for sender in self.senders]
        async with asyncio.timeout(RECOVERY_SECONDS):
            while any(sender.retries <= retries for sender, retries in zip(self.senders, before, strict=True)):
                await asyncio.sleep(0.01)

    async def check(self, arrangement: Arrangement) -> None:
        """Assert that every acknowledged event is stored once, that no other event is, and that each sender's are in
        order."""
        acknowledged = {name for sender in self.senders for name in sender.acknowledged}
        async with asyncio.timeout(RECOVERY_SECONDS):
            while not acknowledged.issubset(stored := await arrangement.stored()):
                await asyncio.sleep(0.5)
        print(f"{self.acknowledged} acknowledged, {len(stored)} stored, {self.retries} calls were sent again")
        print(f"most memory in MiB: {arrangement.memory()}")
        assert [name for name, times in Counter(stored).items() if times > 1] == [], "stored twice"
        unknown = set(stored).difference(*(sender.attempted for sender in self.senders))
        assert not unknown, "stored and never sent"
        place = {name: number for number, name in enumerate(stored)}
        for sender in self.senders:
            places = [place[name] for name in sender.acknowledged]
            assert places == sorted(places), f"the events of {sender.name} are not in their order"
        for system in arrangement.systems.values():
            await asyncio.to_thread(self._check_traces, system)

    def _check_traces(self, system: RunningSystem) -> None:
        """Assert that each machine has the trace of an event, whatever was killed between it and the writer of the
        traces."""
        for sender in self.senders:
            name = sender.acknowledged[-1]
            traces = get(system, f"/v1/events/{quote(name)}/trace")["traces"]
            outcomes = [trace["outcome"] for trace in traces if trace["outcome"] != "Duplicate"]
            assert outcomes == (["Processed"] if sender.has_message_ids else []), (name, traces)


@asynccontextmanager
async def loaded(arrangement: Arrangement) -> AsyncIterator[Load]:
    """Run the arrangement, with clients that send during the block. Then wait until all events are acknowledged, and
    check the stored ones."""
    try:
        await asyncio.to_thread(arrangement.start)
        key = make_source(next(iter(arrangement.systems.values()))).write_key
        load = Load(_authenticator(arrangement, key))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as sending:
            for sender in load.senders:
                sending.create_task(sender.run(stop))
            yield load
            stop.set()
        await load.check(arrangement)
    finally:
        await asyncio.to_thread(arrangement.close)


def _authenticator(arrangement: Arrangement, key: str) -> list[Sender]:
    senders: list[Sender] = []
    for number in range(SENDERS_OF_A_DIALECT):
        senders += [CallSender(f"{protocol.name}-{number}", protocol, arrangement, key) for protocol in protocols()]
        senders.append(StreamSender(f"stream-{number}", arrangement, key))
    return senders
