"""No statement of the worker or of a page reads a whole table that grows."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from msgspec import Raw
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.events.devices import DeviceChange
from headwater.state import (
    DeviceEvent,
    IdentityObservation,
    LaneEntry,
    LatestCall,
    Message,
    MessageState,
    NewChunk,
    PipelineCounts,
    RejectedEvent,
    StateStore,
    TraitsUpdate,
)
from headwater.state.importruns import ImportRun
from headwater.state.imports import ImportTarget
from headwater.state.profiles import IdentityName
from headwater.state.runs import RunProgress
from headwater.state.suppressions import PersonName, dropped_events

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
GROWING = (
    "identities|devices|traits|messages|rejected_events|rejection_counts|lane_chunks|lane_bodies|pipeline_counts|"
    "pipeline_errors|suppressions|t"
)
"""Tables that grow with people, messages or calls; `t` is their alias in joins."""
PEOPLE = 3_000
OTHER_LANES = range(1_000, 3_000)
HOUR, DAY = 3_600_000_000, 86_400_000_000
Statement = tuple[str, Any]


async def fill(state: StateStore) -> None:
    people = range(PEOPLE)
    async with state.transaction() as transaction:
        observations = [
            IdentityObservation(7, 1 + number % 30, (11 + number % 30,), f"u{number}", f"a{number}", number)
            for number in people
        ]
        await transaction.change_identities(await transaction.merge_identities(observations))
        await transaction.change_devices(
            [
                DeviceEvent(7, 1 + n % 30, f"u{n}", f"a{n}", n, DeviceChange("registered", f"d{n}", f"t{n}"))
                for n in people
            ]
        )
        await transaction.merge_traits([TraitsUpdate(1 + n % 30, f"u{n}", None, Raw(b'{"n":1}')) for n in people])
        await transaction.add_rejected(
            [
                RejectedEvent(n + 1, 7 + n % 20, 1 + n % 30, "track", NOON, "BadRequest", f"p{n}", "", b"{}", f"m{n}")
                for n in people
            ]
        )
        for n in range(200):
            chunk = NewChunk(11, 7, 1, [LaneEntry(n + 1, "m", 0, "u", None, document=0)])
            await transaction.append_to_lanes([chunk], {1: [b"{}"]}, now=0)
        others = [NewChunk(n, 7, n, [LaneEntry(n, "m", 0, "u", None, document=0)]) for n in OTHER_LANES]
        await transaction.append_to_lanes(others, {n: [b"{}"] for n in OTHER_LANES}, now=0)
        await transaction.save({(1, f"m{n}"): MessageState(n + 1, 0) for n in people})
        for hour in range(60):
            await transaction.record_counts(failures(range(1 + hour, PEOPLE, 20), "error"), now=hour * HOUR)
        for n in range(0, PEOPLE, 10):
            await transaction.run(lambda connection, n=n: suppress(state, connection, n))  # type: ignore[misc]


def suppress(state: StateStore, connection: Connection, number: int) -> None:
    """Suppress ten persons by one erasure."""
    names = [PersonName(1, f"u{n}", False) for n in range(number, number + 10)]
    state.suppressions.add(connection, 7, names, erasure=number, now=number)


def failures(pipelines: Iterable[int], message: str) -> PipelineCounts:
    counts = PipelineCounts()
    for pipeline in pipelines:
        counts.add(pipeline, "Transformation", "Failed", message=message)
    return counts


async def work(state: StateStore) -> None:
    """Everything that the worker does."""
    async with state.transaction() as transaction:
        messages = [Message(PEOPLE + n, (1, f"m{n}"), 0) for n in range(100)]
        await transaction.save(await transaction.lookup(messages))
        await transaction.trim_messages()
        observations = [
            IdentityObservation(7, 1, (11,), "u3", "b3", 9, reaches=(11,)),
            IdentityObservation(7, 1, (11,), "u6", None, 9, previous_id="a6", reaches=(11,)),
            IdentityObservation(7, 1, (11,), None, "z", 9),
        ]
        await transaction.change_identities(await transaction.merge_identities(observations))
        changes = [DeviceChange("registered", "d9", "t0"), DeviceChange("removed", "d3")]
        await transaction.change_devices([DeviceEvent(7, 1, "u9", None, 9, change) for change in changes])
        await transaction.merge_traits([TraitsUpdate(1, "u1", "a1", Raw(b'{"n":2}'))])
        await transaction.lanes()
        await transaction.append_to_lanes(
            [NewChunk(11, 7, 1, [LaneEntry(PEOPLE, "m", 0, "u", None, document=0)])], {1: [b"{}"]}, now=0
        )
        await transaction.finish_lanes({11: 5})
        await transaction.save_calls([LatestCall(1, 7, NOON, "track")])
        await transaction.add_rejected([RejectedEvent(PEOPLE + 1, 0, 0, "track", NOON, "Unauthorized", "", "", b"")])
        await transaction.shorten_rejected()
        await transaction.remove_lanes_except([12, *OTHER_LANES])
        await transaction.remove_identities_except([12, 13])
        await transaction.remove_sources_except([2, 3], workspaces=[7])
        await transaction.record_counts(failures((11, 12), "another error"), now=5 * HOUR)
        await transaction.compact_counts(now=7 * DAY)
        await transaction.compact_counts(now=500 * DAY)
        await transaction.remove_counts_except(range(5, PEOPLE))
        await transaction.advance("warehouse", 0, 1)
        await transaction.advance("warehouse", 1, 2)


async def read(state: StateStore) -> None:
    """Everything that is asked for by a page or another process."""
    await state.position("warehouse")
    await state.identities(1, first=0, limit=10)
    await state.devices([1, 2, 3], user_id=None, anonymous_id=None, first=0, limit=10)
    await state.devices([1, 2, 3], user_id="u3", anonymous_id=None, first=0, limit=10)
    await state.devices([1, 2, 3], user_id=None, anonymous_id="a3", first=0, limit=10)
    await state.latest_call(1)
    for connection_id in (None, 1):
        for protocol in (None, "track"):
            await state.rejected(7, connection_id=connection_id, protocol=protocol, first=0, limit=10)
        await state.rejection_counts(7, connection_id=connection_id)
    await state.rejected_messages(7, "m3")
    await state.messages([(1, "m3")])
    await state.read(lambda connection: dropped_events(connection, [10, 20]))
    await state.lanes()
    await state.next_chunk(12, after=3)
    await state.oldest_in_lane(12)
    for seconds in (60, 3_600, 86_400):
        await state.pipeline_counts([11, 12], start=0, end=DAY, unit_seconds=seconds)
    await state.pipeline_errors([11, 12], start=0, end=DAY, step=None, limit=10)
    await state.pipeline_errors([11, 12], start=0, end=DAY, step="Filter", limit=10)


@asynccontextmanager
async def noted(state: StateStore) -> AsyncIterator[list[Statement]]:
    statements: list[Statement] = []
    engines = {state._engine.sync_engine, state._sessions.engine}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if re.match("SELECT|INSERT|UPDATE|DELETE|WITH", statement):
            statements.append((statement, parameters[0] if many else parameters))

    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


async def plan(connection: AsyncConnection, statement: Statement) -> list[str]:
    text, parameters = statement
    if connection.dialect.name == "sqlite":
        return [row[-1] for row in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)]
    return [row[0] for row in await connection.exec_driver_sql(f"EXPLAIN {text}", tuple(parameters))]


async def test_no_statement_reads_a_whole_table(state: StateStore) -> None:
    await fill(state)
    engine = state._engine
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.exec_driver_sql("ANALYZE")
    async with noted(state) as reading:
        await read(state)
    async with noted(state) as working:
        await work(state)
    assert len(reading) >= 15 and len(working) >= 15
    scan = re.compile(rf"SCAN ({GROWING})\b|Seq Scan on ({GROWING})\b")
    async with engine.connect() as connection:
        for statement in reading + working:
            lines = await plan(connection, statement)
            assert not [line for line in lines if scan.search(line)], (statement[0][:300], lines)


async def test_identities_are_found_by_their_key_without_statistics(state: StateStore) -> None:
    """PostgreSQL keeps the plan that it has made for an empty table."""
    importing = ImportRun(state, 1, 1, 11)
    await importing.take(b"")
    async with noted(state) as statements:
        names = [IdentityName(connection, "u3", False) for connection in range(1, 30)]
        assert await state.profiles.find_named(7, names, 10) == []
        await importing.write(
            ImportTarget(7, 1, 11, 1, True, False), {"u1": (1, "{}")}, {"u2"},
            now=1, is_tracked=False, cursor=None, position=b"read", count=lambda _: RunProgress(),
        )  # fmt: skip
        async with state.transaction() as transaction:
            await transaction.merge_identities([IdentityObservation(7, 1, (11,), "u3", "a3", 9)])
    lookups = [each for each in statements if re.search(r"(FROM|JOIN) identities t\b", each[0])]
    assert len(lookups) >= 4
    async with state._engine.connect() as connection:
        for statement in lookups:
            lines = await plan(connection, statement)
            assert [line for line in lines if re.search("identities_key|sqlite_autoindex_identities_1", line)], lines
