"""Caches the chunks of lanes between runs, with a limit of memory."""

from collections import OrderedDict
from typing import Final

from headwater.state import Chunk

MAX_CHUNK_CACHE_BYTES: Final = 48 << 20
"""Maximum size of the chunks that are kept between the runs of lanes."""
ENTRY_BYTES: Final = 500
"""Approximate memory of an entry of such a chunk, without its document."""


class ChunkCache:
    """The current chunks of lanes, the most recently used ones, up to `MAX_CHUNK_CACHE_BYTES`."""

    def __init__(self) -> None:
        self._chunks: OrderedDict[int, tuple[Chunk, int]] = OrderedDict()
        self._bytes = 0

    def get(self, pipeline: int) -> Chunk | None:
        """Return the chunk of a pipeline, if it is cached."""
        if (found := self._chunks.get(pipeline)) is None:
            return None
        self._chunks.move_to_end(pipeline)
        return found[0]

    def drop(self, pipeline: int) -> None:
        """Remove the chunk of a pipeline."""
        _, size = self._chunks.pop(pipeline, (None, 0))
        self._bytes -= size

    def put(self, pipeline: int, chunk: Chunk) -> None:
        """Cache this chunk instead of the pipeline's previous one."""
        _, former = self._chunks.pop(pipeline, (None, 0))
        size = sum(map(len, chunk.documents)) + len(chunk.entries) * ENTRY_BYTES
        self._chunks[pipeline] = chunk, size
        self._bytes += size - former
        while self._bytes > MAX_CHUNK_CACHE_BYTES and len(self._chunks) > 1:
            _, (_, size) = self._chunks.popitem(last=False)
            self._bytes -= size

    def clear(self) -> None:
        """Remove all chunks."""
        self._chunks.clear()
        self._bytes = 0
