"""Profiles follow imports: few changes one by one, many by a resolution of all, and deleted identities at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.catalog import Connection
from headwater.profiles import operations, settingschanges
from headwater.state import imports
from headwater.state.importruns import ImportRun
from headwater.state.imports import Imported, ImportTarget
from headwater.state.operations import IdentityResolutionParameters
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.runs import RunProgress
from tests.harness import Harness, add_source, open_harness
from tests.profiles.test_operations import EMAIL, change_settings, profiles


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@pytest.fixture
async def source(harness: Harness) -> Connection:
    return await add_source(harness.catalog, harness.workspace)


@pytest.fixture(autouse=True)
def no_debounce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settingschanges, "DEBOUNCE_SECONDS", 0.0)
    for name in ("CHECK_SECONDS", "REPORT_SECONDS"):
        monkeypatch.setattr(operations, name, 0.0)
    monkeypatch.setattr(operations, "POLL_SECONDS", 0.01)


class Import:
    """Runs imports of given users, without a source."""

    def __init__(self, harness: Harness, source: Connection) -> None:
        [self.pipeline] = [each.id for each in source.pipelines if each.target == "User"]
        self.harness = harness
        self.source = source
        self.runs = 0

    async def run(self, people: dict[str, str], *, many: bool = False, resolves: bool = True) -> None:
        """Import these people by id with their email addresses, and delete all others."""
        self.runs += 1
        workspace = self.source.workspace
        run = ImportRun(self.harness.state, self.runs, 1, self.pipeline)
        target = ImportTarget(workspace, self.source.id, self.pipeline, self.runs, True, False)
        await run.take(b"")
        users: dict[str, Imported] = {id_: (1, f'{{"email":"{email}"}}') for id_, email in people.items()}
        await run.write(
            target,
            users,
            (),
            now=1,
            is_tracked=not many,
            cursor=None,
            position=b"read",
            count=lambda _: RunProgress(),
        )
        ids, _ = await run.find_unseen(after=0)
        await run.remove(target, ids)
        while not await run.pass_on(target, resolves=resolves and not many):
            pass
        await run.finish_changes(workspace, requests=resolves and many, now=self.runs)


async def settle(harness: Harness) -> None:
    """Run the companion until nothing waits and no operation runs."""
    stop = asyncio.Event()
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(harness.companion.run(stop))
        while not await is_settled(harness):
            await asyncio.sleep(0.02)
        stop.set()


async def is_settled(harness: Harness) -> bool:
    """Look in the order in which work passes on: a request becomes an operation, which can leave identities waiting."""
    requested = await harness.state.requested_resolutions()
    running = [each for each in await harness.operations.page(limit=10) if each.ended_at is None]
    waits = await harness.state.read_profiles(ResolutionRows.unresolved_workspaces)
    return not requested and not running and not waits


@pytest.mark.parametrize("many", [False, True])
async def test_profiles_follow_imports(harness: Harness, source: Connection, many: bool) -> None:
    await change_settings(harness, EMAIL)
    importing = Import(harness, source)
    await importing.run({"1": "a@x", "2": "a@x", "3": "b@x"}, many=many)
    await settle(harness)
    assert set(await profiles(harness, source)) == {frozenset({"1", "2"}), frozenset({"3"})}
    await importing.run({"1": "a@x", "2": "b@x", "4": "c@x"}, many=many)  # 2 has moved, and 3 was deleted
    await settle(harness)
    assert set(await profiles(harness, source)) == {frozenset({"1"}), frozenset({"2"}), frozenset({"4"})}
    count = await harness.state.read_profiles(lambda rows: rows.count_identities(source.workspace))
    assert count == 3


async def test_without_resolution_after_imports_only_deleted_identities_leave(
    harness: Harness, source: Connection
) -> None:
    await change_settings(harness, EMAIL)
    importing = Import(harness, source)
    await importing.run({"1": "a@x", "2": "a@x"})
    await settle(harness)
    await importing.run({"1": "a@x", "3": "a@x"}, resolves=False)
    await settle(harness)
    assert set(await profiles(harness, source)) == {frozenset({"1"})}


async def test_a_request_waits_for_a_resolution_that_began_before(harness: Harness, source: Connection) -> None:
    await change_settings(harness, EMAIL)
    earlier = await harness.operations.create(harness.workspace, IdentityResolutionParameters(), None)
    importing = Import(harness, source)
    await importing.run({"1": "a@x"}, many=True)
    companion = harness.companion
    await companion.start_due()
    assert [each.id for each in await harness.operations.page(limit=10)] == [earlier.id]
    assert list(await harness.state.requested_resolutions()) == [harness.workspace]
    await settle(harness)
    assert len(await harness.operations.page(limit=10)) == 2
    assert set(await profiles(harness, source)) == {frozenset({"1"})}


async def test_a_request_that_is_made_again_stays(harness: Harness) -> None:
    async with harness.state.transaction() as transaction:
        await transaction.run(lambda sql: imports.request_resolution(sql, 7, now=1))
        await transaction.run(lambda sql: imports.request_resolution(sql, 7, now=2))
        await transaction.finish_resolution_request(7, 1)
    assert await harness.state.requested_resolutions() == {7: 2}
    async with harness.state.transaction() as transaction:
        await transaction.finish_resolution_request(7, 2)
    assert not await harness.state.requested_resolutions()
