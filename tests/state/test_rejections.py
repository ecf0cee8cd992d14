"""Rejected events: their trimming, its cost, and their counts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import event

from headwater.state import LatestCall, RejectedEvent, StateStore
from headwater.state import rejections as module

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rejected(
    position: int, workspace: int = 7, connection: int = 1, protocol: str = "track", body: bytes = b"{}"
) -> RejectedEvent:
    return RejectedEvent(
        position, workspace, connection, protocol, NOON, "BadRequest", "userId", "userId is required", body
    )


async def add(state: StateStore, *rows: RejectedEvent) -> None:
    async with state.transaction() as transaction:
        await transaction.add_rejected(rows)


async def shorten(state: StateStore) -> None:
    async with state.transaction() as transaction:
        await transaction.shorten_rejected()


async def list_rejected(state: StateStore, workspace: int = 7) -> list[int]:
    rows, _ = await state.rejected(workspace, connection_id=None, protocol=None, first=0, limit=1000)
    return [row.position for row in rows]


def noted(state: StateStore) -> list[str]:
    """The statements that are executed from now on."""
    statements: list[str] = []

    @event.listens_for(state._sessions.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    return statements


async def test_the_bytes_of_a_rejected_event_are_kept_up_to_a_bound(state: StateStore) -> None:
    body = bytes(range(256)) * 300
    await add(state, rejected(1, body=body))
    (row,), _ = await state.rejected(7, connection_id=None, protocol=None, first=0, limit=1)
    assert row.body == body[: 64 * 1024]


async def test_of_calls_with_unknown_keys_only_the_newest_are_kept(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNKNOWN_REJECTED", 5)
    await add(state, rejected(1), *(rejected(position, workspace=0, connection=0) for position in range(2, 9)))
    await add(state, rejected(9, workspace=0, connection=0), rejected(10))
    assert await list_rejected(state, 0) == [9, 8, 7, 6, 5]
    assert await list_rejected(state) == [10, 1], "those of a known key stay"


async def test_of_a_workspace_the_newest_are_kept(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REJECTED", 3)
    await add(state, *(rejected(position) for position in range(1, 6)), rejected(6, workspace=8))
    await shorten(state)
    assert await list_rejected(state) == [5, 4, 3]
    assert await list_rejected(state, 8) == [6]
    assert [(row.count, row.workspace) for row in await state.rejection_counts(7, connection_id=None)] == [(5, 7)]
    await add(state, rejected(7), rejected(8, workspace=8))
    await shorten(state)
    assert await list_rejected(state) == [7, 5, 4]
    assert await list_rejected(state, 8) == [8, 6]


async def test_they_are_looked_at_only_after_many_have_come(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REJECTED", 200)
    await add(state, *(rejected(position) for position in range(1, 300)))
    await shorten(state)
    assert len(await list_rejected(state)) == 200
    statements = noted(state)
    for position in (301, 302):
        await add(state, rejected(position))
        statements.clear()
        await shorten(state)
        assert statements == []
    await add(state, rejected(303))
    await shorten(state)
    assert len(await list_rejected(state)) == 200


async def test_rejections_are_counted_by_source_and_rule(state: StateStore) -> None:
    later = msgspec.structs.replace(rejected(4), received_at=NOON + timedelta(hours=1))
    await add(state, rejected(1), rejected(2), rejected(3, connection=2), rejected(5, workspace=8))
    await add(state, later, msgspec.structs.replace(rejected(6), path="event"))
    rows = await state.rejection_counts(7, connection_id=None)
    assert [(row.connection, row.path, row.count) for row in rows] == [
        (1, "userId", 3),
        (1, "event", 1),
        (2, "userId", 1),
    ]
    assert (rows[0].first_at, rows[0].last_at) == (NOON, NOON + timedelta(hours=1))
    assert [row.connection for row in await state.rejection_counts(7, connection_id=2)] == [2]


async def test_one_batch_may_have_the_first_and_the_last(state: StateStore) -> None:
    times = [NOON + timedelta(seconds=seconds) for seconds in (1, 3, 2)]
    await add(
        state,
        *(msgspec.structs.replace(rejected(place), received_at=at) for place, at in enumerate(times, 1)),
    )
    (row,) = await state.rejection_counts(7, connection_id=None)
    assert (row.count, row.first_at, row.last_at) == (3, times[0], times[1])
    await add(state, msgspec.structs.replace(rejected(4), received_at=NOON + timedelta(seconds=9)))
    (row,) = await state.rejection_counts(7, connection_id=None)
    assert (row.count, row.first_at, row.last_at) == (4, times[0], NOON + timedelta(seconds=9))


async def counted(state: StateStore, workspace: int = 7) -> list[int]:
    return [row.connection for row in await state.rejection_counts(workspace, connection_id=None)]


async def remove(state: StateStore, *, sources: list[int], workspaces: list[int]) -> int:
    async with state.transaction() as transaction:
        return await transaction.remove_sources_except(sources, workspaces=workspaces)


async def test_what_there_is_of_a_source_goes_with_it_some_at_a_time(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_REMOVED_ROWS", 3)
    await add(state, *(rejected(position) for position in range(1, 6)), rejected(6, connection=2))
    await add(state, rejected(7, connection=0), rejected(8, workspace=8, connection=3))
    await add(state, rejected(9, workspace=0, connection=0))
    async with state.transaction() as transaction:
        await transaction.save_calls([LatestCall(connection, 7, NOON, "track") for connection in (1, 2)])
    assert await remove(state, sources=[2], workspaces=[7, 8]) == 1 + 3
    assert [await state.latest_call(connection) for connection in (1, 2)] == [None, LatestCall(2, 7, NOON, "track")]
    assert len(await list_rejected(state)) + len(await list_rejected(state, 8)) == 5
    assert sorted(await counted(state) + await counted(state, 8)) == [0, 1, 2, 3], "until all is gone"
    removed = [await remove(state, sources=[2], workspaces=[7, 8]) for _ in range(3)]
    assert (sum(removed), removed[-1]) == (2 + 1 + 2, 0), "events of two sources, then their counts"
    assert (await list_rejected(state), await list_rejected(state, 8), await list_rejected(state, 0)) == (
        [7, 6],
        [],
        [9],
    )
    assert (sorted(await counted(state)), await counted(state, 8)) == ([0, 2], [])


async def test_what_there_is_of_a_workspace_goes_with_it(state: StateStore) -> None:
    """Calls with its API key that name no source, too."""
    await add(state, rejected(1, connection=0), rejected(2, workspace=8, connection=0))
    assert await remove(state, sources=[], workspaces=[7]) == 2
    assert (await list_rejected(state), await counted(state)) == ([1], [0])
    assert (await list_rejected(state, 8), await counted(state, 8)) == ([], [])
    assert await remove(state, sources=[], workspaces=[7]) == 0


async def test_what_was_rolled_back_is_removed_the_next_time(state: StateStore) -> None:
    await add(state, rejected(1))
    with pytest.raises(RuntimeError):
        async with state.transaction() as transaction:
            await transaction.remove_sources_except([], workspaces=[7])
            raise RuntimeError("the process ends here")
    assert (await list_rejected(state), await counted(state)) == ([1], [1])
    assert await remove(state, sources=[], workspaces=[7]) == 2
    assert (await list_rejected(state), await counted(state)) == ([], [])
