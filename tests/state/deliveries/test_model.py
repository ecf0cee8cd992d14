"""Each delivery is open, finished, dead or lost for space, whatever happens: never two of these, never none."""

import asyncio
import os
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.state.deliveries import (
    EXPIRED,
    NO_SPACE,
    DeadCursor,
    DeadSelection,
    NewChunk,
    NewDeliveries,
    QueuedChunk,
    QueuedEvent,
)
from headwater.state.deliveries.counts import EVERYTHING, read_sizes
from headwater.state.deliveries.store import SqlDeliveryStore, open_delivery_store
from tests.sqlite import migrated_url
from tests.state.deliveries.deliveries import WORKSPACE, letter, progress

DESTINATIONS = {21: (31, 32), 22: (33,), 23: (34,)}
PIPELINES = {pipeline: destination for destination, some in DESTINATIONS.items() for pipeline in some}
Delivery = tuple[int, int]
"""Position and pipeline."""

EVENTS = st.none() | st.sets(st.integers(0, 5), min_size=1)
WANTED = st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(PIPELINES), EVENTS))
PICK = st.integers(0, 1 << 16)
OPERATIONS = st.one_of(
    st.tuples(st.just("append"), WANTED, PICK),
    st.tuples(st.just("finish"), st.sampled_from(sorted(DESTINATIONS)), PICK),
    st.tuples(st.just("reject"), st.sampled_from(sorted(DESTINATIONS)), PICK),
    st.tuples(st.just("expire"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("resend"), st.none() | st.sampled_from(sorted(PIPELINES)), st.booleans()),
    st.tuples(st.just("shrink"), st.integers(1, 60), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0), st.just(0)),
)


class Model:
    """The store, and what it should hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: SqlDeliveryStore
        self.epoch = 0
        self.now = 0
        self.position = 0
        self.all: Counter[Delivery] = Counter()
        self.finished: Counter[Delivery] = Counter()

    async def append(self, wanted: dict[int, set[int] | None], _: int) -> None:
        events = [QueuedEvent(self.position + n + 1, 1, f"m{n}", 0, "u", None, os.urandom(300)) for n in range(6)]
        chunks = []
        for destination, pipelines in DESTINATIONS.items():
            mine = {
                each: None if (some := wanted[each]) is None else sorted(some) for each in pipelines if each in wanted
            }
            if mine:
                chunks.append(NewChunk(destination, WORKSPACE, mine))
        if chunks:
            await self.store.append([NewDeliveries(WORKSPACE, events, chunks)], through=self.position + 6, now=self.now)
        for pipeline, some in wanted.items():
            self.all.update((self.position + n + 1, pipeline) for n in (range(6) if some is None else some))
        self.position += 6

    async def chunks(self, destination: int) -> list[QueuedChunk]:
        found = await self.store.read(destination, 0, max_bytes=1 << 30)
        assert [chunk.id for chunk in found] == sorted(chunk.id for chunk in found)
        return found

    async def finish(self, destination: int, pick: int, *, rejects: bool = False) -> None:
        chunks = await self.chunks(destination)
        if not chunks:
            return
        chunk = chunks[pick % len(chunks)]
        items = list(chunk.unfinished())
        chosen = [n for n in range(len(items)) if pick % 3 == 0 or pick >> n & 1] or [0]
        indexes = [items[n].number & 0xFFFFF for n in chosen]
        dead = [letter(chunk, n, died_at=self.now) for n in chosen] if rejects else []
        await self.store.commit(self.epoch, [progress(chunk, indexes)], dead=dead, now=self.now)
        if not rejects:
            self.finished.update((items[n].event.position, items[n].pipeline) for n in chosen)

    async def reject(self, destination: int, pick: int) -> None:
        await self.finish(destination, pick, rejects=True)

    async def expire(self, ago: int, _: int) -> None:
        await self.store.expire(self.epoch, before=self.now - ago, now=self.now)

    async def resend(self, pipeline: int | None, expired: bool) -> None:
        selection = DeadSelection(workspace=WORKSPACE, pipeline=pipeline, reason=EXPIRED if expired else None)
        name, before = f"op{self.now}", await self.store.count_dead(selection)
        while not (done := await self.store.resend(name, selection, now=self.now + 1)).is_complete:
            pass
        assert done.items == before
        assert await self.store.count_dead(selection) == 0

    async def shrink(self, kilobytes: int, _: int) -> None:
        self.store._max_bytes = kilobytes << 10
        await self.store.make_space(now=self.now)
        sizes = await self.store._read(read_sizes)
        left = sum(each.open_items + each.dead_items for id_, each in sizes.items() if id_ != EVERYTHING)
        assert not left or sizes[EVERYTHING].open_bytes <= kilobytes << 10
        self.store._max_bytes = 1 << 30

    async def check(self) -> None:
        """Compare everything that the store tells."""
        opened: Counter[Delivery] = Counter()
        summaries = {each.destination: each for each in await self.store.summaries()}
        for destination in DESTINATIONS:
            chunks = await self.chunks(destination)
            for chunk in chunks:
                opened.update((item.event.position, item.pipeline) for item in chunk.unfinished())
            items = sum(chunk.item_count for chunk in chunks)
            assert (summaries[destination].open_items if destination in summaries else 0) == items
        dead: Counter[Delivery] = Counter()
        reasons: Counter[tuple[int, str]] = Counter()
        after: DeadCursor | None = None
        while True:
            page = await self.store.dead_letters(DeadSelection(workspace=WORKSPACE), limit=7, after=after)
            dead.update((each.event.position, each.pipeline) for each in page.letters)
            reasons.update((each.pipeline, each.reason) for each in page.letters)
            after = page.next
            if after is None:
                break
        ranges = await self.store.dead_ranges(DeadSelection(workspace=WORKSPACE), limit=1_000)
        for each in ranges:
            reasons.update({(pipeline, NO_SPACE): count for pipeline, count in each.pipelines.items()})
        counted = {(each.pipeline, each.reason): each.count for each in await self.store.dead_counts(WORKSPACE)}
        assert counted == +reasons
        assert await self.store.count_dead(DeadSelection(workspace=WORKSPACE)) == dead.total()
        lost = self.all - self.finished - opened - dead
        assert (self.finished + opened + dead + lost) == self.all, "none is there twice"
        assert lost.total() >= sum(sum(each.pipelines.values()) for each in ranges)


async def run(path: Path, operations: list[tuple[str, object, object]]) -> None:
    model, left = Model(path), list(operations)
    while left:
        async with open_delivery_store(migrated_url(path)) as store:
            model.store, model.epoch = store, await store.claim()
            while left:
                name, *arguments = left.pop(0)
                if name == "reopen":
                    break
                model.now += 1
                await getattr(model, name)(*arguments)
                await model.check()
    async with open_delivery_store(migrated_url(path)) as store:
        while await store.remove(await store.owners()):
            pass
        sizes = await store._read(read_sizes)
        assert sizes == {} or not any((sizes[EVERYTHING].open_bytes, sizes[EVERYTHING].dead_bytes))


@settings(max_examples=40)
@given(st.lists(OPERATIONS, min_size=8, max_size=25))
def test_each_delivery_is_in_one_place(operations: list[tuple[str, object, object]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        asyncio.run(run(Path(folder) / "delivery.db", operations))
