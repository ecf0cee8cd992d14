"""Batches update profiles, and the companion executes operations, on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from headwater.base.metrics import Metrics
from headwater.catalog import Connection
from headwater.catalog.profiles import Identifier, ResolutionSettings
from headwater.profiles import full, operations, settingschanges, unresolved, updating
from headwater.profiles.incremental import resolve_changes
from headwater.profiles.operations import ProfileCompanion
from headwater.state import IdentityObservation
from headwater.state.operations import (
    NO_SEPARATION,
    IdentityResolutionParameters,
    Operation,
    OperationParameters,
    ProfileSchemaUpdateParameters,
    RemoveSeparationParameters,
    SplitIdentity,
    SplitParameters,
    SplitResult,
)
from headwater.state.profiles.model import ChangedIdentity
from headwater.state.profiles.resolving import ResolutionRows
from tests.harness import Harness, add_source, add_workspace, open_harness
from tests.profiles.history import SCHEMA

EMAIL = ResolutionSettings(identifiers=(Identifier(path="email"),))


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


async def change_settings(harness: Harness, settings: ResolutionSettings, workspace: int | None = None) -> None:
    present = harness.catalog.workspace(harness.workspace if workspace is None else workspace)
    assert present is not None
    async with harness.catalog.change() as change:
        change.update_workspace(msgspec.structs.replace(present, resolution=settings, profile_schema=SCHEMA))


async def observe(harness: Harness, source: Connection, people: dict[str, str]) -> None:
    """Write identities with these email addresses by user id, as a batch does."""
    [pipeline] = [each.id for each in source.pipelines if each.target == "User"]
    observations = [
        IdentityObservation(
            source.workspace,
            source.id,
            (pipeline,),
            user,
            None,
            1,
            (json.dumps({"email": email}),),
            reaches=(pipeline,),
        )
        for user, email in people.items()
    ]
    async with harness.state.transaction() as transaction:
        changes = await transaction.merge_identities(observations)
        await transaction.change_identities(changes, harness.resolver)


async def profiles(harness: Harness, source: Connection) -> dict[frozenset[str], str]:
    """Return the kpid of each profile by its user ids."""

    def read(rows: ResolutionRows) -> dict[frozenset[str], str]:
        scanned = rows.scan(source.workspace, after=0, limit=1_000)
        found: dict[int, set[str]] = {}
        for _, _, identity_id, _, _, profile, _ in scanned:
            if profile is not None:
                found.setdefault(profile, set()).add(identity_id)
        kpids = {row.id: str(UUID(bytes=row.kpid)) for row in rows.profiles(found)}
        return {frozenset(users): kpids[id_] for id_, users in found.items()}

    return await harness.state.read_profiles(read)


async def read_unresolved(harness: Harness, workspace: int) -> list[int]:
    return await harness.state.read_profiles(lambda rows: rows.unresolved(workspace, 100))


async def execute(harness: Harness, parameters: OperationParameters | None) -> Operation:
    """Run the companion until an operation, the latest without parameters, has ended."""
    created = None if parameters is None else await harness.operations.create(harness.workspace, parameters, None)
    stop, companion = asyncio.Event(), harness.companion
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(companion.run(stop))
        while True:
            for found in await harness.operations.page(limit=10):
                if (created is None or found.id == created.id) and found.ended_at is not None:
                    stop.set()
                    return found
            await asyncio.sleep(0.01)


def users(*names: str) -> frozenset[str]:
    return frozenset(names)


async def test_events_become_profiles(harness: Harness, source: Connection) -> None:
    events = [{"type": "identify", "userId": f"u{n % 2}", "anonymousId": f"a{n}"} for n in range(4)]
    await harness.send(source, json.dumps({"batch": [*events, {"type": "page", "anonymousId": "a9"}]}).encode())
    await harness.process_log()
    assert (await profiles(harness, source)).keys() == {users("u0"), users("u1"), users("a9")}
    await harness.send(source, b'{"batch":[{"type":"identify","userId":"u2","anonymousId":"a9"}]}')
    await harness.process_log()
    assert (await profiles(harness, source)).keys() == {users("u0"), users("u1"), users("u2")}


async def test_the_profile_of_a_visitor_answers_after_a_login(harness: Harness, source: Connection) -> None:
    async def send(type: str, anonymous_id: str, **members: str) -> None:
        event = {"type": type, "anonymousId": anonymous_id, **members}
        await harness.send(source, json.dumps({"batch": [event]}).encode())
        await harness.process_log()

    async def answer(kpid: str) -> str | None:
        found = await harness.state.read_profiles(lambda rows: rows.find(harness.workspace, UUID(kpid).bytes))
        return None if found is None else str(UUID(bytes=found.kpid))

    await send("page", "phone")
    visitor = (await profiles(harness, source))[users("phone")]
    await send("identify", "phone", userId="u1")
    assert await profiles(harness, source) == {users("u1"): visitor}
    await send("page", "laptop")
    second = (await profiles(harness, source))[users("laptop")]
    await send("identify", "laptop", userId="u1")
    assert await profiles(harness, source) == {users("u1"): visitor}
    assert await answer(second) == visitor
    await send("page", "phone")
    third = (await profiles(harness, source))[users("phone")]
    await send("identify", "phone", userId="u2")
    assert await profiles(harness, source) == {users("u1"): visitor, users("u2"): third}
    await send("alias", "", userId="u3", previousId="u2")
    assert await profiles(harness, source) == {users("u1"): visitor, users("u3"): third}
    assert await answer(second) == visitor


async def test_claims_that_wait_for_a_resolution_keep_their_successors(harness: Harness, source: Connection) -> None:
    await harness.send(source, b'{"batch":[{"type":"page","anonymousId":"a"}]}')
    await harness.process_log()
    [visitor] = (await profiles(harness, source)).values()
    harness.resolver.paused.add(harness.workspace)
    for event in (
        b'{"type":"identify","anonymousId":"a","userId":"u"}',
        b'{"type":"alias","previousId":"u","userId":"v"}',
    ):
        await harness.send(source, b'{"batch":[' + event + b"]}")
        await harness.process_log()
    harness.resolver.paused.clear()
    await harness.companion.drain()
    assert await profiles(harness, source) == {users("v"): visitor}
    assert await read_unresolved(harness, harness.workspace) == []


async def test_an_error_of_one_workspace_has_no_effect_on_others(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await add_source(harness.catalog, (await add_workspace(harness.catalog, "Other")).id)
    original = resolve_changes

    def fail(rows: Any, context: Any, changed: Sequence[ChangedIdentity], *args: Any, **named: Any) -> list[int]:
        original(rows, context, changed, *args, **named)  # its changes are undone
        if context.workspace == harness.workspace:
            raise ZeroDivisionError
        return []

    monkeypatch.setattr(updating, "resolve_changes", fail)
    for each in (source, other):
        await harness.send(each, b'{"batch":[{"type":"identify","userId":"u1"},{"type":"identify","userId":"u2"}]}')
    await harness.process_log()
    assert len(await harness.documents()) == 2
    assert (await profiles(harness, other)).keys() == {users("u1"), users("u2")}
    assert await profiles(harness, source) == {}
    assert len(await read_unresolved(harness, harness.workspace)) == 2
    monkeypatch.undo()
    async with harness.state.transaction() as transaction:  # the first change was undone with the settings' digest
        context = harness.resolver.context(harness.workspace)
        assert context is not None
        digest = context.digest
        await transaction.on_profiles(lambda rows: rows.set_resolution(harness.workspace, digest, None))
    await harness.companion.drain()
    assert (await profiles(harness, source)).keys() == {users("u1"), users("u2")}
    assert await read_unresolved(harness, harness.workspace) == []


async def test_an_identity_that_cannot_be_resolved_does_not_hold_up_others(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await change_settings(harness, EMAIL)
    harness.resolver.paused.add(harness.workspace)
    await observe(harness, source, {f"u{n}": f"e{n % 3}" for n in range(6)})
    harness.resolver.paused.clear()
    original = resolve_changes

    def fail(rows: Any, context: Any, changed: Sequence[ChangedIdentity], *args: Any, **named: Any) -> list[int]:
        if any(each.name.identity_id == "u1" for each in changed):
            raise ZeroDivisionError
        return original(rows, context, changed, *args, **named)

    monkeypatch.setattr(unresolved, "resolve_changes", fail)
    await harness.companion.resolve_all(harness.workspace)
    assert (await profiles(harness, source)).keys() == {users("u0", "u3"), users("u1", "u4"), users("u2", "u5")}
    [left] = await read_unresolved(harness, harness.workspace)
    monkeypatch.undo()
    await harness.companion.drain()
    assert left and await read_unresolved(harness, harness.workspace) == []


class Resolved(Metrics):
    """Notes the numbers of resolved and postponed identities."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, int]] = []

    def identities_resolved(self, identities: int, *, postponed: int) -> None:
        self.counted.append((identities, postponed))


async def test_large_profiles_wait_for_the_companion(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Resolved()
    monkeypatch.setattr(updating, "MAX_BATCH_REGION", 3)
    monkeypatch.setattr(harness.resolver, "_metrics", metrics)
    await change_settings(harness, EMAIL)
    await observe(harness, source, {f"u{n}": "e" for n in range(3)})
    await observe(harness, source, {f"u{n}": "e" for n in range(3, 8)})
    await observe(harness, source, {"u9": "e", "other": "x"})
    assert users("other") in await profiles(harness, source)
    assert await read_unresolved(harness, harness.workspace)
    harness.resolver.paused.add(harness.workspace)
    await observe(harness, source, {"last": "y"})
    harness.resolver.paused.clear()
    await harness.companion.drain()
    together = users(*(f"u{n}" for n in (*range(8), 9)))
    assert (await profiles(harness, source)).keys() == {together, users("other"), users("last")}
    assert metrics.counted == [(3, 0), (5, 0), (1, 1), (0, 1), (2, 0)]


async def test_changed_settings_are_applied_without_a_request(harness: Harness, source: Connection) -> None:
    await observe(harness, source, {"u1": "e", "u2": "e", "u3": "f"})
    before = await profiles(harness, source)
    assert len(before) == 3
    await change_settings(harness, EMAIL)
    await observe(harness, source, {"u4": "f"})
    assert users("u4") not in await profiles(harness, source)
    ended = await execute(harness, None)
    assert (ended.kind, ended.status, ended.done, ended.total) == ("IdentityResolution", "Completed", 4, 4)
    after = await profiles(harness, source)
    assert after == {users("u1", "u2"): before[users("u1")], users("u3", "u4"): before[users("u3")]}
    assert await harness.operations.page(limit=10) == [ended]


async def test_identities_of_an_earlier_release_are_resolved(harness: Harness, source: Connection) -> None:
    harness.resolver.paused.add(harness.workspace)
    await observe(harness, source, {"u1": "e", "u2": "f"})
    harness.resolver.paused.clear()
    async with harness.state.transaction() as transaction:
        await transaction.on_profiles(lambda rows: rows.remove_unresolved(rows.unresolved(harness.workspace, 10)))
    assert (await execute(harness, None)).status == "Completed"
    assert (await profiles(harness, source)).keys() == {users("u1"), users("u2")}


async def test_a_workspace_without_identities_needs_no_resolution(harness: Harness, source: Connection) -> None:
    companion = harness.companion
    for _ in range(3):
        await companion.start_due()
    assert await harness.operations.page(limit=1) == []
    assert (await execute(harness, ProfileSchemaUpdateParameters(version=1))).status == "Completed"


async def split(harness: Harness, source: Connection, kpid: str, *leaving: str) -> Operation:
    identities = tuple(SplitIdentity(connection=source.id, identity_id=user) for user in leaving)
    return await execute(harness, SplitParameters(profile=kpid, identities=identities))


async def test_a_split_lasts_until_its_separation_is_removed(harness: Harness, source: Connection) -> None:
    await change_settings(harness, EMAIL)
    await observe(harness, source, {"u1": "e", "u2": "e", "u3": "e"})
    [kpid] = (await profiles(harness, source)).values()
    done = await split(harness, source, kpid, "u3")
    assert done.status == "Completed", done.error
    result = msgspec.json.decode(done.result, type=SplitResult)
    found = await profiles(harness, source)
    assert found.keys() == {users("u1", "u2"), users("u3")}
    assert result.kpids == (found[users("u1", "u2")], found[users("u3")]) and result.kpids[0] == kpid
    await harness.companion.resolve_all(harness.workspace)
    await observe(harness, source, {"u4": "e"})
    assert users("u3") in await profiles(harness, source)
    removed = await execute(harness, RemoveSeparationParameters(separation=result.separation))
    assert (removed.status, removed.result) == ("Completed", "")
    found = await profiles(harness, source)
    assert found == {users("u1", "u2", "u3", "u4"): kpid}
    again = await execute(harness, RemoveSeparationParameters(separation=result.separation))
    assert (again.status, again.result) == ("Completed", NO_SEPARATION)


async def test_a_removal_of_a_separation_that_is_repeated_after_a_kill_has_its_result(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await change_settings(harness, EMAIL)
    await observe(harness, source, {"u1": "e", "u2": "e"})
    [kpid] = (await profiles(harness, source)).values()
    done = await split(harness, source, kpid, "u2")
    separation = msgspec.json.decode(done.result, type=SplitResult).separation
    results = []
    resolved = ProfileCompanion._resolved

    async def twice(self: ProfileCompanion, *arguments: Any) -> str:
        results.extend([await resolved(self, *arguments), await resolved(self, *arguments)])
        return results[-1]

    monkeypatch.setattr(ProfileCompanion, "_resolved", twice)
    await execute(harness, RemoveSeparationParameters(separation=separation))
    assert results == ["", ""]


async def test_a_split_applies_changed_settings_first(harness: Harness, source: Connection) -> None:
    await observe(harness, source, {"u1": "e", "u2": "e"})
    kpid = (await profiles(harness, source))[users("u1")]
    await change_settings(harness, EMAIL)
    assert (await split(harness, source, kpid, "u1")).status == "Completed"
    assert (await profiles(harness, source)).keys() == {users("u1"), users("u2")}


@pytest.mark.parametrize(
    ("kpid", "leaving", "message"),
    [
        (str(UUID(int=5)), ("u1",), "does not exist"),
        (None, ("u1", "u9"), "no identity 'u9'"),
        (None, ("u1", "u2"), "no identity"),
    ],
)
async def test_a_split_that_is_not_possible_fails(
    harness: Harness, source: Connection, kpid: str | None, leaving: tuple[str, ...], message: str
) -> None:
    await change_settings(harness, EMAIL)
    await observe(harness, source, {"u1": "e", "u2": "e"})
    [present] = (await profiles(harness, source)).values()
    failed = await split(harness, source, kpid or present, *leaving)
    assert failed.status == "Failed" and message in failed.error
    assert (await profiles(harness, source)) == {users("u1", "u2"): present}


async def test_a_split_is_not_repeated_after_a_crash(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await change_settings(harness, EMAIL)
    await observe(harness, source, {"u1": "e", "u2": "e"})
    [kpid] = (await profiles(harness, source)).values()
    killed = asyncio.Event()
    original = harness.operations.finish

    async def never(*_args: Any, **_named: Any) -> None:
        killed.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(harness.operations, "finish", never)
    parameters = SplitParameters(profile=kpid, identities=(SplitIdentity(connection=source.id, identity_id="u2"),))
    created = await harness.operations.create(harness.workspace, parameters, None)
    companion = asyncio.create_task(harness.companion.run(asyncio.Event()))
    await asyncio.wait_for(killed.wait(), 60)
    companion.cancel()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "_execute" in repr(task):
            task.cancel()
    monkeypatch.setattr(harness.operations, "finish", original)
    harness.clock.advance(60)
    ended = await execute(harness, None)
    assert (ended.id, ended.status) == (created.id, "Completed")
    found = await profiles(harness, source)
    result = msgspec.json.decode(ended.result, type=SplitResult)
    assert result.kpids == (found[users("u1")], found[users("u2")])
    separations = await harness.state.read_profiles(lambda rows: rows.all_separations(harness.workspace))
    assert [each.id for each in separations] == [result.separation]


async def test_a_resolution_is_cancelled_and_not_started_again(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "SLICE_IDENTITIES", 1)
    monkeypatch.setattr(full, "SLICE_NEW_IDENTITIES", 1)
    await observe(harness, source, {f"u{n}": "e" for n in range(10)})
    await change_settings(harness, EMAIL)
    created = await harness.operations.create(harness.workspace, IdentityResolutionParameters(), None)
    original: Callable[..., Any] = harness.operations.advance

    async def advance(id_: int, owner: str, *, done: int, enqueued: int, total: int | None) -> bool:
        if done > 5:
            await harness.operations.cancel(created.id)
        cancelled: bool = await original(id_, owner, done=done, enqueued=enqueued, total=total)
        return cancelled

    monkeypatch.setattr(harness.operations, "advance", advance)
    companion: ProfileCompanion = harness.companion
    await companion.start_due()
    stop = asyncio.Event()
    task = asyncio.create_task(companion.run(stop))
    while (found := await harness.operations.find(created.id)) is None or found.ended_at is None:
        await asyncio.sleep(0.01)
    assert found.status == "Cancelled"
    for _ in range(3):
        await companion.start_due()
    stop.set()
    await task
    assert len(await harness.operations.page(limit=10)) == 1
    await harness.companion.resolve_all(harness.workspace)
    assert len(await profiles(harness, source)) == 1
