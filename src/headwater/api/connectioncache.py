"""Caches one derived object for each connection until the connection changes: most of a long list is unchanged.

Connections are immutable values, so a changed connection is another object.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from headwater.api.offloop import SMALL_DEFINITION_BYTES
from headwater.base.computing import Computing
from headwater.catalog import Connection
from headwater.management.quotas import definition_size

MAX_ENTRIES: Final = 10_000
"""Maximum number of cached connections. One with pipelines takes some kilobytes."""
MAX_DEFINITION_BYTES: Final = 32 << 20
"""Maximum total size of the definitions of the cached connections."""

_Derived = TypeVar("_Derived")


class ConnectionCache(Generic[_Derived]):
    """Calls `derive`, a function at the top level of a module, for connections that are new or have changed.

    For connections with large definitions it is called in another process.
    """

    def __init__(self, computing: Computing, derive: Callable[[Connection], _Derived]) -> None:
        self._computing = computing
        self._derive = derive
        self._entries: dict[int, tuple[Connection, _Derived]] = {}
        self._definition_bytes = 0

    async def get(self, connection: Connection) -> _Derived:
        """Return the result of `derive` for the connection. Raises as `Computing.run` does."""
        entry = self._entries.get(connection.id)
        if entry is not None and entry[0] is connection:
            return entry[1]
        size = sum(definition_size(pipeline.definition) for pipeline in connection.pipelines)
        if size <= SMALL_DEFINITION_BYTES:
            derived = self._derive(connection)
        else:
            bare = msgspec.structs.replace(connection, event_write_keys=(), sealed_settings=None)
            derived = await self._computing.run(f"workspace {connection.workspace}", self._derive, bare)
        self._definition_bytes += size
        if len(self._entries) >= MAX_ENTRIES or self._definition_bytes > MAX_DEFINITION_BYTES:
            self._entries.clear()
            self._definition_bytes = size
        self._entries[connection.id] = connection, derived
        return derived
