"""Frames on their way to a batch."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from headwater.events.context import Locate
from headwater.log import StoredEntry
from headwater.processing.batch import Batch, BatchReader

MAX_DOCUMENT_BYTES: Final = 6 * 1024 * 1024
"""About how much the documents of a batch may have; the frames that remain are the next batch."""
SLICE_BYTES: Final = 128 * 1024
"""After how many bytes of documents reading lets others go on: about a millisecond."""

Fetch = Callable[[], Coroutine[Any, Any, list[StoredEntry]]]


class Reading:
    """Fetches frames and reads them piece by piece while there is time, and to the end when the batch is wanted."""

    def __init__(self, fetch: Fetch, locate: Locate | None = None) -> None:
        self._fetch = fetch
        self._fetching: asyncio.Task[list[StoredEntry]] | None = None
        self._reader = BatchReader(locate)
        self._left: Iterator[StoredEntry] = iter(())
        self.entries: list[StoredEntry] = []
        """What was fetched."""

    async def go_on(self, has_time: asyncio.Event) -> None:
        """Read on whenever `has_time` is set, until all is read or this is cancelled."""
        await has_time.wait()
        await self._fetched()
        await has_time.wait()
        while self._read_some():
            await asyncio.sleep(0)
            await has_time.wait()

    async def finish(self) -> Batch:
        """The batch: of all frames, or of those whose documents are enough. Raises what fetching raises."""
        await self._fetched()
        while self._read_some():
            pass
        return self._reader.batch()

    async def close(self) -> None:
        """Wait for what was begun: a batch that nobody wants any more is not fetched beside the next."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])
            self._fetching.exception()  # whoever wanted the batch would have heard of it

    async def _fetched(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        if not self.entries:
            # Fetching goes on whoever is cancelled: the frames are wanted all the same, and a moment later.
            self.entries = await asyncio.shield(self._fetching)
            self._left = iter(self.entries)

    def _read_some(self) -> bool:
        """Read a slice; whether there may be more."""
        end = self._reader.size + SLICE_BYTES
        while self._reader.size < end:
            if self._reader.size >= MAX_DOCUMENT_BYTES or (stored := next(self._left, None)) is None:
                return False
            self._reader.add(stored)
        return True
