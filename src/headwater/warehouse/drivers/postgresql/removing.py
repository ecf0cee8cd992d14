"""Removes events: those of persons, and those that arrived before a time.

Each step is one transaction with the lock of the loaded position, so loads and steps follow each other, and counts
and rows are changed together.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from headwater.storage.postgresql import milliseconds
from headwater.warehouse.contract import ErasureCursor, ErasureStep
from headwater.warehouse.drivers.postgresql import oldevents
from headwater.warehouse.drivers.postgresql.database import Driver, Parameters
from headwater.warehouse.drivers.postgresql.loading import SLOT_MICROSECONDS, subtract
from headwater.warehouse.drivers.postgresql.partitions import DAY_MICROSECONDS, find_day
from headwater.warehouse.drivers.postgresql.reading import select_persons
from headwater.warehouse.persons import PersonSet

MAX_STEP_ROWS: Final = 2_000
"""Maximum number of events that a step removes or, of an earlier version, examines."""
STEP_SECONDS: Final = 0.1
"""Time after which a step examines no further partition."""
DROP_TIMEOUT_SECONDS: Final = 0.2
"""Time limit for waiting until no reader uses the events. Other readers wait meanwhile."""

# Old events move to partitions, so this order misses none.
_OLD_EVENTS_STAGE: Final = 0
_PARTITIONS_STAGE: Final = 1

_LOCK: Final = "SELECT old_position FROM warehouse.event_loading FOR UPDATE"
_RETURNING: Final = "RETURNING timestamp, received_at, connection, type, event"
_OLD_ROWS: Final = f"""
SELECT position, workspace, received_at, document FROM warehouse.{oldevents.TABLE}
WHERE position > $1 ORDER BY position LIMIT $2
"""
_REMOVE_OLD: Final = f"DELETE FROM warehouse.{oldevents.TABLE} WHERE position = ANY($1::bigint[])"
_SPANS: Final = "SELECT partition FROM warehouse.event_spans WHERE workspace = $1"
_EXPIRED: Final = """
SELECT partition, events, last_received_at < $2 AS is_whole FROM warehouse.event_spans
WHERE workspace = $1 AND first_received_at < $2 ORDER BY first_received_at
"""
_IS_SHARED: Final = "SELECT EXISTS (SELECT FROM warehouse.event_spans WHERE partition = $1 AND workspace <> $2)"


async def erase(driver: Driver, workspace: int, persons: PersonSet, cursor: ErasureCursor) -> ErasureStep:
    """Do one step of an erasure, as the contract says."""
    if not persons:
        return ErasureStep(0, None)
    if cursor.stage == _OLD_EVENTS_STAGE:
        try:
            return await _erase_old(driver, workspace, persons, cursor.place)
        except asyncpg.UndefinedTableError:  # the last was moved meanwhile
            cursor = ErasureCursor(_PARTITIONS_STAGE)
    return await _erase_from_partitions(driver, workspace, persons, cursor.place)


async def _erase_old(driver: Driver, workspace: int, persons: PersonSet, after: int) -> ErasureStep:
    """Remove old events, also those that were moved, but count only the others."""
    is_of_person = oldevents.person_test(persons)
    async with driver.transaction():
        moved = await driver.fetchval(_LOCK)
        if moved is None:
            return ErasureStep(0, ErasureCursor(_PARTITIONS_STAGE))
        rows = await driver.fetch(_OLD_ROWS, after, MAX_STEP_ROWS)
        found = [
            row["position"] for row in rows if row["workspace"] == workspace and is_of_person(row["document"].encode())
        ]
        await driver.execute(_REMOVE_OLD, found)
    removed = sum(position > moved for position in found)
    if len(rows) < MAX_STEP_ROWS:
        return ErasureStep(removed, ErasureCursor(_PARTITIONS_STAGE))
    return ErasureStep(removed, ErasureCursor(_OLD_EVENTS_STAGE, rows[-1]["position"]))


async def _erase_from_partitions(driver: Driver, workspace: int, persons: PersonSet, after: int) -> ErasureStep:
    """Remove events partition by partition. The place of a cursor is the number of the last completed one."""
    end = time.monotonic() + STEP_SECONDS
    partitions = sorted((_number(name), name) for (name,) in await driver.fetch(_SPANS, workspace))
    for number, name in partitions:
        if number <= after:
            continue
        parameters = Parameters([workspace])
        places = f"SELECT place FROM ({select_persons(f'warehouse.{name}', persons, parameters)}) AS found"
        limit = parameters.add(MAX_STEP_ROWS)
        removed = await _remove(driver, workspace, name, f"{places} LIMIT {limit}", parameters)
        if removed == MAX_STEP_ROWS:
            return ErasureStep(removed, ErasureCursor(_PARTITIONS_STAGE, after))
        after = number
        if removed or time.monotonic() > end:
            return ErasureStep(removed, ErasureCursor(_PARTITIONS_STAGE, after))
    return ErasureStep(0, None)


async def remove_before(driver: Driver, workspace: int, received_at: int) -> int:
    """Remove some of the events that arrived before a time; return their number, 0 if there are none."""
    for name, events, is_whole in await driver.fetch(_EXPIRED, workspace, received_at):
        if is_whole and await _drop(driver, workspace, name):
            return int(events)
        expired = "workspace = $1 AND received_at < $2"
        places = f"SELECT ctid AS place FROM warehouse.{name} WHERE {expired} LIMIT {MAX_STEP_ROWS}"
        if removed := await _remove(driver, workspace, name, places, Parameters([workspace, received_at])):
            return removed
    return await _remove_old_before(driver, workspace, received_at)


async def _drop(driver: Driver, workspace: int, name: str) -> bool:
    """Drop the partition of a day with the counts of its events. Return False if it has events of other workspaces, is
    no day's, or is being read."""
    day = find_day(name)
    if day is None:
        return False
    try:
        async with driver.transaction():
            await driver.execute(f"SET LOCAL lock_timeout = {milliseconds(DROP_TIMEOUT_SECONDS)}")
            await driver.fetchval(_LOCK)
            if await driver.fetchval(_IS_SHARED, name, workspace):
                return False
            await driver.execute(f"DROP TABLE warehouse.{name}")
            await driver.execute("DELETE FROM warehouse.event_spans WHERE partition = $1", name)
            await driver.execute(
                "DELETE FROM warehouse.event_counts "
                "WHERE workspace = $1 AND received_slot >= $2 AND received_slot < $3",
                workspace,
                day * _DAY_SLOTS,
                (day + 1) * _DAY_SLOTS,
            )
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def _remove(driver: Driver, workspace: int, name: str, places: str, parameters: Sequence[Any]) -> int:
    """Remove the events at these places of a partition; return their number."""
    async with driver.transaction():
        await driver.fetchval(_LOCK)
        await driver.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        rows = await driver.fetch(
            f"DELETE FROM warehouse.{name} WHERE ctid = ANY(ARRAY({places})) {_RETURNING}", *parameters
        )
        await subtract(driver, workspace, name, [tuple(row) for row in rows])
    return len(rows)


async def _remove_old_before(driver: Driver, workspace: int, received_at: int) -> int:
    """Remove the oldest events of an earlier version. Others follow once those before them have moved."""
    try:
        async with driver.transaction():
            moved = await driver.fetchval(_LOCK)
            if moved is None:
                return 0
            rows = await driver.fetch(_OLD_ROWS, moved, MAX_STEP_ROWS)
            found = [
                row["position"] for row in rows if row["workspace"] == workspace and row["received_at"] < received_at
            ]
            await driver.execute(_REMOVE_OLD, found)
            return len(found)
    except asyncpg.UndefinedTableError:
        return 0


def _number(partition: str) -> int:
    """Return a number that orders partitions: the day's, or one before or after all days."""
    day = find_day(partition)
    if day is not None:
        return day + 2
    return 1 if partition == "events_before" else 2**40


_DAY_SLOTS: Final = DAY_MICROSECONDS // SLOT_MICROSECONDS
