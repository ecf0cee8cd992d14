"""The tables of lanes: shared documents, deletion, and its cost."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event

from headwater.base.clock import SystemClock
from headwater.state import LaneEntry, NewChunk, StateStore, Transaction, lanes, open_state
from tests.sqlite import migrated_url

WORKSPACE, SOURCE = 1, 2
LANE, OTHER_LANE = 11, 12


@pytest.fixture
async def state(tmp_path: Path, database_url: str | None) -> AsyncIterator[StateStore]:
    url = database_url or migrated_url(tmp_path / "state.db")
    async with open_state(url, writes=True, clock=SystemClock()) as state:
        yield state


def entry(position: int, *, document: int = lanes.NO_DOCUMENT) -> LaneEntry:
    return LaneEntry(position, str(position), 0, "u", "a", document=document)


async def append(state: StateStore, chunks: dict[int, list[LaneEntry]], *documents: bytes) -> None:
    new = [NewChunk(pipeline, WORKSPACE, SOURCE, entries) for pipeline, entries in chunks.items()]
    async with state.transaction() as transaction:
        await transaction.append_to_lanes(new, {SOURCE: documents}, now=0)


async def count(transaction: Transaction, table: str) -> int:
    query = f"SELECT count(*) FROM {table}"
    return int(await transaction.run(lambda connection: connection.exec_driver_sql(query).scalar_one()))


async def test_a_lane_that_has_only_claims_keeps_no_documents_of_others(state: StateStore) -> None:
    await append(state, {LANE: [entry(1, document=0)], OTHER_LANE: [entry(1)]}, b"{}" * 10_000)
    sizes = {lane.pipeline: lane.bytes for lane in await state.lanes()}
    assert sizes[OTHER_LANE] == 0, "it takes nothing of what the workspace's lanes may have"
    assert sizes[LANE] > 0
    chunk = await state.next_chunk(OTHER_LANE, after=0)
    assert chunk is not None
    assert chunk.documents == []
    async with state.transaction() as transaction:
        await transaction.finish_lanes({LANE: 1})
        assert await count(transaction, "lane_bodies") == 0
    assert [(lane.pipeline, lane.bytes) for lane in await state.lanes()] == [(OTHER_LANE, sizes[OTHER_LANE])]


async def test_documents_stay_until_the_last_lane_that_has_them_is_finished(state: StateStore) -> None:
    await append(state, {LANE: [entry(1, document=0)], OTHER_LANE: [entry(1, document=0)]}, b"{}")
    for pipeline, left in ((LANE, 1), (OTHER_LANE, 0)):
        async with state.transaction() as transaction:
            await transaction.finish_lanes({pipeline: 1})
            assert await count(transaction, "lane_bodies") == left
    assert await state.lanes() == []


async def test_the_lane_of_a_deleted_pipeline_is_removed_part_by_part(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MAX_REMOVED_CHUNKS", 2)
    for position in range(1, 6):
        await append(state, {LANE: [entry(position, document=0)]}, b"{}")
    await append(state, {OTHER_LANE: [entry(6)]})
    for left in (3, 1, 0):
        async with state.transaction() as transaction:
            await transaction.remove_lanes_except([OTHER_LANE])
            assert await count(transaction, "lane_chunks") == left + 1
    assert [lane.pipeline for lane in await state.lanes()] == [OTHER_LANE]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_finishing_the_first_chunks_does_not_read_the_whole_lane(state: StateStore) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    async with state.transaction() as transaction:
        engine = state._sessions.engine
        event.listen(engine, "before_cursor_execute", note)
        insert = f"INSERT INTO lane_chunks VALUES ({LANE}, 1, 1, 0, 1, 1, 0, x'90')"
        await transaction.run(lambda connection: connection.exec_driver_sql(insert))
        await transaction.finish_lanes({LANE: 1})
        await transaction.flush()
        [query, *_] = [text for text in statements if text.startswith("SELECT lane_chunks")]
        explain = f"EXPLAIN QUERY PLAN {query}"
        plan = await transaction.run(lambda connection: connection.exec_driver_sql(explain, (LANE, 1, 1)).all())
        assert "first_position<?" in str(plan)
