"""Re-sends and replays on real stores: what is sent again, in which order, and what a crash changes: nothing.

HEADWATER_CRASH_ROUNDS sets the number of sequences of crashes.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Connection, open_catalog
from headwater.delivery import operations, replaying, resending, stepping, stored
from headwater.delivery.resending import count_dead, dead_selection
from headwater.filters import Condition, Filter
from headwater.management.pipelines import delete_pipeline, set_pipeline_status
from headwater.state.deliveries import ChunkItem, DeliveryStore, OperationProgress, open_delivery_store
from headwater.state.deliveries import resending as queue_resending
from headwater.state.operations import DELIVERY_KINDS, LEASE_SECONDS, Operation, ReplayParameters, ResendParameters
from headwater.state.operations.tables import operations as operations_table
from headwater.storage.database import sqlite_url
from tests.delivery.operations import add_destination, dead, ended, execute, finish, ids, reread, send, track, waiting
from tests.harness import KEYRING, Harness, add_source, add_workspace, open_harness
from tests.leases import age_leases

ROUNDS: Final = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
EVEN = Filter("and", (Condition("event", "is one of", ("E0", "E2", "E4", "E6", "E8")),))


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let operations take many steps, without waiting."""
    monkeypatch.setattr(operations, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(operations, "RETRY_SECONDS", 0.005)
    monkeypatch.setattr(stored, "PAGE_EVENTS", 3)
    monkeypatch.setattr(replaying, "PAGE_EVENTS", 3)
    monkeypatch.setattr(queue_resending, "MAX_STEP_ITEMS", 2)
    monkeypatch.setattr(resending, "GROUP_RANGES", 2)


def operations_url(harness: Harness) -> str:
    return harness.database_url or sqlite_url(harness.folder / "operations.db")


def now(harness: Harness) -> int:
    return microseconds(harness.clock.now())


async def resend(harness: Harness, **parameters: Any) -> Operation:
    """Create a re-send with the total that a dry run returns."""
    given = ResendParameters(**parameters)
    selection = dead_selection(harness.workspace, given, now(harness))
    total = await count_dead(harness.catalog, harness.deliveries, selection)
    return await harness.operations.create(harness.workspace, given, total)


async def replay(harness: Harness, destination: Connection, **parameters: Any) -> Operation:
    until = parameters.pop("until", now(harness))
    given = ReplayParameters(
        destination=destination.id, pipeline=destination.pipelines[0].id, until=until, **parameters
    )
    return await harness.operations.create(harness.workspace, given, None)


async def make_dead(harness: Harness, count: int = 10, pipelines: int = 2) -> tuple[Connection, Connection]:
    """Return a source, and a destination at which the even events are rejected and the others expired."""
    source = await add_source(harness.catalog, harness.workspace, users=())
    destination = await add_destination(harness, source, pipelines=pipelines)
    await send(harness, reread(harness, source), [track(number) for number in range(count)])
    await finish(
        harness, destination, lambda item: "Rejected" if int(item.event.message_id[1:]) % 2 == 0 else "Expired"
    )
    assert await waiting(harness.deliveries, destination) == []
    return source, destination


SELECTIONS: list[tuple[dict[str, Any], set[int], set[int]]] = [
    ({}, set(range(10)), {0, 1}),
    ({"reason": "Rejected"}, {0, 2, 4, 6, 8}, {0, 1}),
    ({"reason": "Rejected", "pipeline": 1}, {0, 2, 4, 6, 8}, {1}),
    ({"pipeline": 0}, set(range(10)), {0}),
    ({"destination": True, "reason": "Expired"}, {1, 3, 5, 7, 9}, {0, 1}),
    ({"reason": "None"}, set(), set()),
    ({"destination": False}, set(), set()),
    ({"since": 1}, set(), set()),
    ({"until": 0}, set(), set()),
]


@pytest.mark.parametrize(("selection", "events", "pipelines"), SELECTIONS)
async def test_the_selected_dead_letters_are_sent_again(
    harness: Harness, selection: dict[str, Any], events: set[int], pipelines: set[int]
) -> None:
    _, destination = await make_dead(harness)
    given = dict(selection)
    if "pipeline" in given:
        given["pipeline"] = ids(destination)[given["pipeline"]]
    if "destination" in given:
        given["destination"] = destination.id if given["destination"] else destination.id + 1
    for name in given.keys() & {"since", "until"}:
        given[name] += now(harness)
    harness.clock.advance(1)
    operation = await resend(harness, **given)
    everything = {(pipeline, f"m{number}") for pipeline in ids(destination) for number in range(10)}
    expected = sorted((ids(destination)[pipeline], f"m{number}") for pipeline in pipelines for number in events)
    assert operation.total == len(expected)
    await execute(harness)
    operation = await ended(harness, operation)
    assert (operation.status, operation.error) == ("Completed", "")
    assert operation.done == operation.enqueued == len(expected)
    assert sorted(await waiting(harness.deliveries, destination)) == expected
    assert await dead(harness.deliveries, harness.workspace) == sorted(everything - set(expected))


async def test_what_dies_again_is_not_sent_twice_by_one_operation(harness: Harness) -> None:
    _, destination = await make_dead(harness)
    harness.clock.advance(1)
    first = await resend(harness)
    await execute(harness)
    await finish(harness, destination, lambda _: "Again")
    harness.clock.advance(1)
    second = await resend(harness, reason="Again")
    await execute(harness)
    for operation in (first, second):
        assert (await ended(harness, operation)).done == 20
    assert len(await waiting(harness.deliveries, destination)) == 20


async def test_events_are_replayed_in_the_order_of_their_reception(harness: Harness) -> None:
    source = await add_source(harness.catalog, harness.workspace, users=())
    await send(harness, source, [track(number, timestamp="2020-01-01T00:00:00Z") for number in range(8)])
    destination = await add_destination(harness, source)
    operation = await replay(harness, destination)
    await execute(harness)
    operation = await ended(harness, operation)
    assert (operation.status, operation.done, operation.enqueued) == ("Completed", 8, 8)
    [pipeline] = ids(destination)
    assert await waiting(harness.deliveries, destination) == [(pipeline, f"m{number}") for number in range(8)]
    chunks = await harness.deliveries.read(destination.id, 0, max_bytes=1 << 20)
    assert {chunk.origin for chunk in chunks} == {str(operation.id)}
    [first, *_] = chunks[0].events
    [document, *_] = await harness.documents()
    assert (first.document, first.source, first.user_id) == (document, source.id, "u0")
    assert first.position == chunks[0].first_position > 0


REPLAYS: list[tuple[dict[str, Any], Filter | None, dict[str, Any], set[int]]] = [
    ({}, None, {}, set(range(10))),
    ({"since": 3}, None, {}, set(range(3, 10))),
    ({"until": 3}, None, {}, {0, 1, 2}),
    ({"since": 3, "until": 5}, None, {}, {3, 4}),
    ({"filter": EVEN}, None, {}, {0, 2, 4, 6, 8}),
    ({}, EVEN, {}, {0, 2, 4, 6, 8}),
    ({"filter": EVEN, "since": 3}, EVEN, {}, {4, 6, 8}),
    ({"filter": Filter("and", (Condition("event", "is", ("none",)),))}, None, {}, set()),
    ({}, None, {"integrations": {"All": False}}, set()),
    ({}, None, {"integrations": {"All": False, "Dummy": True}}, set(range(10))),
    ({}, None, {"integrations": {"Dummy": False}}, set()),
]


@pytest.mark.parametrize(("parameters", "filter_", "members", "expected"), REPLAYS)
async def test_the_selected_events_are_replayed(
    harness: Harness,
    parameters: dict[str, Any],
    filter_: Filter | None,
    members: dict[str, Any],
    expected: set[int],
) -> None:
    source = await add_source(harness.catalog, harness.workspace, users=())
    began = now(harness)
    await send(harness, source, [track(number, **members) for number in range(10)])
    destination = await add_destination(harness, source, pipelines=2, filter=filter_)
    given: dict[str, Any] = {
        name: msgspec.json.encode(value).decode() if name == "filter" else began + value * 1_000_000
        for name, value in parameters.items()
    }
    await replay(harness, destination, **given)
    await execute(harness)
    first, _ = ids(destination)
    assert await waiting(harness.deliveries, destination) == [(first, f"m{number}") for number in sorted(expected)]


async def test_only_events_of_linked_sources_are_replayed(harness: Harness) -> None:
    linked, other = [await add_source(harness.catalog, harness.workspace, users=()) for _ in range(2)]
    await send(harness, linked, [track(1)])
    await send(harness, other, [track(2)])
    destination = await add_destination(harness, linked)
    await replay(harness, destination)
    await execute(harness)
    assert await waiting(harness.deliveries, destination) == [(ids(destination)[0], "m1")]


async def test_events_are_replayed_to_a_pipeline_that_another_process_has_just_created(harness: Harness) -> None:
    source = await add_source(harness.catalog, harness.workspace, users=())
    await send(harness, source, [track(number) for number in range(4)])
    url = harness.database_url or sqlite_url(harness.folder / "catalog.db")
    async with open_catalog(url, clock=harness.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
        destination = await add_destination(replace(harness, catalog=other), source)
    assert harness.catalog.connection(harness.workspace, destination.id) is None
    operation = await replay(harness, destination)
    await execute(harness)
    assert ((await ended(harness, operation)).status, (await ended(harness, operation)).enqueued) == ("Completed", 4)


async def test_a_replay_ends_when_another_process_deletes_its_pipeline(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await add_source(harness.catalog, harness.workspace, users=())
    await send(harness, source, [track(number) for number in range(6)])
    destination = await add_destination(harness, source)
    append = harness.deliveries.append_again

    async def append_and_delete(*arguments: Any, **values: Any) -> OperationProgress:
        monkeypatch.setattr(harness.deliveries, "append_again", append)
        progress = await append(*arguments, **values)
        url = harness.database_url or sqlite_url(harness.folder / "catalog.db")
        async with open_catalog(url, clock=harness.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
            await delete_pipeline(other, harness.workspace, ids(destination)[0])
        return progress

    monkeypatch.setattr(harness.deliveries, "append_again", append_and_delete)
    operation = await replay(harness, destination)
    await execute(harness)
    operation = await ended(harness, operation)
    assert (operation.status, operation.enqueued) == ("Failed", 3)


async def test_operations_of_a_workspace_that_another_process_has_just_created_are_executed(harness: Harness) -> None:
    url = harness.database_url or sqlite_url(harness.folder / "catalog.db")
    async with open_catalog(url, clock=harness.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
        workspace = await add_workspace(other, "New")
    assert harness.catalog.workspace(workspace.id) is None
    operation = await harness.operations.create(workspace.id, ResendParameters(), 0)
    await execute(harness)
    assert (await ended(harness, operation)).status == "Completed"


async def test_another_workspace_is_not_touched(harness: Harness) -> None:
    _, destination = await make_dead(harness, count=2)
    other = await add_workspace(harness.catalog, "Other")
    operation = await harness.operations.create(other.id, ResendParameters(), 0)
    mine = await harness.operations.create(other.id, ResendParameters(destination=destination.id), 0)
    given = ReplayParameters(destination=destination.id, pipeline=ids(destination)[0], until=now(harness) + 1)
    replayed = await harness.operations.create(other.id, given, None)
    harness.clock.advance(1)
    await execute(harness)
    assert await waiting(harness.deliveries, destination) == []
    assert {(await ended(harness, each)).status for each in (operation, mine)} == {"Completed"}
    failed = await ended(harness, replayed)
    assert (failed.status, failed.error) == ("Failed", f"pipeline {ids(destination)[0]} does not exist any more")


async def test_a_replay_waits_while_its_destination_is_behind(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "MAX_OPEN_ITEMS", 4)
    source = await add_source(harness.catalog, harness.workspace, users=())
    await send(harness, source, [track(number) for number in range(12)])
    destination = await add_destination(harness, source)
    operation = await replay(harness, destination)
    received: list[str] = []

    def take(item: ChunkItem) -> str:
        received.append(item.event.message_id)
        return ""

    async def receive() -> None:
        while len(received) < 12:
            found = await waiting(harness.deliveries, destination)
            assert len(found) <= 4 + 3
            if len(found) > 4 or len(received) + len(found) == 12:
                await finish(harness, destination, take)
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(receive())
        group.create_task(execute(harness))
    assert received == [f"m{number}" for number in range(12)]
    assert (await ended(harness, operation)).enqueued == 12


async def test_what_was_dropped_waits_while_its_destination_is_behind(
    harness: Harness, tiny_queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "MAX_OPEN_ITEMS", 4)
    monkeypatch.setattr(operations, "RETRY_SECONDS", 0.01)
    looks = 0

    async def look(deliveries: DeliveryStore, id_: int) -> bool:
        nonlocal looks
        looks += 1
        return await stepping.is_behind(deliveries, id_)

    monkeypatch.setattr(resending, "is_behind", look)
    destination = await dropped(harness, tiny_queue)
    [source] = destination.linked_connections
    found = harness.catalog.connection(harness.workspace, source)
    assert found is not None
    await send(harness, found, [track(number) for number in range(10, 13)])
    before = await waiting(harness.deliveries, destination)
    assert len(before) > 4
    await resend(harness, reason="NoSpace")
    async with asyncio.TaskGroup() as group:
        group.create_task(execute(harness))
        while looks < 3:
            await asyncio.sleep(0.01)
        assert await waiting(harness.deliveries, destination) == before
        await finish(harness, destination, lambda _: "")
    found_again = await waiting(harness.deliveries, destination)
    assert sorted(before + found_again) == sorted(
        (pipeline, f"m{number}") for pipeline in ids(destination) for number in range(13)
    )


class Faulty:
    """A store whose calls fail, before or after they have had their effect."""

    def __init__(self, real: Any, random: Random, error: type[BaseException], chance: float) -> None:
        self.failed = False
        self._real = real
        self._random = random
        self._error = error
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        async def call(*arguments: Any, **keywords: Any) -> Any:
            fails = self._random.random() < self._chance
            is_before = self._random.random() < 0.5
            if fails and is_before:
                self._fail()
            result = await method(*arguments, **keywords)
            if fails:
                self._fail()
            return result

        return call

    def _fail(self) -> None:
        self.failed = True
        raise self._error("planned")


class Killed(BaseException):
    """The process ends here."""


async def execute_until_killed(harness: Harness, random: Random, error: type[BaseException], chance: float) -> None:
    """Execute operations in a process that ends with the first failure, if that kills it."""
    faulty = [Faulty(store, random, error, chance) for store in (harness.deliveries, harness.operations)]
    stores: list[Any] = [*faulty]
    try:
        await execute(
            harness,
            deliveries=stores[0],
            operations=stores[1],
            until=lambda: error is Killed and any(store.failed for store in faulty),
            # An outage may hide that an operation was claimed: it goes on after the end of its lease.
            tick_seconds=0.0 if error is Killed else 0.05,
        )
    except BaseExceptionGroup as group:
        assert group.subgroup(Killed) is not None


async def until_ended(harness: Harness, random: Random, error: type[BaseException], chance: float) -> int:
    """Execute operations with stores that fail; return the number of processes that were killed."""
    killed = 0
    while True:
        await execute_until_killed(harness, random, error, chance)
        if all(each.ended_at is not None for each in await harness.operations.page(limit=100)):
            return killed
        killed += 1
        await age_leases(operations_url(harness), operations_table, "operations", LEASE_SECONDS + 1)


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("error", [Killed, Unavailable])
async def test_a_crash_at_any_step_loses_and_doubles_nothing(
    harness: Harness, seed: int, error: type[BaseException]
) -> None:
    random = Random(seed)
    source, destination = await make_dead(harness)
    harness.clock.advance(1)
    other = await add_destination(harness, source)
    await resend(harness)
    await replay(harness, other)
    await until_ended(harness, random, error, 0.1)
    assert Counter(await waiting(harness.deliveries, destination)) == Counter(
        (pipeline, f"m{number}") for pipeline in ids(destination) for number in range(10)
    )
    assert await dead(harness.deliveries, harness.workspace) == []
    assert await waiting(harness.deliveries, other) == [(ids(other)[0], f"m{number}") for number in range(10)]
    for operation in await harness.operations.page(limit=10):
        assert (operation.status, operation.error) == ("Completed", "")


@pytest.fixture
def tiny_queue(harness: Harness, tmp_path: Path) -> Any:
    """Return a function that opens the delivery queue with a maximum size that nothing fits in."""
    return lambda: open_delivery_store(harness.database_url or sqlite_url(tmp_path / "delivery.db"), max_bytes=1)


async def dropped(harness: Harness, tiny_queue: Any, *, events: bool | None = True, seconds: float = 1) -> Connection:
    """Return a destination whose deliveries were dropped for space. One was appended every `seconds`."""
    source = await add_source(harness.catalog, harness.workspace, users=(), events=events)
    destination = await add_destination(harness, source, pipelines=2)
    for number in range(10):
        await send(harness, reread(harness, source), [track(number)])
        harness.clock.advance(seconds)
    async with tiny_queue() as store:
        await store.make_space(now=now(harness))
    harness.clock.advance(1)
    return destination


async def no_space(store: DeliveryStore, workspace: int) -> int:
    return sum(each.count for each in await store.dead_counts(workspace) if each.reason == "NoSpace")


@pytest.mark.parametrize(
    ("seed", "chance", "seconds"), [(0, 0.0, 1), (1, 0.1, 1), (2, 0.1, 1), (3, 0.1, 1), (4, 0.0, 900)]
)
async def test_what_was_dropped_for_space_is_read_from_the_warehouse(
    harness: Harness, tiny_queue: Any, seed: int, chance: float, seconds: float
) -> None:
    destination = await dropped(harness, tiny_queue, seconds=seconds)
    dead = await no_space(harness.deliveries, harness.workspace)
    left = len(await waiting(harness.deliveries, destination))
    assert dead >= 10 and dead + left == 20
    operation = await resend(harness, reason="NoSpace")
    assert operation.total == dead
    await until_ended(harness, Random(seed), Killed, chance)
    found = await waiting(harness.deliveries, destination)
    assert sorted(found) == sorted((pipeline, f"m{number}") for pipeline in ids(destination) for number in range(10))
    assert await no_space(harness.deliveries, harness.workspace) == 0
    operation = await ended(harness, operation)
    assert (operation.status, operation.done, operation.enqueued) == ("Completed", dead, dead)


async def test_what_is_not_stored_stays_counted(harness: Harness, tiny_queue: Any) -> None:
    await dropped(harness, tiny_queue, events=None)
    dead = await no_space(harness.deliveries, harness.workspace)
    operation = await resend(harness)
    await execute(harness)
    assert (await ended(harness, operation)).enqueued == 0
    assert await no_space(harness.deliveries, harness.workspace) == dead > 0


async def test_what_was_dropped_is_sent_again_as_a_whole(harness: Harness, tiny_queue: Any) -> None:
    destination = await dropped(harness, tiny_queue)
    first, second = ids(destination)
    assert (await resend(harness, pipeline=first, reason="NoSpace")).total == 0
    await set_pipeline_status(harness.catalog, harness.workspace, second, enabled=False)
    assert (await resend(harness, reason="NoSpace")).total == 0
    await delete_pipeline(harness.catalog, harness.workspace, second)
    assert (await resend(harness, pipeline=first, reason="NoSpace")).total
    await execute(harness)
    assert await no_space(harness.deliveries, harness.workspace) == 0


async def test_a_cancel_ends_an_operation_between_two_steps(harness: Harness) -> None:
    _, destination = await make_dead(harness)
    harness.clock.advance(1)
    operation = await resend(harness)

    class Cancelling(Faulty):
        """Requests the cancel during the second step."""

        steps = 0

        async def resend(self, *arguments: Any, **keywords: Any) -> Any:
            self.steps += 1
            if self.steps == 2:
                await harness.operations.cancel(operation.id)
            return await harness.deliveries.resend(*arguments, **keywords)

    store: Any = Cancelling(harness.deliveries, Random(0), Unavailable, 0.0)
    await execute(harness, deliveries=store)
    operation = await ended(harness, operation)
    assert (operation.status, operation.done) == ("Cancelled", 4)
    found = await waiting(harness.deliveries, destination)
    assert len(found) == 4
    assert sorted([*found, *await dead(harness.deliveries, harness.workspace)]) == sorted(
        (pipeline, f"m{number}") for pipeline in ids(destination) for number in range(10)
    )


async def test_a_cancel_holds_after_a_crash(harness: Harness) -> None:
    _, destination = await make_dead(harness, count=2)
    harness.clock.advance(1)
    operation = await resend(harness)
    assert await harness.operations.claim("a process that is killed", kinds=DELIVERY_KINDS) is not None
    await harness.operations.cancel(operation.id)
    await age_leases(operations_url(harness), operations_table, "operations", LEASE_SECONDS + 1)
    await execute(harness)
    assert (await ended(harness, operation)).status == "Cancelled"
    assert await waiting(harness.deliveries, destination) == []


async def test_a_stopped_runner_lets_the_next_one_continue_immediately(harness: Harness) -> None:
    _, destination = await make_dead(harness)
    harness.clock.advance(1)
    operation = await resend(harness)
    began = False

    class Observed(Faulty):
        async def resend(self, *arguments: Any, **keywords: Any) -> Any:
            nonlocal began
            began = True
            return await harness.deliveries.resend(*arguments, **keywords)

    store: Any = Observed(harness.deliveries, Random(0), Unavailable, 0.0)
    await execute(harness, deliveries=store, until=lambda: began)
    found = await harness.operations.find(operation.id)
    assert found is not None and found.ended_at is None and found.done > 0
    await execute(harness)  # the clock stands still, so the lease would not have ended
    assert (await ended(harness, operation)).done == 20
    assert len(await waiting(harness.deliveries, destination)) == 20


async def test_a_bug_fails_its_operation_and_no_other(harness: Harness) -> None:
    _, destination = await make_dead(harness)
    other = await add_workspace(harness.catalog, "Other")
    harness.clock.advance(1)
    broken = await replay(harness, destination)
    good = await harness.operations.create(other.id, ResendParameters(), 0)

    class Broken(Faulty):
        async def append_again(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("secret")

    store: Any = Broken(harness.deliveries, Random(0), Unavailable, 0.0)
    await execute(harness, deliveries=store)
    failed = await ended(harness, broken)
    assert (failed.status, failed.error) == ("Failed", "internal error (RuntimeError)")
    assert (await ended(harness, good)).status in ("Completed", "Failed")
