"""Data of workspaces with a retention is deleted when it is old enough, and no other."""

import json

import pytest

from headwater.catalog import Connection, RetentionSettings
from headwater.management.workspaces import update_retention
from headwater.processing.retention import Retention
from tests.harness import Harness

DAY = 86_400


def retention(harness: Harness) -> Retention:
    return Retention(harness.catalog, harness.state, harness.warehouse, harness.clock, harness.resolver)


async def fill(harness: Harness, source: Connection, number: int, *, days: int) -> None:
    """Send events of two persons and a rejected event on each of some days."""
    for day in range(days):
        events = [
            {"type": "track", "event": f"day {day}", "userId": "u", "messageId": f"u-{number}-{day}"},
            {"type": "track", "event": f"day {day}", "anonymousId": f"a-{day}", "messageId": f"a-{number}-{day}"},
            {"type": "no such type", "messageId": f"r-{number}-{day}"},
        ]
        await harness.send(source, json.dumps({"batch": events}).encode())
        await harness.process_log()
        harness.clock.advance(DAY)


async def counts(harness: Harness, source: Connection) -> tuple[int, int, int]:
    """Return the number of events, of rejected events and of identities."""
    _, rejected = await harness.state.rejected(harness.workspace, connection_id=None, protocol=None, first=0, limit=1)
    _, identities = await harness.state.identities(source.id, first=0, limit=1)
    return len(await harness.documents()), rejected, identities


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (RetentionSettings(), (20, 10, 11)),
        (RetentionSettings(event_days=3), (6, 10, 11)),
        (RetentionSettings(rejected_event_days=3), (20, 3, 11)),
        (RetentionSettings(anonymous_identity_days=3), (20, 10, 4)),
        (RetentionSettings(event_days=1, rejected_event_days=1, anonymous_identity_days=1), (2, 1, 2)),
        (RetentionSettings(event_days=36_500), (20, 10, 11)),
    ],
)
async def test_old_data_is_deleted(
    harness: Harness, source: Connection, settings: RetentionSettings, expected: tuple[int, int, int]
) -> None:
    await fill(harness, source, 1, days=10)
    assert await counts(harness, source) == (20, 10, 11)
    await update_retention(harness.catalog, harness.workspace, settings)
    working = retention(harness)
    for _ in range(3):
        await working.apply()
    assert await counts(harness, source) == expected
    for _ in range(2):
        await retention(harness).apply()
    assert await counts(harness, source) == expected


async def test_it_goes_on_day_by_day(harness: Harness, source: Connection) -> None:
    await fill(harness, source, 1, days=3)
    await update_retention(harness.catalog, harness.workspace, RetentionSettings(event_days=2))
    working = retention(harness)
    left = []
    for _ in range(4):
        await working.apply()
        left.append((await counts(harness, source))[0])
        harness.clock.advance(DAY)
    assert left == [4, 2, 0, 0]
