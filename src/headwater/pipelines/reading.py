"""Frames on their way to a batch."""

import asyncio
from collections.abc import Iterable
from typing import Final

from headwater.eventlog import StoredFrame
from headwater.events.context import Locate
from headwater.pipelines.batch import Batch, BatchReader

MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
"""About how much the documents of a batch may have; the frames that remain are the next batch."""
SLICE_BYTES: Final = 128 * 1024
"""After how many bytes of documents reading lets others go on: about a millisecond."""


class Reading:
    """Reads frames piece by piece while there is time, and to the end when the batch is wanted."""

    def __init__(self, frames: Iterable[StoredFrame], locate: Locate | None = None) -> None:
        self._frames = iter(frames)
        self._reader = BatchReader(locate)

    async def go_on(self, has_time: asyncio.Event) -> None:
        """Read on whenever `has_time` is set, until all is read or this is cancelled."""
        await has_time.wait()
        while self._read_some():
            await asyncio.sleep(0)
            await has_time.wait()

    def finish(self) -> Batch:
        """The batch: of all frames, or of those whose documents are enough."""
        while self._read_some():
            pass
        return self._reader.batch()

    def _read_some(self) -> bool:
        """Read a slice; whether there may be more."""
        end = self._reader.size + SLICE_BYTES
        while self._reader.size < end:
            if self._reader.size >= MAX_DOCUMENT_BYTES or (stored := next(self._frames, None)) is None:
                return False
            self._reader.add(stored)
        return True
