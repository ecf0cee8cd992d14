"""Counts of the records of each pipeline by step, and of the reasons for which they failed.

The worker and the courier each have the two tables in their own database, and readers add them up. A count is in one
row of its minute; later, rows are moved into that of their hour, and of their day. Each count is in one row at a time,
so the sums are exact at every moment.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, get_args

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    delete,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.steps import ProcessingStep, StepOutcome
from headwater.state import bulk

STEPS: Final[tuple[ProcessingStep, ...]] = get_args(ProcessingStep)
"""The steps, in the order of the columns."""

MINUTE_SECONDS: Final = 60
HOUR_SECONDS: Final = 3_600
DAY_SECONDS: Final = 86_400
_MICROSECONDS: Final = 1_000_000
_KEPT_SECONDS: Final = {MINUTE_SECONDS: 2 * HOUR_SECONDS, HOUR_SECONDS: 3 * DAY_SECONDS, DAY_SECONDS: 400 * DAY_SECONDS}
"""Age at which rows of a period are moved into the next larger one, or deleted."""
_LARGER: Final = {MINUTE_SECONDS: HOUR_SECONDS, HOUR_SECONDS: DAY_SECONDS}
ERROR_SECONDS: Final = 30 * DAY_SECONDS
"""Time for which errors are kept."""
MAX_ERRORS: Final = 100
"""Maximum number of different errors of a pipeline in an hour that are kept apart."""
MAX_ERROR_LENGTH: Final = 500
"""Maximum length of the message of an error, in characters."""
OTHER_ERRORS: Final = f"other errors: {MAX_ERRORS} different ones an hour are kept apart"
"""The message of further errors."""
_MAX_MOVED_STARTS: Final = 3
"""Maximum number of minutes, hours or days that one call moves. It is called every few seconds."""
_MAX_REMOVED_ROWS: Final = 10_000

_SOURCE_EVENT_STEPS: Final = (0, 2, 5)
"""The steps of a pipeline that stores events: it transforms nothing."""
_OTHER_STEPS: Final = (0, 2, 3, 4, 5)
"""The steps of other pipelines of events. None validates its input."""
_BEFORE_WAITING: Final = (0, 2)
"""The steps that a record has passed while it waits for the transformation."""


class PipelineCounts:
    """Counts that are to be recorded together."""

    def __init__(self) -> None:
        self.steps: defaultdict[int, list[int]] = defaultdict(lambda: [0] * (2 * len(STEPS)))
        """By pipeline: the number of records that passed each step, then that of those that failed at it."""
        self.errors: Counter[tuple[int, int, str]] = Counter()
        """Number of failed records by pipeline, number of the step, and message."""

    def __bool__(self) -> bool:
        return bool(self.steps)

    def add(
        self,
        pipeline: int,
        step: ProcessingStep,
        outcome: StepOutcome,
        records: int = 1,
        *,
        message: str = "",
        stores_events: bool = False,
        has_waited: bool = False,
    ) -> None:
        """Count records by their last step and its outcome.

        `message` is the reason of a failure. `stores_events` is true for a pipeline that stores events, and
        `has_waited` for records that were counted as pending before.
        """
        index = STEPS.index(step)
        passed: Iterable[int] = _BEFORE_WAITING
        if outcome != "Pending":
            last = index if outcome == "Passed" else index - 1
            steps = _SOURCE_EVENT_STEPS if stores_events else _OTHER_STEPS
            passed = (each for each in steps if each <= last and not (has_waited and each in _BEFORE_WAITING))
        counts = self.steps[pipeline]
        for each in passed:
            counts[each] += records
        if outcome in ("Failed", "Filtered"):
            counts[len(STEPS) + index] += records
        if outcome == "Failed":
            self.errors[pipeline, index, clean_error(message)] += records


class PipelineError(Struct, frozen=True):
    """The failures of a pipeline at a step for one reason."""

    pipeline: int
    step: ProcessingStep
    message: str
    count: int
    last_at: int
    """Time of the last failure, in microseconds since the epoch."""


class CountTables:
    """The two tables in one database, and all that reads and writes them."""

    def __init__(self, metadata: MetaData, *, prefix: str = "") -> None:
        """Define the tables, whose names begin with `prefix`. Times are microseconds since the epoch."""
        self.counts = Table(
            f"{prefix}pipeline_counts",
            metadata,
            Column("pipeline", Integer, primary_key=True, autoincrement=False),
            Column("seconds", Integer, primary_key=True, autoincrement=False),
            Column("start", BigInteger, primary_key=True, autoincrement=False),
            *(Column(name, BigInteger, nullable=False) for name in COUNT_COLUMNS),
            Index("pipeline_counts_by_start", "seconds", "start"),
        )
        """Counts of a pipeline in the period of so many seconds that begins at `start`."""
        self.errors = Table(
            f"{prefix}pipeline_errors",
            metadata,
            Column("pipeline", Integer, primary_key=True, autoincrement=False),
            Column("start", BigInteger, primary_key=True, autoincrement=False),
            Column("step", SmallInteger, primary_key=True, autoincrement=False),
            Column("digest", BigInteger, primary_key=True, autoincrement=False),
            Column("message", Text, nullable=False),
            Column("count", BigInteger, nullable=False),
            Column("first_at", BigInteger, nullable=False),
            Column("last_at", BigInteger, nullable=False),
            Index("pipeline_errors_by_start", "start"),
        )
        """Failures of a pipeline in the hour that begins at `start`. The digest of `OTHER_ERRORS` is 0."""

    def record(self, connection: Connection, counts: PipelineCounts, *, now: int) -> None:
        """Add counts at the time `now`, in microseconds since the epoch."""
        minute = _floor(now, MINUTE_SECONDS)
        bulk.upsert(
            connection,
            list(self.counts.c),
            [(pipeline, MINUTE_SECONDS, minute, *values) for pipeline, values in counts.steps.items()],
            key=("pipeline", "seconds", "start"),
            adding=COUNT_COLUMNS,
        )
        if counts.errors:
            self._record_errors(connection, counts.errors, now)

    def compact(self, connection: Connection, *, now: int) -> None:
        """Move some old counts into larger periods, and delete some that are too old. Call it every few seconds."""
        for seconds, kept in _KEPT_SECONDS.items():
            limit = now - kept * _MICROSECONDS
            table = self.counts.c
            for _ in range(_MAX_MOVED_STARTS):
                oldest = select(func.min(table.start)).where(table.seconds == seconds)
                start = connection.execute(oldest).scalar_one()
                if start is None or start >= limit:
                    break
                if seconds in _LARGER:
                    self._add_to_larger(connection, seconds, start)
                rows = table.seconds == seconds, table.start == start
                connection.execute(delete(self.counts).where(*rows))
        oldest = select(func.min(self.errors.c.start))
        start = connection.execute(oldest).scalar_one()
        if start is not None and start < now - ERROR_SECONDS * _MICROSECONDS:
            bulk.remove_some(connection, self.errors.c.start, [start], limit=_MAX_REMOVED_ROWS)

    def remove_except(self, connection: Connection, pipelines: Collection[int]) -> int:
        """Delete some rows of pipelines that are not in `pipelines`; return their number. Call it until that is 0."""
        return self.remove(connection, sorted(self.counted(connection) - set(pipelines)))

    def counted(self, connection: Connection) -> set[int]:
        """Return the pipelines that have counts or errors."""
        columns = self.counts.c.pipeline, self.errors.c.pipeline
        return {pipeline for column in columns for pipeline in bulk.distinct(connection, column)}

    def remove(self, connection: Connection, pipelines: Sequence[int]) -> int:
        """Delete some rows of `pipelines`; return their number. Call it until that is 0."""
        columns = self.counts.c.pipeline, self.errors.c.pipeline
        return sum(bulk.remove_some(connection, column, pipelines, limit=_MAX_REMOVED_ROWS) for column in columns)

    async def read_counts(
        self, connection: AsyncConnection, pipelines: Sequence[int], *, start: int, end: int, unit_seconds: int
    ) -> dict[int, list[int]]:
        """Return the sums over pipelines by the start of each unit from `start` to before `end`.

        A sum has the numbers of records that passed each step, then of those that failed at it. Units without records
        are missing. `start` and `end` are the starts of units of a minute, an hour or a day.
        """
        table = self.counts.c
        unit = table.start - table.start % (unit_seconds * _MICROSECONDS)
        periods = [seconds for seconds in _KEPT_SECONDS if seconds <= unit_seconds]
        query = (
            select(unit.label("unit"), *(func.sum(table[name]).label(name) for name in COUNT_COLUMNS))
            .where(table.pipeline.in_(pipelines), table.seconds.in_(periods), table.start >= start, table.start < end)
            .group_by("unit")
        )
        return {int(row[0]): [int(value) for value in row[1:]] for row in await connection.execute(query)}

    async def read_errors(
        self,
        connection: AsyncConnection,
        pipelines: Sequence[int],
        *,
        start: int,
        end: int,
        step: ProcessingStep | None,
        limit: int,
    ) -> list[PipelineError]:
        """Return the errors in hours that have one from `start` to before `end`, those that occurred last first."""
        table = self.errors.c
        last_at = func.max(table.last_at)
        query = (
            select(table.pipeline, table.step, table.message, func.sum(table.count), last_at)
            .where(
                table.pipeline.in_(pipelines),
                table.start >= _floor(start, HOUR_SECONDS),
                table.start < end,
                table.last_at >= start,
                table.first_at < end,
            )
            .group_by(table.pipeline, table.step, table.message)
            .order_by(last_at.desc(), table.pipeline, table.step, table.message)
            .limit(limit)
        )
        if step is not None:
            query = query.where(table.step == STEPS.index(step))
        return [
            PipelineError(pipeline, STEPS[number], message, int(count), int(last))
            for pipeline, number, message, count, last in await connection.execute(query)
        ]

    def _record_errors(self, connection: Connection, errors: Mapping[tuple[int, int, str], int], now: int) -> None:
        start = _floor(now, HOUR_SECONDS)
        table = self.errors
        pipelines = {pipeline for pipeline, _, _ in errors}
        known: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        columns, key = [table.c[name] for name in ("pipeline", "step", "digest")], [table.c.pipeline, table.c.start]
        for pipeline, step, digest in bulk.lookup(
            connection, columns, key, [(pipeline, start) for pipeline in pipelines]
        ):
            known[pipeline].add((step, digest))
        found: Counter[tuple[int, int, int, str]] = Counter()
        for (pipeline, step, message), count in errors.items():
            digest = _digest(message)
            if (step, digest) not in known[pipeline] and len(known[pipeline]) >= MAX_ERRORS:
                digest, message = 0, OTHER_ERRORS
            known[pipeline].add((step, digest))
            found[pipeline, step, digest, message] += count
        bulk.upsert(
            connection,
            list(table.c),
            [
                (pipeline, start, step, digest, message, count, now, now)
                for (pipeline, step, digest, message), count in found.items()
            ],
            key=("pipeline", "start", "step", "digest"),
            adding=("count",),
            keeping=("first_at", "message"),
        )

    def _add_to_larger(self, connection: Connection, seconds: int, start: int) -> None:
        """Add the rows that begin at `start` to those of the next larger period."""
        table, larger = self.counts, _LARGER[seconds]
        values: list[Any] = [table.c[name] for name in COUNT_COLUMNS]
        rows = select(
            table.c.pipeline,
            (table.c.seconds * 0 + larger).label("seconds"),
            (table.c.start - table.c.start % (larger * _MICROSECONDS)).label("start"),
            *values,
        ).where(table.c.seconds == seconds, table.c.start == start)
        new = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
        insert = new.from_select([column.name for column in table.c], rows)
        added = {name: table.c[name] + insert.excluded[name] for name in COUNT_COLUMNS}
        connection.execute(insert.on_conflict_do_update(index_elements=("pipeline", "seconds", "start"), set_=added))


def _column_names() -> Iterable[str]:
    for end in ("passed", "failed"):
        for step in STEPS:
            yield (
                "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in step).strip("_") + f"_{end}"
            )


COUNT_COLUMNS: Final = tuple(_column_names())
"""The columns of the counts: of those that passed each step, then of those that failed at it."""


def _floor(time: int, seconds: int) -> int:
    return time - time % (seconds * _MICROSECONDS)


def clean_error(message: str) -> str:
    """Return a message that every database stores: it may repeat what a function returned."""
    text = message[:MAX_ERROR_LENGTH].replace("\0", "\ufffd")
    return text.encode(errors="replace").decode()


def _digest(message: str) -> int:
    """Return 63 bits of a digest, not 0."""
    return int.from_bytes(blake2b(message.encode(), digest_size=8).digest()) >> 1 or 1
