"""Exports events as Parquet files, which DuckDB, pandas, polars and Spark can open.

    DIR/workspace=ID/day=YYYY-MM-DD/events.parquet

Needs pyarrow, which the extra `headwater[parquet]` installs. Days are those of the events' timestamps, in UTC. A file
is written under another name and renamed when it is complete, so a reader never sees a part of one. One process at a
time may export into a folder.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

import msgspec
import pyarrow
from msgspec import Struct
from pyarrow.parquet import ParquetWriter

from headwater.base.clock import day_start
from headwater.warehouse.contract import EventCursor, EventQuery, Warehouse

PAGE_EVENTS: Final = 500
ROW_GROUP_EVENTS: Final = 20_000
ROW_GROUP_BYTES: Final = 16 * 1024 * 1024
"""Size of the documents at which a row group is written, unless it has its maximum number of events before."""

_TIME: Final = pyarrow.timestamp("us", tz="UTC")
SCHEMA: Final = pyarrow.schema(
    [
        ("message_id", pyarrow.string()),
        ("type", pyarrow.string()),
        ("event", pyarrow.string()),
        ("name", pyarrow.string()),
        ("user_id", pyarrow.string()),
        ("anonymous_id", pyarrow.string()),
        ("group_id", pyarrow.string()),
        ("connection_id", pyarrow.int64()),
        ("timestamp", _TIME),
        ("original_timestamp", _TIME),
        ("sent_at", _TIME),
        ("received_at", _TIME),
        ("document", pyarrow.string()),
    ]
)
"""The columns: the main members of events, and the whole event as JSON."""


class _Members(Struct, rename="camel"):
    """The members that have a column, in its order."""

    message_id: str
    type: str
    event: str | None = None
    name: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    group_id: str | None = None
    connection_id: int | None = None
    timestamp: datetime | None = None
    original_timestamp: datetime | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = None


_decode: Final = msgspec.json.Decoder(_Members).decode


class ExportedDay(Struct, frozen=True):
    """A file that was written."""

    path: Path
    day: date
    events: int


async def export_events(
    warehouse: Warehouse,
    workspace: int,
    folder: Path,
    *,
    since: date | None = None,
    until: date | None = None,
    progress: Callable[[int], None] = lambda events: None,
) -> list[ExportedDay]:
    """Write a file for each day that has events, from `since` up to and without `until`; replace existing files.

    `progress` is called after each page with its number of events. Events that arrive meanwhile may be missing. Takes
    memory for one row group, whatever the number of events.
    """
    query = EventQuery(
        workspace=workspace,
        since=None if since is None else day_start(since),
        until=None if until is None else day_start(until),
    )
    exported: list[ExportedDay] = []
    file: _DayFile | None = None
    cursor: EventCursor | None = None
    try:
        while True:
            page = await warehouse.events(query, ascending=True, after=cursor, offset=0, limit=PAGE_EVENTS)
            for day, documents in await asyncio.to_thread(_by_day, page.documents):
                if file is not None and file.day != day:
                    exported.append(await asyncio.to_thread(file.finish))
                    file = None
                if file is None:
                    file = _DayFile(folder / f"workspace={workspace}" / f"day={day}" / "events.parquet", day)
                await asyncio.to_thread(file.add, documents)
            progress(len(page.documents))
            cursor = page.cursor
            if cursor is None:
                break
        if file is not None:
            exported.append(await asyncio.to_thread(file.finish))
            file = None
    finally:
        if file is not None:
            file.abandon()
    return exported


_Rows = list[tuple[_Members, bytes]]


def _by_day(documents: Sequence[bytes]) -> list[tuple[date, _Rows]]:
    """Return the events of a page with their documents, by day. They are in the order of their timestamps."""
    days: dict[date, _Rows] = {}
    for document in documents:
        members = _decode(document)
        assert members.timestamp is not None, "every stored event has a timestamp"
        days.setdefault(members.timestamp.date(), []).append((members, document))
    return list(days.items())


class _DayFile:
    """The file of one day, while it is written."""

    def __init__(self, path: Path, day: date) -> None:
        self.day = day
        self._path = path
        self._part = path.with_suffix(".parquet.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = ParquetWriter(self._part, SCHEMA, compression="zstd")
        self._rows: _Rows = []
        self._bytes = 0
        self._events = 0

    def add(self, rows: _Rows) -> None:
        """Add events; write a row group when they are enough for one."""
        self._rows += rows
        self._bytes += sum(len(document) for _, document in rows)
        if len(self._rows) >= ROW_GROUP_EVENTS or self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> ExportedDay:
        """Complete the file, make it durable, and give it its name."""
        self._flush()
        self._writer.close()
        _sync(self._part)
        os.replace(self._part, self._path)
        _sync(self._path.parent)
        return ExportedDay(self._path, self.day, self._events)

    def abandon(self) -> None:
        """Remove the incomplete file."""
        self._writer.close()
        self._part.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [*zip(*(msgspec.structs.astuple(members) for members, _ in self._rows), strict=True)]
        documents = [document.decode() for _, document in self._rows]
        arrays = [
            pyarrow.array(values, type=field.type) for values, field in zip([*columns, documents], SCHEMA, strict=True)
        ]
        self._writer.write_table(pyarrow.table(arrays, schema=SCHEMA))
        self._events += len(self._rows)
        self._rows, self._bytes = [], 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
