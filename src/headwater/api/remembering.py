"""Remembers what is made of each connection for as long as the connection does not change: most of a long list is not
new. Connections are values, so another object is another state."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from headwater.api.offloop import SMALL_DEFINITION_BYTES
from headwater.base.computing import Computing
from headwater.catalog import Connection
from headwater.management.quotas import definition_size

MOST: Final = 10_000
"""How many connections are remembered. One with pipelines takes some kilobytes."""
MOST_BYTES: Final = 32 << 20
"""The definitions of the connections that are remembered have at most so many bytes together."""

_Made = TypeVar("_Made")


class Remembering(Generic[_Made]):
    """Calls `make`, a function at the top level of a module, for connections that are new or have changed.

    For those with large definitions it is called in another process.
    """

    def __init__(self, computing: Computing, make: Callable[[Connection], _Made]) -> None:
        self._computing = computing
        self._make = make
        self._known: dict[int, tuple[Connection, _Made]] = {}
        self._bytes = 0

    async def made(self, connection: Connection) -> _Made:
        """What `make` gives for the connection. Raises what `Computing.run` raises."""
        known = self._known.get(connection.id)
        if known is not None and known[0] is connection:
            return known[1]
        size = sum(definition_size(pipeline.definition) for pipeline in connection.pipelines)
        if size <= SMALL_DEFINITION_BYTES:
            made = self._make(connection)
        else:
            bare = msgspec.structs.replace(connection, event_write_keys=(), sealed_settings=None)
            made = await self._computing.run(f"workspace {connection.workspace}", self._make, bare)
        self._bytes += size
        if len(self._known) >= MOST or self._bytes > MOST_BYTES:
            self._known.clear()
            self._bytes = size
        self._known[connection.id] = connection, made
        return made
