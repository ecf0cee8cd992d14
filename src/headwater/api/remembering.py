"""What is made of each connection, made once for as long as the connection does not change: most of a long list is not
new. Connections are values, so another object is another state."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from headwater.catalog import Connection

MOST: Final = 10_000
"""How many connections are remembered. One with pipelines takes some kilobytes."""

_Made = TypeVar("_Made")


class Remembering(Generic[_Made]):
    """Calls `make` for connections that are new or have changed."""

    def __init__(self, make: Callable[[Connection], _Made]) -> None:
        self._make = make
        self._known: dict[int, tuple[Connection, _Made]] = {}

    def __call__(self, connection: Connection) -> _Made:
        known = self._known.get(connection.id)
        if known is None or known[0] is not connection:
            if len(self._known) >= MOST:
                self._known.clear()
            known = self._known[connection.id] = (connection, self._make(connection))
        return known[1]
