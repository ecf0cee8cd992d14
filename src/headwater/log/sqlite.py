"""The log in one SQLite file.

**On disk.** `log.db`, in WAL mode with `synchronous=FULL`:

    frames(position INTEGER PRIMARY KEY,   the position of the frame's first event
           events INTEGER,                 how many positions it occupies
           appended_at INTEGER,            microseconds since the epoch, by this machine's clock
           header BLOB, body BLOB,
           bytes_before INTEGER)           the sizes of all frames before it, also of those that are gone
    cursors(consumer TEXT PRIMARY KEY, position INTEGER)

A frame's position is the newest frame's position plus its events, read in the same write transaction; SQLite lets in
one writer at a time, so positions have no gaps and become visible in their order, with any number of writing processes.
The newest frame is never removed, because the next position is counted from it.

**Size.** The file has at most `max_bytes`, which SQLite itself enforces: a log at its bound and a full disk are one
case, in which finished frames make room, and otherwise nothing is stored. Pages of removed frames are used again; the
file does not shrink.

**Recovery.** There is none to run. A transaction that was cut short, in the middle of a page or of its WAL record,
fails SQLite's checksum at the next open and is as if it had never begun; one whose fsync returned is there. A
consumer's lease is a file lock, which the kernel drops with the process, so a restart never waits for a dead holder.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.log.backpressure import BackPressure
from headwater.log.contract import Lease, LeaseLost, LeaseTaken, LogEntry, StoredEntry
from headwater.log.groupcommit import SLOW_FSYNC_SECONDS, GroupCommit, measure_fsync
from headwater.storage.database import BUSY_TIMEOUT_MS

Result = TypeVar("Result")

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""How much may wait to be written before callers are told to come back later."""
POLL_SECONDS = 0.01
"""How often a waiting reader looks for a new frame. One look costs some ten microseconds."""
TURN_POLL_SECONDS = 0.0005
"""How often a process that waits for another one's write looks whether its turn has come."""
PAGE_BYTES = 16 * 1024
"""A frame of a batch is some 70 KB: pages of four times the usual size write it 40 % faster."""
CHECKPOINT_BYTES = 4 * 1024 * 1024
"""How much gathers in the WAL before it is moved into the file. More is no faster, and stalls one commit for longer."""
TRIM_FRAMES = 50
"""How many frames are removed in one transaction: appending waits for it."""
DEFAULT_MAX_BYTES = 10 * 1024**3
NEARLY_FULL = 0.9
"""From this part of its bound on, finished frames leave the log early."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    position INTEGER PRIMARY KEY, events INTEGER NOT NULL, appended_at INTEGER NOT NULL,
    header BLOB NOT NULL, body BLOB NOT NULL, bytes_before INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS cursors (consumer TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""
_BYTES_BEFORE = "ALTER TABLE frames ADD COLUMN bytes_before INTEGER NOT NULL DEFAULT 0"
"""For files that were made before there was this column."""
_NEXT = """
SELECT position + events, bytes_before + length(header) + length(body) FROM frames ORDER BY position DESC LIMIT 1
"""
_FINISHED_BYTES = """
SELECT coalesce(
    (SELECT bytes_before + length(header) + length(body) FROM frames
     WHERE position <= (SELECT min(position) FROM cursors) ORDER BY position DESC LIMIT 1),
    (SELECT bytes_before FROM frames ORDER BY position LIMIT 1))
"""


class SqliteEventLog:
    """An `EventLog` in the file `path`. Open it on a running event loop; close it when done."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        after: int = 0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        commit_in_thread: bool | None = None,
        back_pressure: BackPressure | None = None,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        """New positions come after `after`, whatever the file holds; the file has `max_bytes` at most.

        `after` is the position up to which consumers have finished. A log that was lost, or put back from an old copy,
        would otherwise give out positions that they believe to have behind them, and its events would never be seen.
        """
        self._path = path
        self._after = after
        self._clock = clock
        self._max_pages = max_bytes // PAGE_BYTES
        self._back_pressure = back_pressure
        self._closed = False
        if commit_in_thread is None:
            commit_in_thread = measure_fsync(path.parent) > SLOW_FSYNC_SECONDS
        self._writer = _connect(path)
        self._writer.executescript(_SCHEMA)
        if "bytes_before" not in [row[1] for row in self._writer.execute("PRAGMA table_info(frames)")]:
            self._writer.execute(_BYTES_BEFORE)
        self._writer.execute(f"PRAGMA max_page_count={self._max_pages}")
        self._writer.execute("PRAGMA busy_timeout=0")  # it waits in its own way
        self._reader = _connect(path)
        self._reading = ThreadPoolExecutor(1, "log-read")
        self._group = GroupCommit[LogEntry](
            self._append_group,
            size=lambda entry: entry.size,
            in_thread=commit_in_thread,
            max_pending_bytes=MAX_PENDING_BYTES,
            metrics=metrics,
        )

    async def append(self, entry: LogEntry) -> int:
        if self._back_pressure is not None:
            self._back_pressure.check()
        return await self._group.submit(entry)

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        deadline = time.monotonic() + wait.total_seconds()
        while not (entries := await self._off_loop(lambda: self._read(after, max_bytes))):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return []
            await asyncio.sleep(min(POLL_SECONDS, remaining))
        return entries

    async def lease(self, consumer: str) -> Lease:
        lock = os.open(self._path.with_suffix(f".{consumer}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise LeaseTaken(consumer) from None
        try:
            await self._off_loop(
                lambda: self._reader.execute("INSERT OR IGNORE INTO cursors VALUES (?, 0)", (consumer,))
            )
        except BaseException:
            os.close(lock)  # or this process could never ask again
            raise
        return SqliteLease(self, consumer, lock)

    async def cursors(self) -> dict[str, int]:
        return dict(await self._off_loop(lambda: self._reader.execute("SELECT * FROM cursors").fetchall()))

    async def last_position(self) -> int:
        newest = await self._off_loop(lambda: self._reader.execute(_NEXT).fetchone())
        return newest[0] - 1 if newest else 0

    async def backlog_bytes(self) -> int:
        return await self._off_loop(self._backlog_bytes)

    async def trim(self, *, older_than: timedelta) -> int:
        horizon = microseconds(self._clock.now() - older_than)
        total = 0
        while removed := await self._off_loop(lambda: self._trim(horizon)):
            total += removed
        return total

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._group.close()
        await self._off_loop(self._reader.close)
        self._reading.shutdown()
        self._writer.close()

    async def advance(self, consumer: str, position: int) -> None:
        """Move a consumer's cursor forward; called by its lease."""
        update = "UPDATE cursors SET position = max(position, ?) WHERE consumer = ?"
        await self._off_loop(lambda: self._reader.execute(update, (position, consumer)))

    def _append_group(self, group: list[LogEntry]) -> list[int]:
        try:
            try:
                return self._insert(group)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._make_room(group):
                    raise
                return self._insert(group)
        except sqlite3.Error as error:
            raise Unavailable(f"the event log cannot be written: {error}") from error

    def _insert(self, group: list[LogEntry]) -> list[int]:
        now = microseconds(self._clock.now())
        positions: list[int] = []
        rows = []
        with _transaction(self._writer):
            newest, size = self._writer.execute(_NEXT).fetchone() or (1, 0)
            position = max(newest, self._after + 1)
            for entry in group:
                positions.append(position)
                rows.append((position, entry.events, now, entry.header, entry.body, size))
                position += entry.events
                size += entry.size
            self._writer.executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)", rows)
        return positions

    def _make_room(self, group: list[LogEntry]) -> bool:
        """Remove finished frames before their time; whether it was enough for the group."""
        needed = 2 * sum(entry.size for entry in group)
        with suppress(sqlite3.Error):  # a full disk, where nothing can be removed either
            while self._free_bytes(self._writer) < needed:
                if not _remove(self._writer, microseconds(self._clock.now()) + 1):
                    break
            else:
                return True
        return False

    def _free_bytes(self, connection: sqlite3.Connection) -> int:
        pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        return int(self._max_pages - pages + free) * PAGE_BYTES

    def _backlog_bytes(self) -> int:
        newest = self._reader.execute(_NEXT).fetchone()
        return newest[1] - self._reader.execute(_FINISHED_BYTES).fetchone()[0] if newest else 0

    def _read(self, after: int, max_bytes: int) -> list[StoredEntry]:
        entries = []
        rows = self._reader.execute(
            "SELECT position, events, header, body FROM frames WHERE position > ? ORDER BY position", (after,)
        )
        for position, events, header, body in rows:
            entries.append(StoredEntry(position, LogEntry(events, header, body)))
            max_bytes -= entries[-1].entry.size
            if max_bytes <= 0:
                break
        rows.close()
        return entries

    def _trim(self, horizon: int) -> int:
        if self._free_bytes(self._reader) < (1 - NEARLY_FULL) * self._max_pages * PAGE_BYTES:
            horizon = microseconds(self._clock.now()) + 1
        return _remove(self._reader, horizon)

    async def _off_loop(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, work)
        except sqlite3.Error as error:  # a full disk above all: cursors and trimming write too
            raise Unavailable(f"the event log does not answer: {error}") from error


class SqliteLease:
    """A `Lease` that is an exclusive lock on a file beside the log."""

    def __init__(self, log: SqliteEventLog, consumer: str, lock: int) -> None:
        self.consumer = consumer
        self._log = log
        self._lock: int | None = lock

    @property
    def held(self) -> bool:
        return self._lock is not None

    async def advance(self, position: int) -> None:
        if not self.held:
            raise LeaseLost(self.consumer)
        await self._log.advance(self.consumer, position)

    async def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)  # closing the file is what unlocks it
            self._lock = None


def _remove(connection: sqlite3.Connection, horizon: int) -> int:
    """Remove some of the frames that everyone has finished and that were appended before `horizon`.

    One statement: what is slowest and what is newest cannot change between looking and removing.
    """
    removed = connection.execute(
        """DELETE FROM frames WHERE position IN (SELECT position FROM frames ORDER BY position LIMIT ?)
           AND appended_at < ?
           AND position + events - 1 <= (SELECT min(position) FROM cursors)
           AND position < (SELECT max(position) FROM frames)""",
        (TRIM_FRAMES, horizon),
    )
    return removed.rowcount


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction; after an exception, also of its commit, nothing has happened."""
    _begin(connection)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _begin(connection: sqlite3.Connection) -> None:
    """Wait for the turn of this process. SQLite's own waiting sleeps for up to 100 ms; a turn takes one or two."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(TURN_POLL_SECONDS)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # has effect before the first table only
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // PAGE_BYTES}")
    return connection
