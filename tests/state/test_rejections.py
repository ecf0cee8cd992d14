"""Refused events: which are kept, what their counts say, and what keeping them few costs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import event

from headwater.state import LatestCall, RejectedEvent, Warehouse
from headwater.state import rejections as module

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rejected(
    position: int, workspace: int = 7, connection: int = 1, dialect: str = "track", body: bytes = b"{}"
) -> RejectedEvent:
    return RejectedEvent(
        position, workspace, connection, dialect, NOON, "BadRequest", "userId", "userId is required", body
    )


async def add(warehouse: Warehouse, *rows: RejectedEvent) -> None:
    async with warehouse.transaction() as transaction:
        await transaction.add_rejected(rows)


async def shorten(warehouse: Warehouse) -> None:
    async with warehouse.transaction() as transaction:
        await transaction.shorten_rejected()


async def refused(warehouse: Warehouse, workspace: int = 7) -> list[int]:
    rows, _ = await warehouse.rejected(workspace, connection_id=None, dialect=None, first=0, limit=1000)
    return [row.position for row in rows]


def noted(warehouse: Warehouse) -> list[str]:
    """The statements that are executed from now on."""
    statements: list[str] = []

    @event.listens_for(warehouse._engine.sync_engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    return statements


async def test_the_bytes_of_a_rejected_event_are_kept_up_to_a_bound(warehouse: Warehouse) -> None:
    body = bytes(range(256)) * 300
    await add(warehouse, rejected(1, body=body))
    (row,), _ = await warehouse.rejected(7, connection_id=None, dialect=None, first=0, limit=1)
    assert row.body == body[: 64 * 1024]


async def test_of_calls_with_unknown_keys_only_the_newest_are_kept(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNKNOWN_REJECTED", 5)
    await add(warehouse, rejected(1), *(rejected(position, workspace=0, connection=0) for position in range(2, 9)))
    await add(warehouse, rejected(9, workspace=0, connection=0), rejected(10))
    assert await refused(warehouse, 0) == [9, 8, 7, 6, 5]
    assert await refused(warehouse) == [10, 1], "those of a known key stay"


async def test_of_a_workspace_the_newest_are_kept(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REJECTED", 3)
    await add(warehouse, *(rejected(position) for position in range(1, 6)), rejected(6, workspace=8))
    await shorten(warehouse)
    assert await refused(warehouse) == [5, 4, 3]
    assert await refused(warehouse, 8) == [6]
    assert [(row.count, row.workspace) for row in await warehouse.refusals(7, connection_id=None)] == [(5, 7)]
    await add(warehouse, rejected(7), rejected(8, workspace=8))
    await shorten(warehouse)
    assert await refused(warehouse) == [7, 5, 4]
    assert await refused(warehouse, 8) == [8, 6]


async def test_they_are_looked_at_only_after_many_have_come(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REJECTED", 200)
    await add(warehouse, *(rejected(position) for position in range(1, 300)))
    await shorten(warehouse)
    assert len(await refused(warehouse)) == 200
    statements = noted(warehouse)
    for position in (301, 302):
        await add(warehouse, rejected(position))
        statements.clear()
        await shorten(warehouse)
        assert statements == []
    await add(warehouse, rejected(303))
    await shorten(warehouse)
    assert len(await refused(warehouse)) == 200


async def test_refusals_are_counted_by_source_and_rule(warehouse: Warehouse) -> None:
    later = msgspec.structs.replace(rejected(4), received_at=NOON + timedelta(hours=1))
    await add(warehouse, rejected(1), rejected(2), rejected(3, connection=2), rejected(5, workspace=8))
    await add(warehouse, later, msgspec.structs.replace(rejected(6), path="event"))
    rows = await warehouse.refusals(7, connection_id=None)
    assert [(row.connection, row.path, row.count) for row in rows] == [
        (1, "userId", 3),
        (1, "event", 1),
        (2, "userId", 1),
    ]
    assert (rows[0].first_at, rows[0].last_at) == (NOON, NOON + timedelta(hours=1))
    assert [row.connection for row in await warehouse.refusals(7, connection_id=2)] == [2]


async def test_one_batch_may_have_the_first_and_the_last(warehouse: Warehouse) -> None:
    times = [NOON + timedelta(seconds=seconds) for seconds in (1, 3, 2)]
    await add(
        warehouse,
        *(msgspec.structs.replace(rejected(place), received_at=at) for place, at in enumerate(times, 1)),
    )
    (row,) = await warehouse.refusals(7, connection_id=None)
    assert (row.count, row.first_at, row.last_at) == (3, times[0], times[1])
    await add(warehouse, msgspec.structs.replace(rejected(4), received_at=NOON + timedelta(seconds=9)))
    (row,) = await warehouse.refusals(7, connection_id=None)
    assert (row.count, row.first_at, row.last_at) == (4, times[0], NOON + timedelta(seconds=9))


async def counted(warehouse: Warehouse, workspace: int = 7) -> list[int]:
    return [row.connection for row in await warehouse.refusals(workspace, connection_id=None)]


async def test_what_there_is_of_a_source_goes_with_it_some_at_a_time(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMOVED_AT_ONCE", 3)
    await add(warehouse, *(rejected(position) for position in range(1, 6)), rejected(6, connection=2))
    await add(warehouse, rejected(7, connection=0), rejected(8, workspace=8, connection=3))
    await add(warehouse, rejected(9, workspace=0, connection=0))
    async with warehouse.transaction() as transaction:
        await transaction.note_calls([LatestCall(connection, 7, NOON, "track") for connection in (1, 2)])
        await transaction.remove_sources_except([2], workspaces=[7, 8])
    assert [await warehouse.latest_call(connection) for connection in (1, 2)] == [None, LatestCall(2, 7, NOON, "track")]
    assert len(await refused(warehouse)) + len(await refused(warehouse, 8)) == 8, "nothing yet"
    await shorten(warehouse)
    assert len(await refused(warehouse)) + len(await refused(warehouse, 8)) == 5
    assert sorted(await counted(warehouse) + await counted(warehouse, 8)) == [0, 1, 2, 3], "until all is gone"
    await shorten(warehouse)
    await shorten(warehouse)
    assert (await refused(warehouse), await refused(warehouse, 8), await refused(warehouse, 0)) == ([7, 6], [], [9])
    assert (sorted(await counted(warehouse)), await counted(warehouse, 8)) == ([0, 2], [])


async def test_what_there_is_of_a_workspace_goes_with_it(warehouse: Warehouse) -> None:
    """Calls with its API key that name no source, too."""
    await add(warehouse, rejected(1, connection=0), rejected(2, workspace=8, connection=0))
    async with warehouse.transaction() as transaction:
        await transaction.remove_sources_except([], workspaces=[7])
    await shorten(warehouse)
    assert (await refused(warehouse), await counted(warehouse)) == ([1], [0])
    assert (await refused(warehouse, 8), await counted(warehouse, 8)) == ([], [])


async def test_what_was_rolled_back_is_removed_the_next_time(warehouse: Warehouse) -> None:
    await add(warehouse, rejected(1))
    async with warehouse.transaction() as transaction:
        await transaction.remove_sources_except([], workspaces=[7])
    with pytest.raises(RuntimeError):
        async with warehouse.transaction() as transaction:
            await transaction.shorten_rejected()
            raise RuntimeError("the process ends here")
    assert (await refused(warehouse), await counted(warehouse)) == ([1], [1])
    await shorten(warehouse)
    assert (await refused(warehouse), await counted(warehouse)) == ([], [])


async def test_when_all_is_gone_nothing_is_asked_for_any_more(warehouse: Warehouse) -> None:
    await add(warehouse, rejected(1))
    await shorten(warehouse)
    async with warehouse.transaction() as transaction:
        await transaction.remove_sources_except([], workspaces=[7])
    await shorten(warehouse)
    await shorten(warehouse)
    statements = noted(warehouse)
    await shorten(warehouse)
    assert statements == []
