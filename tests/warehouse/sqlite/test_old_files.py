"""Files of an older release: every event is a row of `events`, without columns for type and ids."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.storage.database import sqlite_url
from headwater.warehouse import EventQuery, StoredEvent, Warehouse, open_warehouse
from headwater.warehouse.drivers.sqlite.database import connect
from tests.harness import MovableClock
from tests.warehouse.oracle import DAY, FILTERS, MINUTE, START, Oracle, event, read_all

SCHEMA = """
CREATE TABLE events (
    position INTEGER NOT NULL PRIMARY KEY, workspace INTEGER NOT NULL, connection INTEGER NOT NULL,
    pipeline INTEGER NOT NULL, timestamp BIGINT NOT NULL, received_at BIGINT NOT NULL, document TEXT NOT NULL
);
CREATE INDEX events_by_time ON events (workspace, timestamp);
CREATE TABLE progress (consumer VARCHAR NOT NULL PRIMARY KEY, position BIGINT NOT NULL);
"""
EVENTS = [
    event(
        index * 3 + 1,
        workspace=1 + (index % 10 == 0),
        connection=11 + index % 3,
        timestamp=START + (index * 7919 % 9_000) * MINUTE,
        type="page" if index % 5 == 0 else "track",
        event=None if index % 5 == 0 else "Bought",
        user_id=("u1", "u2", None)[index % 3],
        total=index % 70,
    )
    for index in range(9_000)
]
FINAL_POSITION = EVENTS[-1].position
QUERIES = [
    EventQuery(workspace=1),
    EventQuery(workspace=2),
    EventQuery(workspace=1, order="receivedAt", since=START + 5_000_000),
    EventQuery(workspace=1, user_id="u2", since=START + DAY, until=START + 3 * DAY),
    EventQuery(workspace=1, type="page", connections=(11, 12)),
    EventQuery(workspace=1, filter=FILTERS[3]),
]


def make_old_file(path: Path, events: list[StoredEvent], *, progress: int | None = FINAL_POSITION + 5) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(SCHEMA)
    rows = [
        (each.position, each.workspace, each.connection, each.pipeline, each.timestamp, each.received_at,
         each.document.decode())
        for each in events
    ]  # fmt: skip
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    if progress is None:
        connection.execute("DROP TABLE progress")
    else:
        connection.execute("INSERT INTO progress VALUES ('warehouse', ?), ('other', 7)", (progress,))
    connection.commit()
    connection.close()


@asynccontextmanager
async def opened(path: Path, *, writes: bool = True) -> AsyncIterator[Warehouse]:
    async with open_warehouse(sqlite_url(path), writes=writes, clock=MovableClock()) as warehouse:
        yield warehouse


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize(("progress", "expected"), [(FINAL_POSITION + 5, FINAL_POSITION + 5), (None, FINAL_POSITION)])
async def test_loading_continues_where_the_older_release_ended(
    tmp_path: Path, progress: int | None, expected: int, writes: bool
) -> None:
    make_old_file(tmp_path / "w.db", EVENTS, progress=progress)
    async with opened(tmp_path / "w.db", writes=writes) as warehouse:
        assert await warehouse.loaded() == expected


async def test_an_old_file_without_events_begins_at_nothing(tmp_path: Path) -> None:
    make_old_file(tmp_path / "w.db", [], progress=None)
    async with opened(tmp_path / "w.db") as warehouse:
        assert await warehouse.loaded() == 0
        await warehouse.maintain()
        assert await read_all(warehouse, QUERIES[0]) == []


async def test_events_can_be_read_before_and_while_they_become_blocks(tmp_path: Path) -> None:
    path, oracle = tmp_path / "w.db", Oracle()
    make_old_file(path, EVENTS)
    oracle.load(EVENTS, through=FINAL_POSITION + 5)
    async with opened(path) as warehouse:
        rounds = 0
        while True:
            later = [event(oracle.through + 1 + index) for index in range((20, 800)[rounds % 2])]
            await warehouse.load(later, through=later[-1].position)
            oracle.load(later, through=later[-1].position)
            for query in QUERIES:
                assert await read_all(warehouse, query) == oracle.documents(query, ascending=False)
                assert await read_all(warehouse, query, ascending=True) == oracle.documents(query, ascending=True)
                counts = await warehouse.counts(query, by=["event"], interval="day", limit=1_000)
                assert set(counts) == set(oracle.counts(query, by=["event"], interval="day"))
            rounds += 1
            if old_rows(path) == 0:
                break
            await warehouse.maintain()
    assert rounds > 1


def old_rows(path: Path) -> int:
    connection = connect(path, writes=False)
    try:
        (rows,) = connection.execute("SELECT count(*) FROM events").fetchone()
        return int(rows)
    finally:
        connection.close()
