"""Adds the counts of runs to those of their pipelines, each record once.

The process of a run reports the same progress again and again, and the process that continues a run may report less
than the one before. So the highest counts that were added are stored for each pipeline, in the transaction that adds.
"""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from headwater.state import tables
from headwater.state.counts import STEPS, PipelineCounts, clean_error
from headwater.state.runs import Run, RunError, RunProgress
from headwater.storage.statements import begin_writing_soon

_PREFIX: Final = "run-counts "
_END: Final = "run-counts!"


class _Counted(Struct, frozen=True, array_like=True):
    """The counts of the latest run of a pipeline that were added."""

    created_at: int
    run: int
    fence: int
    values: tuple[int, ...] = (0,) * (2 * len(STEPS))


_decode = msgspec.msgpack.Decoder(_Counted).decode
_encode = msgspec.msgpack.Encoder().encode


def record_run_counts(
    connection: Connection, run: Run, progress: RunProgress, errors: Sequence[RunError], *, now: int
) -> bool:
    """Add the counts of a run that were not added yet, at the time `now`, in microseconds since the epoch.

    Return False, and add nothing, if a process with a later fence, or a later run, has added counts.
    """
    owner, table = f"{_PREFIX}{run.pipeline}", tables.checkpoints
    initial = _Counted(run.created_at, run.id, run.fence)
    begin_writing_soon(connection)
    # A write comes first: it locks the row.
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    own = table.c.owner == owner
    connection.execute(dialect.insert(table).values(owner=owner, value=_encode(initial)).on_conflict_do_nothing())
    connection.execute(update(table).where(own).values(value=table.c.value))
    counted = _decode(connection.execute(select(table.c.value).where(own)).scalar_one())
    if (counted.created_at, counted.run) != (run.created_at, run.id):
        if counted.created_at > run.created_at:
            return False
        counted = initial
    elif counted.fence > run.fence:
        return False
    reported = (*progress.passed, *progress.failed)
    highest = tuple(map(max, reported, counted.values))
    added = [new - old for new, old in zip(highest, counted.values, strict=True)]
    counts = PipelineCounts()
    counts.steps[run.pipeline] = added
    left = added[len(STEPS) :]
    for error in errors:
        step = STEPS.index(error.step)
        count = min(error.count, left[step])
        left[step] -= count
        if count:
            counts.errors[run.pipeline, step, clean_error(error.message)] += count
    if any(added):
        tables.counts.record(connection, counts, now=now)
    latest = _Counted(run.created_at, run.id, run.fence, highest)
    connection.execute(update(table).where(own).values(value=_encode(latest)))
    return True


def remove_run_counts_except(connection: Connection, pipelines: Collection[int]) -> int:
    """Forget what was added for pipelines that are not in `pipelines`; return their number."""
    owners = tables.checkpoints.c.owner
    found = connection.scalars(select(owners).where(owners > _PREFIX, owners < _END)).all()
    removed = [owner for owner in found if int(owner.removeprefix(_PREFIX)) not in pipelines]
    for owner in removed:
        connection.execute(delete(tables.checkpoints).where(owners == owner))
    return len(removed)
