"""The log in one SQLite file.

**On disk.** The file is `log.db`, in WAL mode with `synchronous=FULL`. Each row of the table `frames` is one entry:

        frames(position INTEGER PRIMARY KEY,   the position of the entry's first event
               events INTEGER,                 the number of its positions
               appended_at INTEGER,            microseconds since the epoch, by this machine's clock
               header BLOB, body BLOB,
               bytes_before INTEGER)           the sizes of all entries before it, including removed ones
        cursors(consumer TEXT PRIMARY KEY, position INTEGER,
                may_lag INTEGER)               1 if entries may be removed before this consumer has processed them

An entry's position is the newest entry's position plus its events, read in the same write transaction. SQLite has one
writer at a time, so positions have no gaps and become visible in their order, with any number of writing processes. The
newest entry is never removed, because the next position is counted from it.

**Size.** The file has at most `max_bytes`, which SQLite itself enforces. A log at its limit and a full disk are the
same case: processed entries are removed, and without any, nothing is stored. Pages of removed entries are used again;
the file does not shrink. Their content stays in the file until then (`secure_delete=FAST`): see decision record 0033.

**Recovery.** No recovery step is needed. A transaction that was cut short, in the middle of a page or of its WAL
record, fails SQLite's checksum at the next open, and has no effect; a transaction whose fsync returned is stored. A
consumer's lease is a file lock, which the kernel releases with the process, so a restart never waits for a dead holder.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.threads import SerialExecutor
from headwater.log.backpressure import BackPressure
from headwater.log.contract import NEARLY_FULL, Backlog, Lease, LeaseLost, LeaseTaken, LogEntry, StoredEntry
from headwater.log.groupcommit import SLOW_FSYNC_SECONDS, GroupCommit, measure_fsync
from headwater.storage.changes import DataVersion
from headwater.storage.database import BUSY_TIMEOUT_SECONDS, MIGRATION_TIMEOUT_SECONDS

Result = TypeVar("Result")

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""Maximum size of entries that wait to be written. Above it, callers are rejected for a while."""
POLL_SECONDS = 0.01
"""Interval at which a waiting reader looks for changes of the file."""
IDLE_POLL_SECONDS = 0.04
"""The same interval after `IDLE_SECONDS` without an entry."""
IDLE_SECONDS = 1.0
TURN_POLL_SECONDS = 0.0005
"""Interval at which a process checks whether another one's write is complete."""
PAGE_BYTES = 16 * 1024
"""Page size of the file. The entry of a batch has some 70 KB: pages of four times the usual size write it 40 %
faster."""
CHECKPOINT_BYTES = 4 * 1024 * 1024
"""Size of the WAL at which it is moved into the file. A larger one is no faster, and stalls one commit for longer."""
TRIM_BYTES = 3_500_000
MAX_TRIM_ENTRIES = 1_000
"""Maximum number of entries that one transaction removes, because appends wait for it. The size has a limit too."""
DEFAULT_MAX_BYTES = 10 * 1024**3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS frames (
    position INTEGER PRIMARY KEY, events INTEGER NOT NULL, appended_at INTEGER NOT NULL,
    header BLOB NOT NULL, body BLOB NOT NULL, bytes_before INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS cursors (
    consumer TEXT PRIMARY KEY, position INTEGER NOT NULL, may_lag INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_ADDED_COLUMNS = (("frames", "bytes_before"), ("cursors", "may_lag"))
"""Columns that files of earlier versions lack; 0 is right for all of their rows."""
_NEXT = """
SELECT position + events, bytes_before + length(header) + length(body) FROM frames ORDER BY position DESC LIMIT 1
"""
_FINISHED_BYTES = """
SELECT coalesce(
    (SELECT bytes_before + length(header) + length(body) FROM frames
     WHERE position <= ? ORDER BY position DESC LIMIT 1),
    (SELECT bytes_before FROM frames ORDER BY position LIMIT 1))
"""
_SLOWEST = "SELECT min(position) FROM cursors WHERE NOT may_lag"
_LEASED = """
INSERT INTO cursors (consumer, position, may_lag) VALUES (?, 0, ?)
ON CONFLICT (consumer) DO UPDATE SET may_lag = excluded.may_lag
"""


class SqliteEventLog:
    """An `EventLog` in the file `path`. Open it on a running event loop, and close it after use."""

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
        """Assign positions after `after`, whatever the file holds; the file has `max_bytes` at most.

        `after` is the position up to which consumers have processed the log. A log that was lost, or restored from an
        old copy, would otherwise assign positions that they have passed already, and its events would never be read.
        """
        self._path = path
        self._after = after
        self._clock = clock
        self._max_pages = max_bytes // PAGE_BYTES
        self._back_pressure = back_pressure
        self._closed = False
        self._active_at = 0.0
        """Time at which a reader last found entries."""
        if commit_in_thread is None:
            commit_in_thread = measure_fsync(path.parent) > SLOW_FSYNC_SECONDS
        self._writer = _connect(path)
        _prepare(self._writer)
        self._writer.execute(f"PRAGMA max_page_count={self._max_pages}")
        self._writer.execute("PRAGMA busy_timeout=0")  # `_begin` waits instead of SQLite
        self._reader = _connect(path)
        self._version = DataVersion(path)
        self._missing: tuple[int, int] | None = None
        """A version of the file, and a position after which it had no entry."""
        self._reading = SerialExecutor("log-read")
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
        while not (entries := await self._read_if_changed(after, max_bytes)):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return []
            is_idle = time.monotonic() > self._active_at + IDLE_SECONDS
            await asyncio.sleep(min(IDLE_POLL_SECONDS if is_idle else POLL_SECONDS, remaining))
        self._active_at = time.monotonic()
        return entries

    async def _read_if_changed(self, after: int, max_bytes: int) -> list[StoredEntry]:
        """Return the entries after a position. While the file does not change, a missing one is not looked for."""
        if (version := self._version.read()) is not None and (version, after) == self._missing:
            return []
        entries = await self._off_loop(lambda: self._read(after, max_bytes))
        if not entries and version is not None:
            self._missing = version, after
        return entries

    async def lease(self, consumer: str, *, may_lag: bool = False) -> Lease:
        lock = self._lock(consumer)
        try:
            await self._off_loop(lambda: self._reader.execute(_LEASED, (consumer, may_lag)))
        except BaseException:
            os.close(lock)  # otherwise this process could never lease it again
            raise
        return SqliteLease(self, consumer, lock)

    async def forget(self, consumer: str) -> None:
        lock = self._lock(consumer)
        try:
            await self._off_loop(lambda: self._reader.execute("DELETE FROM cursors WHERE consumer = ?", (consumer,)))
        finally:
            os.close(lock)

    async def cursors(self) -> dict[str, int]:
        query = "SELECT consumer, position FROM cursors"
        return dict(await self._off_loop(lambda: self._reader.execute(query).fetchall()))

    async def last_position(self) -> int:
        newest = await self._off_loop(lambda: self._reader.execute(_NEXT).fetchone())
        return newest[0] - 1 if newest else 0

    async def backlogs(self) -> dict[str, Backlog]:
        return await self._off_loop(self._backlogs)

    async def backlog_bytes(self) -> int:
        return await self._off_loop(lambda: self._bytes_after(self._reader.execute(_SLOWEST).fetchone()[0] or 0))

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
        await self._reading.close(self._reader.close)
        self._version.close()
        self._writer.close()

    async def advance(self, consumer: str, position: int) -> None:
        """Move a consumer's cursor forward, for its lease."""
        update = "UPDATE cursors SET position = ? WHERE consumer = ? AND position < ?"
        await self._off_loop(lambda: self._reader.execute(update, (position, consumer, position)))

    def _append_group(self, group: list[LogEntry]) -> list[int]:
        try:
            try:
                return self._insert(group)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._make_space(group):
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

    def _make_space(self, group: list[LogEntry]) -> bool:
        """Remove processed entries early; return whether there is space for the group."""
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

    def _lock(self, consumer: str) -> int:
        """Lock the file that is the lease of a name; return its descriptor. Raises LeaseTaken."""
        lock = os.open(self._path.with_suffix(f".{consumer}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise LeaseTaken(consumer) from None
        return lock

    def _backlogs(self) -> dict[str, Backlog]:
        cursors = self._reader.execute("SELECT consumer, position, may_lag FROM cursors").fetchall()
        return {
            consumer: Backlog(self._bytes_after(position), bool(may_lag)) for consumer, position, may_lag in cursors
        }

    def _bytes_after(self, position: int) -> int:
        newest = self._reader.execute(_NEXT).fetchone()
        return newest[1] - self._reader.execute(_FINISHED_BYTES, (position,)).fetchone()[0] if newest else 0

    def _read(self, after: int, max_bytes: int) -> list[StoredEntry]:
        entries: list[StoredEntry] = []
        rows = self._reader.execute(
            "SELECT position, events, header, body, bytes_before FROM frames WHERE position > ? ORDER BY position",
            (after,),
        )
        for position, events, header, body, bytes_before in rows:
            missed = 0 if entries else _missed_bytes(after, position, bytes_before)
            entries.append(StoredEntry(position, LogEntry(events, header, body), missed))
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
            return await self._reading.run(work)
        except sqlite3.Error as error:  # for example a full disk: cursors and trimming write too
            raise Unavailable(f"the event log does not respond: {error}") from error


class SqliteLease:
    """A `Lease` that is an exclusive lock on a file next to the log."""

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
            os.close(self._lock)  # closing the file unlocks it
            self._lock = None


def _missed_bytes(after: int, position: int, bytes_before: int) -> int:
    """Return the approximate size of the entries between `after` and `position`, by the mean of all earlier events.

    A reader that starts at 0 has missed nothing, because it starts with the oldest entry.
    """
    missed = position - 1 - after if after else 0
    return max(missed, bytes_before * missed // (position - 1)) if missed else 0


def _remove(connection: sqlite3.Connection, horizon: int) -> int:
    """Remove some processed entries that were appended before `horizon`; return their number.

    An entry is processed when every consumer that may not lag has passed it. One statement decides and removes: cursors
    and the newest entry cannot change in between.
    """
    end, size = 0, 0
    rows = connection.execute(
        "SELECT position, events, length(header) + length(body) FROM frames ORDER BY position LIMIT ?",
        (MAX_TRIM_ENTRIES,),
    )
    for position, events, entry_bytes in rows:
        end = position + events
        size += entry_bytes
        if size >= TRIM_BYTES:
            break
    rows.close()
    removed = connection.execute(
        f"""DELETE FROM frames WHERE position < ? AND appended_at < ?
           AND position + events - 1 <= ({_SLOWEST})
           AND position < (SELECT max(position) FROM frames)""",
        (end, horizon),
    )
    return removed.rowcount


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the tables, or add the columns that those of an earlier version lack."""
    connection.executescript(_SCHEMA)
    if all(_has_column(connection, *added) for added in _ADDED_COLUMNS):
        return
    with _transaction(connection):  # several processes may start together
        for table, column in _ADDED_COLUMNS:
            if not _has_column(connection, table, column):
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one write transaction, which an exception, also of its commit, rolls back."""
    _begin(connection)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _begin(connection: sqlite3.Connection) -> None:
    """Wait until no other process writes. SQLite's own waiting sleeps for up to 100 ms, and a write takes one or
    two."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(TURN_POLL_SECONDS)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=MIGRATION_TIMEOUT_SECONDS)
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # works only before the first table
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=FAST")  # zeroing freed pages would write as much as storing them
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // PAGE_BYTES}")
    return connection
