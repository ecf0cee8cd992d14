"""Copies SQLite files that other processes use, all in the state of one moment.

The copies are those that a power failure at that moment would have left: a write transaction of each file is open for a
few milliseconds, so no other writer is in the middle of one, while a reading transaction begins in each. The files are
copied from the reading transactions afterwards, and others write meanwhile. Until the end the WAL of a file grows by
these writes.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from headwater.base.errors import UnusableDatabase

LOCK_SECONDS: Final = 60.0
"""Time limit of waiting for a moment in which no file is being written."""
COPY_PAGES: Final = 256
"""Number of pages that are copied between two reports of progress."""
_POLL_SECONDS: Final = 0.0005
_TURN_SECONDS: Final = 0.5
"""Time limit of waiting for one file while the others are locked. A process that holds it may wait for them."""


@contextmanager
def open_snapshots(
    paths: Sequence[Path], then: Callable[[], None] = lambda: None
) -> Iterator[list[sqlite3.Connection]]:
    """Yield a reading transaction for each of these existing files, all of the same moment.

    `then` is called while no process can write any of them. Raises UnusableDatabase if a file cannot be read, or is
    written for too long.
    """
    with ExitStack() as stack:
        try:
            readers = [stack.enter_context(closing(_connect(path))) for path in paths]
            with ExitStack() as locks:
                writers = [locks.enter_context(closing(_connect(path))) for path in paths]
                _lock(paths, writers)
                for reader in readers:
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the transaction begins here
                then()
                for writer in writers:
                    writer.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise UnusableDatabase(f"the files in {paths[0].parent} cannot be read: {error}") from error
        yield readers


def copy_snapshot(source: sqlite3.Connection, target: Path, progress: Callable[[int], None]) -> None:
    """Copy the file of a reading transaction to a new file, and sync it. `progress` is called with copied bytes.

    Raises UnusableDatabase if it cannot be written.
    """
    (page_bytes,) = source.execute("PRAGMA page_size").fetchone()
    last = 0

    def report(_status: int, remaining: int, total: int) -> None:
        nonlocal last
        progress((total - remaining - last) * page_bytes)
        last = total - remaining

    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous=OFF")  # synced at the end
            source.backup(copy, pages=COPY_PAGES, progress=report)
    except sqlite3.Error as error:
        raise UnusableDatabase(f"{target} cannot be written: {error}") from error
    sync(target)


def size(source: sqlite3.Connection) -> int:
    """Return the size of the file of a reading transaction, in bytes."""
    pages, page_bytes = (source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * page_bytes)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            connection.close()
            raise
    return connection


def _lock(paths: Sequence[Path], writers: Sequence[sqlite3.Connection]) -> None:
    """Begin a write transaction in each file. If one is taken for long, release the others and begin again."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        taken = None
        for path, writer in zip(paths, writers, strict=True):
            if not _begin(writer, until if writer is writers[0] else time.monotonic() + _TURN_SECONDS):
                taken = path
                break
        if taken is None:
            return
        for each in writers:
            if each.in_transaction:
                each.execute("ROLLBACK")
        if time.monotonic() > until:
            raise UnusableDatabase(f"{taken} is written all the time, for {LOCK_SECONDS:.0f} s: try again later")
        time.sleep(10 * _POLL_SECONDS)


def _begin(writer: sqlite3.Connection, until: float) -> bool:
    """Begin a write transaction; return False if another process has one until this time."""
    while True:
        try:
            writer.execute("BEGIN IMMEDIATE")
            return True
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)  # SQLite itself waits up to 100 ms, and another writer would be first


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
