"""Repeats reads of a database only after it has changed, for the loops that look for work.

SQLite counts the commits of other connections in memory that all processes share. A look at this counter takes some
microseconds on the event loop; a query through a thread takes a hundred times as long. PostgreSQL has no such counter,
so there every read goes to the database.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

MAX_RESULTS: Final = 64
"""Maximum number of results that are kept."""

_Result = TypeVar("_Result")


class DataVersion:
    """The counter of one SQLite file. Use it on one thread, and close it after use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def read(self) -> int | None:
        """Return a number that differs from the last one if anything has been committed since; None if it is unknown.

        It never waits for a lock.
        """
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            found: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            self.close()
            return None
        return found

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Changes:
    """Results of reads since the last change of a database. It closes with the engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._data_version: DataVersion | None = None
        if engine.dialect.name == "sqlite":
            self._data_version = version = DataVersion(Path(str(engine.url.database)))
            event.listen(engine.sync_engine, "engine_disposed", lambda _: version.close())
        self._version: int | None = None
        self._results: dict[Hashable, Any] = {}

    @property
    def are_known(self) -> bool:
        """Whether `once` keeps results."""
        return self._data_version is not None

    async def once(self, key: Hashable, read: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return the result of `read`, which is called if it has not succeeded with this key since the last change.

        The result must depend on the key and the database only, not on the time. The caller does not change it.
        """
        version = None if self._data_version is None else self._data_version.read()
        if version is None or version != self._version:  # after a failed look, the number is that of another connection
            self._version = version
            self._results.clear()
        if version is None:
            return await read()
        if key in self._results:
            kept: _Result = self._results[key]
            return kept
        result = await read()
        if version == self._version and len(self._results) < MAX_RESULTS:
            self._results[key] = result
        return result
