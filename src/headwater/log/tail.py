"""Follows a log without a lease, for any number of watchers in one process.

One task reads the latest entries, decodes each once, and puts it into the queue of every watcher. It runs only while
there are watchers. A queue is bounded: a watcher that is too slow loses its oldest entries, and receives their number.
A watcher never slows down another one, the log, or its consumers.

A watcher that starts at an earlier position first reads by itself, at its own pace, without losing entries that are
still in the log, and joins the others after it has caught up.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, Generic, TypeVar

import structlog
from msgspec import Struct

from headwater.base.errors import Unavailable
from headwater.log.contract import EventLog, StoredEntry

MAX_READ_BYTES: Final = 1024 * 1024
READ_WAIT: Final = timedelta(milliseconds=500)
DEFAULT_QUEUE_BYTES: Final = 4 * 1024 * 1024
"""Default maximum size of the entries that wait for one watcher. At least one entry fits."""
BACK_OFF_SECONDS: Final = 1.0
"""Delay of the tail after an error."""

_log = structlog.get_logger(__name__)
Item = TypeVar("Item")


class Watched(Struct, Generic[Item], frozen=True):
    """Consecutive entries for one watcher."""

    items: list[Item]
    position: int
    """The position of the last event. A watcher that continues after it misses nothing."""
    dropped: int = 0
    """Number of events before `items` that were dropped because the watcher was too slow."""
    missed_bytes: int = 0
    """Approximate bytes of entries before `items` that were removed from the log."""


class Tail(Generic[Item]):
    """Used in one event loop."""

    def __init__(
        self,
        log: EventLog,
        decode: Callable[[StoredEntry], Item],
        *,
        queue_bytes: int = DEFAULT_QUEUE_BYTES,
    ) -> None:
        """`decode` is called once per entry that watchers share. An entry for which it raises is skipped."""
        self._log = log
        self._decode = decode
        self._queue_bytes = queue_bytes
        self._watchers: set[Watcher[Item]] = set()
        self._following: asyncio.Task[None] | None = None
        self._position: int | None = None
        """The position up to which entries were put into queues; None if the log is not followed."""

    @asynccontextmanager
    async def watch(self, *, after: int | None = None) -> AsyncIterator["Watcher[Item]"]:
        """Watch the entries after a position until the end of the block; None: only entries that arrive later.

        Raises Unavailable if the log cannot be reached.
        """
        watcher = Watcher(self, after)
        try:
            if after is None:
                await self._start()
                self._watchers.add(watcher)
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                await self._end()

    async def _start(self) -> None:
        """Follow the log from its newest entry on, unless it is already followed."""
        if self._position is None:
            position = await self._log.last_position()
            if self._position is None:  # another watcher may have started it
                self._position = position
                self._following = asyncio.create_task(self._follow(position), name="log-tail")

    async def _end(self) -> None:
        """Stop following. Watchers that arrive meanwhile start it again."""
        following, self._following, self._position = self._following, None, None
        if following is not None:
            following.cancel()
            await asyncio.wait([following])

    async def _follow(self, position: int) -> None:
        this = asyncio.current_task()
        while self._following is this:  # the client of NATS may swallow a cancellation
            try:
                entries = await self._log.read(position, max_bytes=MAX_READ_BYTES, wait=READ_WAIT)
            except Unavailable as error:
                _log.warning("the tail of the log waits", reason=error.message, seconds=BACK_OFF_SECONDS)
                await asyncio.sleep(BACK_OFF_SECONDS)
                continue
            except Exception:
                _log.exception("the tail of the log cannot read", seconds=BACK_OFF_SECONDS)
                await asyncio.sleep(BACK_OFF_SECONDS)
                continue
            for stored in entries:
                if self._following is not this:
                    return
                position = self._position = stored.last
                item = self.decoded(stored)
                for watcher in self._watchers:
                    watcher.put(stored, item, self._queue_bytes)
                await asyncio.sleep(0)  # decoding may take a millisecond

    async def read(self, watcher: "Watcher[Item]", after: int) -> Watched[Item] | None:
        """Read for a watcher that is catching up. Returns None once it has caught up and has a queue."""
        await self._start()
        if self._position is not None and after >= self._position:
            self._watchers.add(watcher)
            return None
        entries = await self._log.read(after, max_bytes=MAX_READ_BYTES, wait=timedelta())
        if not entries:  # entries that the tail has passed were removed
            self._watchers.add(watcher)
            return None
        items = [item for stored in entries if (item := self.decoded(stored)) is not None]
        missed = sum(stored.missed_bytes for stored in entries)
        return Watched(items, entries[-1].last, missed_bytes=missed)

    def decoded(self, stored: StoredEntry) -> Item | None:
        """Return the item of an entry; None if it cannot be decoded."""
        try:
            return self._decode(stored)
        except Exception:
            _log.exception("an entry cannot be decoded for watchers", position=stored.position)
            return None


class Watcher(Generic[Item]):
    """A watcher of a tail. One task uses it."""

    def __init__(self, tail: Tail[Item], after: int | None) -> None:
        self._tail = tail
        self._after = after
        """The position from which it reads by itself; None once it has a queue."""
        self._queue: deque[tuple[StoredEntry, Item | None]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._position = 0
        self._has_items = asyncio.Event()

    async def next(self) -> Watched[Item]:
        """Wait for entries, and return all that are available. Raises Unavailable while it catches up."""
        while self._after is not None:
            watched = await self._tail.read(self, self._after)
            if watched is None:
                self._position, self._after = self._after, None
            else:
                self._after = watched.position
                return watched
        await self._has_items.wait()
        self._has_items.clear()
        queue, self._queue, self._bytes = self._queue, deque(), 0
        dropped, self._dropped = self._dropped, 0
        items = [item for _, item in queue if item is not None]
        missed = sum(stored.missed_bytes for stored, _ in queue)
        return Watched(items, queue[-1][0].last, dropped, missed)

    def put(self, stored: StoredEntry, item: Item | None, max_bytes: int) -> None:
        """Add an entry for the tail. Drops the oldest entries if the queue is full."""
        if stored.last <= self._position:  # it was read while catching up
            return
        self._queue.append((stored, item))
        self._bytes += stored.entry.size
        while self._bytes > max_bytes and len(self._queue) > 1:
            oldest, _ = self._queue.popleft()
            self._bytes -= oldest.entry.size
            self._dropped += oldest.entry.events
        self._has_items.set()
