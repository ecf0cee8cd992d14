"""Fetches and decodes the next entries while a batch is written.

Decision record 26 has the measurements: decoding in slices on the event loop, only while the handler waits for I/O,
costs nothing, because the process would be idle. Decoding at any other time would delay the handler.

    handler   | decide      | write, wait for the disk   | decide      | write ...
    io_bound  |             | set                        |             | set
    prefetch  |             | fetch, decode slice, slice |             | fetch ...
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar

from headwater.log.contract import StoredEntry

Batch_co = TypeVar("Batch_co", covariant=True)
Batch = TypeVar("Batch")

Fetch = Callable[[], Coroutine[Any, Any, list[StoredEntry]]]


class Decoder(Protocol[Batch_co]):
    """Decodes entries, one after another, into one batch."""

    size: int
    """Size of the decoded data, which can be far larger than the entries."""

    def add(self, stored: StoredEntry, /) -> None:
        """Decode one more entry. If it raises, the batch is not handled, and fetched again."""
        ...

    def batch(self) -> Batch_co:
        """Return all decoded entries as a batch."""
        ...


class Prefetch(Generic[Batch]):
    """One batch that is fetched and decoded: in slices while there is time, and to the end on `result`."""

    def __init__(self, fetch: Fetch, decoder: Decoder[Batch], *, max_decoded_bytes: int, slice_bytes: int) -> None:
        """The batch ends with the entry with which it has `max_decoded_bytes` or more; later entries are the next
        batch.

        Other tasks run after each `slice_bytes` of decoding.
        """
        self._fetch = fetch
        self._fetching: asyncio.Task[list[StoredEntry]] | None = None
        self._decoder = decoder
        self._max_decoded_bytes = max_decoded_bytes
        self._slice_bytes = slice_bytes
        self._left: Iterator[StoredEntry] = iter(())
        self._failure: Exception | None = None
        self.entries: list[StoredEntry] = []
        """The fetched entries."""
        self.last = 0
        """The position of the last decoded event; 0 if there is none."""

    async def run(self, io_bound: asyncio.Event) -> None:
        """Work whenever `io_bound` is set, until everything is decoded or this is cancelled."""
        await io_bound.wait()
        await self._fetched()
        await io_bound.wait()
        while self._decode_slice():
            await asyncio.sleep(0)
            await io_bound.wait()

    async def result(self) -> Batch:
        """Return the batch, once it is complete. Raises the errors of fetching and decoding, also those of `run`."""
        await self._fetched()
        if self._failure is not None:
            raise self._failure
        while self._decode_slice():
            await asyncio.sleep(0)
        return self._decoder.batch()

    async def close(self) -> None:
        """Wait for the fetch in progress, so that it does not overlap with the following one."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])
            if not self._fetching.cancelled():
                self._fetching.exception()  # mark as retrieved

    async def _fetched(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        if not self.entries:
            # A cancelled `run` does not stop the fetch: `result` needs the entries a moment later.
            self.entries = await asyncio.shield(self._fetching)
            self._left = iter(self.entries)

    def _decode_slice(self) -> bool:
        """Decode a slice; return whether there may be more."""
        end = self._decoder.size + self._slice_bytes
        while self._decoder.size < end:
            if self._decoder.size >= self._max_decoded_bytes or (stored := next(self._left, None)) is None:
                return False
            try:
                self._decoder.add(stored)
            except Exception as error:  # otherwise a batch without this entry would be handled
                self._failure = error
                raise
            self.last = stored.last
        return True
