"""Sorts the links of a workspace on disk, because a million identities have more than fit in memory."""

import sqlite3
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Final

NumberedLink = tuple[int, str, int, int]
"""The identifier, the value, the number of the identity, and its mask."""
_CACHE_KIB: Final = 16 * 1024
_ROWS_PER_INSERT: Final = 50
_INSERT: Final = "INSERT INTO links VALUES (?, ?, ?, ?)"
_INSERT_MANY: Final = f"INSERT INTO links VALUES {', '.join(['(?, ?, ?, ?)'] * _ROWS_PER_INSERT)}"


class LinkSorter:
    """A temporary SQLite database without a name: it is deleted when it is closed, or when the process ends.

    Several threads may use it, one at a time.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("CREATE TABLE links (identifier INTEGER, value TEXT, number INTEGER, mask INTEGER)")
        self._connection.execute("BEGIN")
        self._sorted: sqlite3.Cursor | None = None
        self._is_indexed = False

    def add(self, links: Iterable[NumberedLink]) -> None:
        """Add links. None may be added after the first call of `take`."""
        everything = list(links)
        together = len(everything) // _ROWS_PER_INSERT * _ROWS_PER_INSERT
        groups = (everything[start : start + _ROWS_PER_INSERT] for start in range(0, together, _ROWS_PER_INSERT))
        self._connection.executemany(_INSERT_MANY, map(tuple, map(chain.from_iterable, groups)))
        self._connection.executemany(_INSERT, everything[together:])

    def take(self, count: int) -> list[NumberedLink]:
        """Return the next links in the order of identifier, value and number, at most `count`."""
        if self._sorted is None:
            self._sorted = self._connection.execute(
                "SELECT identifier, value, number, mask FROM links ORDER BY identifier, value, number"
            )
        return self._sorted.fetchmany(count)

    def take_again(self, identifiers: Collection[int]) -> None:
        """Let `take` begin again, with the links of these identifiers only."""
        marks = ", ".join("?" for _ in identifiers)
        self._sorted = self._connection.execute(
            f"SELECT identifier, value, number, mask FROM links WHERE identifier IN ({marks})"
            " ORDER BY identifier, value, number",
            tuple(identifiers),
        )

    def find_links(self, number: int) -> list[tuple[int, str]]:
        """Return the identifiers and values of one identity. The first call takes a second for a million links."""
        if not self._is_indexed:
            self._connection.execute("CREATE INDEX links_by_number ON links (number)")
            self._is_indexed = True
        found = self._connection.execute("SELECT identifier, value FROM links WHERE number = ?", (number,))
        return found.fetchall()

    def close(self) -> None:
        """Delete everything."""
        self._connection.close()
