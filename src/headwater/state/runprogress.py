"""The progress of runs, written in the transactions of their effects.

A process takes a run with its fence. Each of its transactions begins with `hold`, which fails once another process has
taken the run, so that a process that comes back late changes nothing. On SQLite they begin between two transactions of
the worker, however busy it is.
"""

from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, func, select, update

from headwater.base.errors import HeadwaterError
from headwater.state import bulk, tables
from headwater.state.runs.model import RunProgress
from headwater.storage.statements import begin_writing_soon

NO_POSITION: Final = b""
"""The position of a run that begins."""


class RunTaken(HeadwaterError):
    """Another process has taken the run, or its pipeline was deleted."""

    code = "Conflict"

    def __init__(self, run: int) -> None:
        super().__init__(f"run {run} was taken by another process")


class StoredRunProgress(Struct, frozen=True, kw_only=True):
    """The progress of a run as its last transaction left it."""

    cursor: int | None = None
    """The latest update time that it has seen, in microseconds since the epoch; None for none."""
    position: bytes = NO_POSITION
    """The place at which it continues, in a form of its own; empty at its beginning."""
    progress: RunProgress = RunProgress()
    changed: int = 0
    """Number of identities that were changed, and not yet passed on for resolution."""


def take(connection: Connection, run: int, pipeline: int, fence: int) -> StoredRunProgress:
    """Take a run, and return its progress. It takes over the changes of earlier runs of the pipeline that were not
    passed on for resolution, and their progress is deleted.

    Raises RunTaken if a process with a later fence has taken it.
    """
    begin_writing_soon(connection)
    table = tables.run_progress
    moved = connection.execute(update(table).where(table.c.run == run, table.c.fence <= fence).values(fence=fence))
    if not moved.rowcount:
        if read(connection, run) is not None:
            raise RunTaken(run)
        earlier = (table.c.pipeline == pipeline, table.c.run != run)  # ids are random
        changed = connection.scalar(select(func.sum(table.c.changed)).where(*earlier)) or 0
        connection.execute(delete(table).where(*earlier))
        new = (run, pipeline, fence, None, NO_POSITION, _encode(RunProgress()), int(changed))
        bulk.insert(connection, list(table.c), [new])
    found = read(connection, run)
    assert found is not None, "it was written"
    return found


def hold(connection: Connection, run: int, fence: int) -> None:
    """Begin a transaction of a run. Raises RunTaken if a process with another fence has it."""
    begin_writing_soon(connection)
    table = tables.run_progress
    held = connection.execute(update(table).where(table.c.run == run, table.c.fence == fence).values(fence=fence))
    if held.rowcount != 1:
        raise RunTaken(run)


def is_held(connection: Connection, run: int, fence: int) -> bool:
    """Return whether the process with this fence has the run."""
    table = tables.run_progress.c
    return connection.scalar(select(table.run).where(table.run == run, table.fence == fence)) is not None


def write(
    connection: Connection, run: int, *, cursor: int | None, position: bytes, progress: RunProgress, changed: int = 0
) -> None:
    """Write the progress of a run that the transaction holds, and add to the number of changed identities."""
    table = tables.run_progress
    connection.execute(
        update(table)
        .where(table.c.run == run)
        .values(cursor=cursor, position=position, progress=_encode(progress), changed=table.c.changed + changed)
    )


def forget_changes(connection: Connection, run: int) -> None:
    """Set the number of changed identities of a run to 0: they were passed on for resolution."""
    table = tables.run_progress
    connection.execute(update(table).where(table.c.run == run).values(changed=0))


def read(connection: Connection, run: int) -> StoredRunProgress | None:
    """Return the progress of a run; None if no process has taken it, or a later run of its pipeline was taken."""
    table = tables.run_progress.c
    row = connection.execute(
        select(table.cursor, table.position, table.progress, table.changed).where(table.run == run)
    ).first()
    if row is None:
        return None
    return StoredRunProgress(
        cursor=row.cursor, position=row.position, progress=_decode(row.progress), changed=row.changed
    )


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(RunProgress).decode
