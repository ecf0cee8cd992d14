"""The export of Parquet files: complete, one a day and workspace, and readable by other tools."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from headwater.base.clock import from_microseconds
from headwater.storage.database import sqlite_url
from headwater.warehouse import EventCursor, EventPage, EventQuery, StoredEvent, Warehouse, open_warehouse
from headwater.warehouse.parquet import SCHEMA, export_events
from tests.harness import NOW, MovableClock
from tests.warehouse.oracle import DAY, START, event

TODAY = NOW.date()


@pytest.fixture
async def events() -> list[StoredEvent]:
    """Return events of four days; the last event of a day is in its last microsecond."""
    day = START - START % DAY
    times = [day + DAY - 1, *(day + index * DAY // 500 for index in range(1, 2_000))]
    return [event(index + 1, timestamp=time, total=index) for index, time in enumerate(times)]


@pytest.fixture
async def warehouse(tmp_path: Path, events: list[StoredEvent]) -> AsyncIterator[Warehouse]:
    async with open_warehouse(sqlite_url(tmp_path / "warehouse.db"), writes=True, clock=MovableClock()) as opened:
        await opened.load(events, through=len(events))
        yield opened


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_each_day_is_a_file_of_all_its_events(
    warehouse: Warehouse, events: list[StoredEvent], tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    exported = await export_events(warehouse, 1, folder)
    days = [date.fromordinal(TODAY.toordinal() + index) for index in range(4)]
    assert [each.day for each in exported] == days
    assert files(folder) == [f"workspace=1/day={day}/events.parquet" for day in days]
    for each in exported:
        table = parquet.read_table(each.path, partitioning=None)
        assert table.schema.equals(SCHEMA)
        expected = [event for event in events if from_microseconds(event.timestamp).date() == each.day]
        expected.sort(key=lambda event: (event.timestamp, event.position))
        assert table.num_rows == each.events == len(expected)
        assert table["document"].to_pylist() == [event.document.decode() for event in expected]
        assert table["timestamp"].to_pylist() == [from_microseconds(event.timestamp) for event in expected]
        assert table["user_id"].to_pylist() == [event.user_id for event in expected]


async def test_the_folders_are_partitions(warehouse: Warehouse, events: list[StoredEvent], tmp_path: Path) -> None:
    await export_events(warehouse, 1, tmp_path / "export")
    table = parquet.read_table(tmp_path / "export")
    assert table.num_rows == len(events)
    assert {"workspace", "day"} <= set(table.column_names)


async def test_the_period_has_whole_days(warehouse: Warehouse, tmp_path: Path) -> None:
    since, until = (date.fromordinal(TODAY.toordinal() + index) for index in (1, 3))
    exported = await export_events(warehouse, 1, tmp_path / "export", since=since, until=until)
    assert [each.day for each in exported] == [since, date.fromordinal(since.toordinal() + 1)]
    assert sum(each.events for each in exported) == 1_000


async def test_members_that_are_absent_are_null(tmp_path: Path) -> None:
    async with open_warehouse(sqlite_url(tmp_path / "w.db"), writes=True, clock=MovableClock()) as opened:
        await opened.load([event(1, event=None, type="page", user_id=None)], through=1)
        (exported,) = await export_events(opened, 1, tmp_path / "export")
    (row,) = parquet.read_table(exported.path, partitioning=None).to_pylist()
    assert row["event"] is row["user_id"] is row["group_id"] is None
    assert (row["type"], row["connection_id"], row["message_id"]) == ("page", 11, "m1")
    assert row["received_at"] == from_microseconds(START + 1_500).astimezone(UTC)
    assert isinstance(row["received_at"], datetime)


async def test_a_file_is_replaced_when_it_is_complete(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    await export_events(warehouse, 1, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    with pytest.raises(RuntimeError, match="away"):
        await export_events(_Failing(warehouse), 1, folder)  # type: ignore[arg-type]  # it has what is called
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before
    assert len(files(folder)) == len(before), "no part is left"
    await export_events(warehouse, 1, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")}.keys() == before.keys()


async def test_a_row_group_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.warehouse.parquet.ROW_GROUP_BYTES", 100_000)
    async with open_warehouse(sqlite_url(tmp_path / "w.db"), writes=True, clock=MovableClock()) as opened:
        events = [event(position) for position in range(1, 3_001)]
        await opened.load(events, through=3_000)
        (exported,) = await export_events(opened, 1, tmp_path / "export")
    file = parquet.ParquetFile(exported.path)
    assert file.metadata.num_rows == 3_000
    assert file.metadata.num_row_groups > 3


def test_the_columns_are_of_plain_types() -> None:
    assert {str(field.type) for field in SCHEMA} == {"string", "int64", "timestamp[us, tz=UTC]"}
    assert pyarrow.schema(SCHEMA).names[-1] == "document"


class _Failing:
    """A warehouse whose second page fails."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._pages = 0

    async def events(
        self, query: EventQuery, *, ascending: bool, after: EventCursor | None, offset: int, limit: int
    ) -> EventPage:
        self._pages += 1
        if self._pages == 2:
            raise RuntimeError("the disk went away")
        return await self._warehouse.events(query, ascending=ascending, after=after, offset=offset, limit=limit)
