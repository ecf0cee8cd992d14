"""Overwrites the unused bytes of a SQLite file with zeros. A program of its own, with the standard library only.

`PRAGMA secure_delete` overwrites deleted rows and no copies of them. SQLite copies rows when it distributes them over
pages, and leaves the former copies in the unused part of a page, or in the last page of a long value.

| page | unused bytes |
| --- | --- |
| of a table or an index | between the list of its cells and the first cell, and in the list of its freed places |
| the last one of a long value | behind the value |
| free | all; of a page of the list of free pages those behind its entries |

A step writes to the file itself, because no statement writes to these bytes. It excludes other writers, and begins with
an empty WAL, so the file is the newest state, and no checkpoint changes it meanwhile. Readers never look at unused
bytes. A commit at the end of a step makes other connections read their pages again, which they write as a whole.

It must be a process of its own: closing a file releases all locks that its process has on it, also those of SQLite.
For the same reason it ends without closing: a last connection would delete the WAL.
"""

import os
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import Iterator
from typing import Final, NoReturn

STEP_SECONDS: Final = 0.1
"""Time for which other writers wait at most, and a page."""
PAUSE_SECONDS: Final = 0.05
"""Pause between two steps, in which others write."""
CHECKPOINT_TIMEOUT_SECONDS: Final = 0.1
"""Time limit for waiting until readers leave the WAL. They may read for longer: a later call tries again."""
BUSY_SECONDS: Final = 5.0
"""Time limit for waiting for other writers."""
MAX_PAGES: Final = 1 << 25
"""Number of pages from which a page of a long value can look like one of a table: 512 GiB with pages of 16 KiB."""
OUTAGE: Final = 75
"""The exit status when the database is busy or cannot be used."""
UNSUPPORTED: Final = 76
"""The exit status when the file is too large or has `auto_vacuum`."""

_READ_PAGES: Final = 64
_OLD_TABLE: Final = "free_space"
"""A table in which earlier releases allocated free pages to overwrite them. A kill left it."""
_INDEX_INTERIOR: Final = 0x02
_TABLE_INTERIOR: Final = 0x05
_INDEX_LEAF: Final = 0x0A
_TABLE_LEAF: Final = 0x0D
_KINDS: Final = frozenset({_INDEX_INTERIOR, _TABLE_INTERIOR, _INDEX_LEAF, _TABLE_LEAF})


class Unsupported(Exception):
    """The kinds of the pages of a file cannot be distinguished."""


class Pages:
    """The pages of a file that nobody changes meanwhile. Page 1, which has only the schema, is left as it is."""

    def __init__(self, file: int) -> None:
        self._file = file
        header = os.pread(file, 100, 0)
        (size,) = struct.unpack_from(">H", header, 16)
        self._size = 65_536 if size == 1 else size
        self._usable = self._size - header[20]
        (number,) = struct.unpack_from(">I", header, 28)
        self.count = min(number, os.fstat(file).st_size // self._size)
        self._has_maps = any(header[52:56])
        self._free: dict[int, int] = {}
        """For each free page the number of its first bytes that are used."""
        self._read_free(*struct.unpack_from(">II", header, 32))
        self.is_changed = False

    @property
    def is_supported(self) -> bool:
        """Whether the first byte of a page shows its kind. It does not with `auto_vacuum`."""
        return self.count < MAX_PAGES and not self._has_maps

    def clear(self, first: int, end: float) -> int:
        """Overwrite the unused bytes from a page on; return the next page, or 0 after the last one."""
        first = max(first, 2)
        while first <= self.count:
            number = min(_READ_PAGES, self.count + 1 - first)
            data = os.pread(self._file, number * self._size, (first - 1) * self._size)
            for index in range(len(data) // self._size):
                self._clear_page(first + index, data[index * self._size : (index + 1) * self._size])
            first += number
            if time.monotonic() > end:
                break
        return first if first <= self.count else 0

    def _read_free(self, trunk: int, number: int) -> None:
        while trunk and len(self._free) < number:
            content = self._read(trunk)
            following, entries = struct.unpack_from(">II", content)
            if entries > self._usable // 4 - 2:
                raise sqlite3.DatabaseError("the list of free pages is malformed")
            self._free[trunk] = 8 + 4 * entries
            self._free.update(dict.fromkeys(struct.unpack_from(f">{entries}I", content, 8), 0))
            trunk = following

    def _clear_page(self, page: int, content: bytes) -> None:
        used = self._free.get(page)
        if used is not None:
            self._overwrite(page, content, used, self._size)
        elif content[0] in _KINDS:
            self._clear_cells(page, content)

    def _clear_cells(self, page: int, content: bytes) -> None:
        """Overwrite the unused bytes of a page of a table or an index, and those behind its long values."""
        kind, freed, cells, start = struct.unpack_from(">BHHH", content)
        start = start or 65_536
        list_start = 12 if kind in (_INDEX_INTERIOR, _TABLE_INTERIOR) else 8
        list_end = list_start + 2 * cells
        if not list_end <= start <= self._usable:
            return
        self._overwrite(page, content, list_end, start)
        while start <= freed <= self._usable - 4:
            following, size = struct.unpack_from(">HH", content, freed)
            if freed + size > self._usable or (following and following < freed + size):
                return
            self._overwrite(page, content, freed + 4, freed + size)
            freed = following
        if kind != _TABLE_INTERIOR:
            for place in struct.unpack_from(f">{cells}H", content, list_start):
                self._clear_long(kind, content, place)

    def _clear_long(self, kind: int, content: bytes, place: int) -> None:
        """Overwrite the bytes behind the value of a cell, if it has pages of its own."""
        if kind == _INDEX_INTERIOR:
            place += 4
        if content[place] < 0x80:
            return
        size, place = _varint(content, place)
        least = (self._usable - 12) * 32 // 255 - 23
        most = self._usable - 35 if kind == _TABLE_LEAF else (self._usable - 12) * 64 // 255 - 23
        if size <= most:
            return
        if kind == _TABLE_LEAF:
            _, place = _varint(content, place)
        local = least + (size - least) % (self._usable - 4)
        local = local if local <= most else least
        (page,) = struct.unpack_from(">I", content, place + local)
        before, in_last = divmod(size - local - 1, self._usable - 4)
        for _ in range(before):
            (page,) = struct.unpack(">I", os.pread(self._file, 4, (page - 1) * self._size))
        if 1 < page <= self.count and page not in self._free:
            last = self._read(page)
            if last[:4] == bytes(4):
                self._overwrite(page, last, 4 + in_last + 1, self._size)

    def _overwrite(self, page: int, content: bytes, first: int, end: int) -> None:
        if first < end and content.count(0, first, end) != end - first:
            os.pwrite(self._file, bytes(end - first), (page - 1) * self._size + first)
            self.is_changed = True

    def _read(self, page: int) -> bytes:
        return os.pread(self._file, self._size, (page - 1) * self._size)


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return a number of variable length, and the place behind it."""
    number = 0
    for index in range(place, place + 8):
        number = number << 7 | content[index] & 0x7F
        if content[index] < 0x80:
            return number, index + 1
    return number << 8 | content[place + 8], place + 9


def connect(path: str) -> sqlite3.Connection:
    """Connect to a file. Raises sqlite3.Error."""
    return sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)


def steps(connection: sqlite3.Connection, path: str, page: int) -> Iterator[int | None]:
    """Overwrite the unused bytes from a page on. Each step gives the next page: 0 at the end, None if others are busy.

    Raises sqlite3.Error if the file is busy for too long, or unusable; Unsupported.
    """
    connection.execute(f"DROP TABLE IF EXISTS {_OLD_TABLE}")
    file = os.open(path, os.O_RDWR)
    while True:
        following = _step(connection, file, path, page)
        yield following
        page = page if following is None else following


def _step(connection: sqlite3.Connection, file: int, path: str, page: int) -> int | None:
    if not _empty_wal(connection):
        return None
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _has_wal(path):  # another process has written since
            return None
        pages = Pages(file)
        if not pages.is_supported:
            raise Unsupported(f"the file has {pages.count} pages, or auto_vacuum")
        following = pages.clear(page, time.monotonic() + STEP_SECONDS)
        if pages.is_changed:
            os.fsync(file)
            (number,) = connection.execute("PRAGMA application_id").fetchone()
            connection.execute(f"PRAGMA application_id={number}")
        connection.execute("COMMIT")
        return following
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _empty_wal(connection: sqlite3.Connection) -> bool:
    connection.execute(f"PRAGMA busy_timeout={int(1_000 * CHECKPOINT_TIMEOUT_SECONDS)}")
    try:
        (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(1_000 * BUSY_SECONDS)}")
    return not is_busy


def _has_wal(path: str) -> bool:
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        return False


def work(connection: sqlite3.Connection, path: str, page: int, seconds: float) -> int:
    """Work for some seconds, and print the next page, 0 after the last one. Return the exit status."""
    end = time.monotonic() + seconds
    try:
        for following in steps(connection, path, page):
            page = page if following is None else following
            if not page or time.monotonic() > end:
                break
            time.sleep(PAUSE_SECONDS)
    except (sqlite3.Error, OSError) as error:
        print(error, file=sys.stderr)
        return OUTAGE
    except Unsupported as error:
        print(error, file=sys.stderr)
        return UNSUPPORTED
    print(page)
    return 0


def main(path: str, page: int, seconds: float) -> NoReturn:
    """Work for some seconds, and exit without closing the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the caller decides
    connection = connect(path)
    status = work(connection, path, page, seconds)
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
