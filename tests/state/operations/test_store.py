"""Operations in a real SQLite file, and in PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from headwater.base.errors import Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.state.operations import (
    DELIVERY_KINDS,
    ERASURE_KINDS,
    LEASE_SECONDS,
    MAX_UNFINISHED,
    PROFILE_KINDS,
    RESOLUTION_KINDS,
    ErasureParameters,
    IdentityResolutionParameters,
    Operation,
    OperationCursor,
    OperationLost,
    OperationParameters,
    OperationStore,
    ProfileSchemaUpdateParameters,
    RemoveSeparationParameters,
    ReplayParameters,
    ResendParameters,
    SplitIdentity,
    SplitParameters,
    open_operations,
)
from headwater.state.operations import store as operation_store
from headwater.state.operations.model import decode_parameters, encode_parameters
from headwater.state.operations.tables import operations
from headwater.storage.database import sqlite_url
from tests.harness import MovableClock
from tests.leases import age_leases
from tests.sqlite import migrated_url

ALL = ResendParameters()
REPLAY = ReplayParameters(destination=3, pipeline=4, until=5, filter='{"logical":"and"}')
RESOLUTION = IdentityResolutionParameters()
SCHEMA_UPDATE = ProfileSchemaUpdateParameters(version=3)
SPLIT = SplitParameters(profile="a", identities=(SplitIdentity(connection=1, identity_id="9"),))
ERASURE = ErasureParameters(user_id="9", connection=1, suppress=True)
PROFILES: list[OperationParameters] = [RESOLUTION, SCHEMA_UPDATE, SPLIT, RemoveSeparationParameters(separation=4)]


@pytest.fixture
def url(database_url: str | None, tmp_path: Path) -> str:
    return database_url or migrated_url(tmp_path / "operations.db")


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def store(url: str, clock: MovableClock) -> AsyncIterator[OperationStore]:
    async with open_operations(url, clock=clock, identifiers=Identifiers(Random(7))) as store:
        yield store


async def get(store: OperationStore, operation: Operation) -> Operation:
    found = await store.find(operation.id)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "parameters", [ALL, ResendParameters(destination=1, pipeline=2, reason="R", since=3), REPLAY, *PROFILES, ERASURE]
)
async def test_what_was_created_is_found_in_its_workspace(
    store: OperationStore, parameters: OperationParameters
) -> None:
    created = await store.create(7, parameters, 10)
    assert (created.parameters, created.status, created.total, created.done) == (parameters, "Pending", 10, 0)
    assert await store.find(created.id, 7) == await store.find(created.id) == created
    assert await store.find(created.id, 8) is None
    assert await store.cancel(created.id, 8) is None
    assert await store.page(8, limit=10) == []
    assert await store.find(created.id + 1) is None


_times = st.none() | st.integers(0, 2**60)


@given(
    st.builds(ResendParameters, destination=st.none() | st.integers(), reason=st.none() | st.text(), since=_times)
    | st.builds(ReplayParameters, destination=st.integers(), pipeline=st.integers(), until=st.integers(0, 2**60))
)
@settings(max_examples=50)
def test_parameters_are_stored_unchanged(parameters: OperationParameters) -> None:
    assert decode_parameters(encode_parameters(parameters)) == parameters


async def test_the_tables_are_made_once(empty_database_url: str | None, tmp_path: Path) -> None:
    url = empty_database_url or sqlite_url(tmp_path / "operations.db")
    for count in (1, 2):
        async with open_operations(url, clock=MovableClock(), identifiers=Identifiers()) as store:
            await store.create(7, ALL, None)
            assert len(await store.page(limit=10)) == count


async def test_pages_are_in_the_order_of_time(store: OperationStore, clock: MovableClock) -> None:
    created = []
    for number in range(12):
        created.append(await store.create(7 + number % 2, ALL, None))
        clock.advance(number % 3)
    newest = sorted(created, key=lambda each: (each.created_at, each.id), reverse=True)
    for workspace in (None, 7):
        expected = [each for each in newest if workspace in (None, each.workspace)]
        found: list[Operation] = []
        after = None
        while page := await store.page(workspace, after=after, limit=2):
            found += page
            after = OperationCursor(page[-1].created_at, page[-1].id)
        assert found == expected


async def test_operations_are_claimed_in_their_order_by_one_owner(store: OperationStore, clock: MovableClock) -> None:
    created = []
    for workspace in (7, 7, 8):
        created.append(await store.create(workspace, ALL, None))
        clock.advance(1)
    first = await store.claim("a", kinds=DELIVERY_KINDS)
    assert first is not None
    assert (first.id, first.status, first.started_at) == (created[0].id, "Running", created[2].created_at + 1_000_000)
    third = await store.claim("b", kinds=DELIVERY_KINDS, without=[7])
    assert third is not None and third.id == created[2].id
    second = await store.claim("b", kinds=DELIVERY_KINDS)
    assert second is not None and second.id == created[1].id
    assert await store.claim("c", kinds=DELIVERY_KINDS) is None


async def test_an_operation_whose_owner_stopped_is_continued(
    store: OperationStore, clock: MovableClock, url: str, database_url: str | None
) -> None:
    operation = await store.create(7, ALL, 5)
    first = await store.claim("a", kinds=DELIVERY_KINDS)
    assert first is not None
    await age_leases(url, operations, "operations", LEASE_SECONDS / 2)
    assert await store.advance(operation.id, "a", done=3, enqueued=2, total=6) is False
    await age_leases(url, operations, "operations", LEASE_SECONDS / 2)
    assert await store.claim("b", kinds=DELIVERY_KINDS) is None  # the step has prolonged the lease
    clock.advance(-3600 if database_url else 0)  # a wrong clock of a machine changes nothing
    assert await store.claim("b", kinds=DELIVERY_KINDS) is None
    clock.advance(7200 if database_url else 0)
    assert await store.claim("b", kinds=DELIVERY_KINDS) is None
    await age_leases(url, operations, "operations", LEASE_SECONDS)
    second = await store.claim("b", kinds=DELIVERY_KINDS)
    assert second is not None
    assert (second.done, second.enqueued, second.total, second.started_at) == (3, 2, 6, first.started_at)
    for lost in (
        store.advance(operation.id, "a", done=4, enqueued=4, total=6),
        store.finish(operation.id, "a", "Completed"),
    ):
        with pytest.raises(OperationLost):
            await lost
    await store.release(operation.id, "a")  # without effect
    assert await store.claim("c", kinds=DELIVERY_KINDS) is None
    await store.release(operation.id, "b")
    assert await store.claim("c", kinds=DELIVERY_KINDS) is not None
    await store.finish(operation.id, "c", "Failed", "why")
    ended = await get(store, operation)
    assert (ended.status, ended.error, ended.ended_at is None) == ("Failed", "why", False)
    clock.advance(1_000)
    assert await store.claim("d", kinds=DELIVERY_KINDS) is None


async def test_a_pending_operation_is_cancelled_immediately(store: OperationStore) -> None:
    operation = await store.create(7, ALL, None)
    cancelled = await store.cancel(operation.id, 7)
    assert cancelled is not None
    assert (cancelled.status, cancelled.is_cancelled, cancelled.ended_at) == ("Cancelled", True, operation.created_at)
    assert await store.claim("a", kinds=DELIVERY_KINDS) is None


async def test_a_running_operation_learns_of_its_cancel(store: OperationStore) -> None:
    operation = await store.create(7, ALL, None)
    await store.claim("a", kinds=DELIVERY_KINDS)
    cancelled = await store.cancel(operation.id)
    assert cancelled is not None and (cancelled.status, cancelled.is_cancelled) == ("Running", True)
    assert await store.advance(operation.id, "a", done=1, enqueued=1, total=None) is True
    await store.finish(operation.id, "a", "Cancelled")
    ended = await get(store, operation)
    assert await store.cancel(operation.id) == ended  # one that has ended stays as it is


async def test_a_completed_operation_cannot_be_cancelled(store: OperationStore) -> None:
    operation = await store.create(7, ALL, None)
    await store.claim("a", kinds=DELIVERY_KINDS)
    await store.finish(operation.id, "a", "Completed")
    cancelled = await store.cancel(operation.id)
    assert cancelled is not None and (cancelled.status, cancelled.is_cancelled) == ("Completed", False)


async def test_the_unfinished_operations_of_a_workspace_are_limited(store: OperationStore) -> None:
    created = [await store.create(7, ALL, None) for _ in range(MAX_UNFINISHED)]
    with pytest.raises(Unprocessable) as raised:
        await store.create(7, ALL, None)
    assert raised.value.code == "OperationAlreadyExecuting"
    await store.create(8, ALL, None)
    await store.cancel(created[0].id)
    await store.create(7, ALL, None)
    assert len(await store.page(7, limit=100)) == MAX_UNFINISHED + 1


async def test_identifiers_that_exist_are_not_used_again(url: str, clock: MovableClock) -> None:
    found = []
    for _ in range(2):  # equal sequences of candidates
        async with open_operations(url, clock=clock, identifiers=Identifiers(Random(3))) as store:
            found.append((await store.create(7, ALL, None)).id)
    assert len(set(found)) == 2


async def test_the_latest_operations_of_a_workspace_are_kept(
    store: OperationStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_store, "MAX_KEPT", 3)
    other, running = await store.create(8, ALL, None), await store.create(7, ALL, None)
    await store.cancel(other.id)
    latest = []
    for _ in range(6):
        clock.advance(1)
        latest.append(await store.create(7, ALL, None))
        await store.cancel(latest[-1].id)
    assert {each.id for each in await store.page(limit=10)} == {
        other.id,
        running.id,
        *(each.id for each in latest[-3:]),
    }


async def test_no_statement_of_a_process_or_a_page_reads_all_operations(tmp_path: Path, clock: MovableClock) -> None:
    path = tmp_path / "operations.db"
    statements: list[tuple[str, Any]] = []
    async with open_operations(migrated_url(path), clock=clock, identifiers=Identifiers()) as store:

        @event.listens_for(Engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            statements.append((statement, parameters))

        try:
            operation = await store.create(7, ALL, None)
            await store.page(7, limit=5, after=OperationCursor(1, 1))
            await store.find(operation.id, 7)
            assert await store.claim("a", kinds=DELIVERY_KINDS, without=[8, 9]) is not None
            await store.advance(operation.id, "a", done=1, enqueued=1, total=None)
            await store.cancel(operation.id, 7)
            await store.finish(operation.id, "a", "Cancelled")
            await store.trim(1)
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    with closing(sqlite3.connect(path)) as connection:
        for statement, parameters in statements:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not [step for step in plan if step.startswith("SCAN operations")], statement
    assert len(statements) > 8


async def test_operations_of_a_workspace_wait_for_the_end_of_its_erasures(store: OperationStore) -> None:
    erasure = await store.create(7, ERASURE, None)
    waiting, other = await store.create(7, ALL, None), await store.create(9, ALL, None)
    claimed = await store.claim("a", kinds=DELIVERY_KINDS, after=ERASURE_KINDS)
    assert claimed is not None and claimed.id == other.id
    assert await store.claim("b", kinds=DELIVERY_KINDS, after=ERASURE_KINDS) is None
    assert [await store.is_executing(each, DELIVERY_KINDS) for each in (7, 9)] == [False, True]
    await store.cancel(erasure.id)
    claimed = await store.claim("b", kinds=DELIVERY_KINDS, after=ERASURE_KINDS)
    assert claimed is not None and claimed.id == waiting.id
    await store.release(waiting.id, "b")
    assert not await store.is_executing(7, DELIVERY_KINDS)


async def test_old_operations_are_deleted(store: OperationStore, clock: MovableClock) -> None:
    old, running, other = [await store.create(workspace, ALL, None) for workspace in (7, 7, 9)]
    await store.cancel(old.id)
    clock.advance(10)
    new = await store.create(7, ALL, None)
    await store.cancel(new.id)
    await store.trim(new.created_at)
    assert {each.id for each in await store.page(limit=10)} == {running.id, other.id, new.id}
    assert await store.workspaces() == {7, 9}
    await store.remove_workspaces([9])
    assert {each.id for each in await store.page(limit=10)} == {running.id, new.id}


async def test_a_process_takes_only_its_kinds(store: OperationStore) -> None:
    for workspace, parameters in enumerate([REPLAY, ALL, *PROFILES, ERASURE], 1):
        await store.create(workspace, parameters, None)
    taken: dict[str, list[str]] = {}
    for owner, kinds in (("courier", DELIVERY_KINDS), ("worker", PROFILE_KINDS), ("worker", ("Erasure",))):
        while (operation := await store.claim(owner, kinds=kinds)) is not None:
            taken.setdefault(owner, []).append(operation.kind)
    assert sorted(taken["courier"]) == ["Replay", "Resend"]
    assert sorted(taken["worker"]) == [
        "Erasure",
        "IdentityResolution",
        "ProfileSchemaUpdate",
        "RemoveSeparation",
        "Split",
    ]


@pytest.mark.parametrize("first", [RESOLUTION, SCHEMA_UPDATE])
@pytest.mark.parametrize("second", PROFILES)
async def test_a_workspace_resolves_once_at_a_time(
    store: OperationStore, first: OperationParameters, second: OperationParameters
) -> None:
    resolving = await store.create(7, first, None)
    await store.create(8, second, None)
    with pytest.raises(Unprocessable) as refused:
        await store.create(7, second, None)
    assert refused.value.code == "OperationAlreadyExecuting"
    assert [each.id for each in await store.page(7, limit=10)] == [resolving.id]
    await store.create(7, ERASURE, None)
    await store.create(7, REPLAY, None)
    await store.cancel(resolving.id)
    assert (await store.create(7, second, None)).status == "Pending"


async def test_splits_do_not_exclude_operations(store: OperationStore) -> None:
    for parameters in [*PROFILES[2:], *PROFILES[2:], ERASURE, RESOLUTION]:
        await store.create(7, parameters, None)
    assert [each.kind for each in await store.unfinished(7, RESOLUTION_KINDS)] == ["IdentityResolution"]
    assert await store.unfinished(8, RESOLUTION_KINDS) == []


async def test_concurrent_requests_start_one_resolution(store: OperationStore) -> None:
    requests = [store.create(7, parameters, None) for parameters in (RESOLUTION, SCHEMA_UPDATE) * 3]
    created = await asyncio.gather(*requests, return_exceptions=True)
    assert sum(isinstance(each, Operation) for each in created) == 1
    assert sum(isinstance(each, Unprocessable) for each in created) == 5


async def test_the_latest_of_a_kind_is_found_with_its_result(store: OperationStore, clock: MovableClock) -> None:
    assert await store.latest(7, "Split") is None
    for _ in range(3):
        latest = await store.create(7, SPLIT, None)
        clock.advance(1)
    await store.create(7, ERASURE, None)
    await store.create(8, SPLIT, None)
    found = await store.latest(7, "Split")
    assert found is not None and found.id == latest.id and found.result == ""
    while (claimed := await store.claim("a", kinds=["Split"], without=[8])) is not None:
        await store.finish(claimed.id, "a", "Completed", result='{"kpids":[]}')
    found = await store.latest(7, "Split")
    assert found is not None and (found.id, found.result) == (latest.id, '{"kpids":[]}')
