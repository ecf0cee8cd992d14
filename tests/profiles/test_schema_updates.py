"""A change of the profile schema, from the request to the profiles."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from headwater.base.errors import Unprocessable
from headwater.catalog import Connection, Definition, Identifier, ResolutionSettings, TransformationDefinition
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.management.profiles import (
    SchemaRequest,
    SettingsRequest,
    latest_update,
    update_profile_schema,
    update_settings,
)
from headwater.management.workspaces import find_workspace
from headwater.schemas import Schema
from headwater.state.operations import Operation, OperationKind, ProfileSchemaUpdateParameters
from tests.harness import Harness, add_source, open_harness
from tests.management.profiles.schemas import profile


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@asynccontextmanager
async def worker(harness: Harness) -> AsyncIterator[None]:
    """Run the companion of the worker during the block."""
    stop = asyncio.Event()
    task = asyncio.create_task(harness.companion.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def latest(harness: Harness, kind: OperationKind = "ProfileSchemaUpdate") -> Operation:
    found = await harness.operations.latest(harness.workspace, kind)
    assert found is not None
    return found


async def ended(harness: Harness, kind: OperationKind = "ProfileSchemaUpdate") -> Operation:
    """Wait for the end of the latest operation, and return it."""
    async with asyncio.timeout(30):
        while (found := await latest(harness, kind)).ended_at is None:
            await asyncio.sleep(0.02)
    return found


async def update(harness: Harness, schema: Schema, **members: object) -> None:
    harness.clock.advance(1)  # the latest operation is the one with the latest time
    request = msgspec.structs.replace(SchemaRequest(schema=schema), **members)
    await update_profile_schema(harness.catalog, harness.state, harness.operations, harness.workspace, request)


async def attributes(harness: Harness) -> list[object]:
    """Return the attributes of all profiles, the oldest first."""
    ids = range(1, 100)
    rows = await harness.state.read_profiles(lambda rows: rows.profiles(ids))
    return [json.loads(row.attributes) for row in sorted(rows, key=lambda row: row.id)]


async def add_people(harness: Harness) -> Connection:
    """Add a source that imports users with an email address and an age."""
    source = await add_source(harness.catalog, harness.workspace, users=())
    mapping = {"email": "traits.email", "age": "traits.age"}
    await create_pipeline(
        harness.catalog,
        harness.workspace,
        CreatePipeline(
            connection=source.id,
            target="User",
            name="People",
            enabled=True,
            out_schema=profile(email="string", age="int"),
            definition=Definition(transformation=TransformationDefinition(mapping=mapping)),
        ),
    )
    return source


async def test_profiles_follow_the_schema(harness: Harness) -> None:
    catalog, workspace = harness.catalog, harness.workspace
    async with worker(harness):
        await update(harness, profile(email="string", age="int"))
        assert (await ended(harness)).status == "Completed"
        source = await add_people(harness)
        request = SettingsRequest(identifiers=("email",))
        await update_settings(catalog, harness.operations, workspace, request)
        await ended(harness, "IdentityResolution")

        async def send(user: str, age: int) -> None:
            traits = {"email": "a@x.org", "age": age}
            event = {"type": "identify", "userId": user, "messageId": user, "traits": traits}
            await harness.send(source, json.dumps({"batch": [event]}).encode())
            await harness.process_log()

        await send("a", 30)
        await send("b", 31)
        assert [each["email"] for each in await attributes(harness)] == ["a@x.org"]  # type: ignore[index]
        # A swap of names: the pipeline, the identifier and what is stored change along.
        swapped = profile(age="string", email="int")
        await update(harness, swapped, re_paths={"age": "email", "email": "age"})
        assert (await ended(harness)).status == "Completed"
        [found] = await attributes(harness)
        assert isinstance(found, dict) and found["age"] == "a@x.org" and isinstance(found["email"], int)
        await send("c", 32)
        assert len(await attributes(harness)) == 1
        await update(harness, profile(age="string"), allow_data_loss=True)
        await ended(harness)
        assert await attributes(harness) == [{"age": "a@x.org"}]
        # Deleted values do not come back with a property of the same name.
        await update(harness, profile(age="string", email="int"))
        await ended(harness)
        assert await attributes(harness) == [{"age": "a@x.org"}]


async def test_renames_are_applied_although_their_operation_was_cancelled(harness: Harness) -> None:
    async with worker(harness):
        await update(harness, profile(email="string", age="int"))
        await ended(harness)
        source = await add_people(harness)
        event = {"type": "identify", "userId": "a", "messageId": "a", "traits": {"email": "a@x.org", "age": 30}}
        await harness.send(source, json.dumps({"batch": [event]}).encode())
        await harness.process_log()
        before = await attributes(harness)
    await update(harness, profile(mail="string", age="int"), re_paths={"mail": "email"})
    await harness.operations.cancel((await latest(harness)).id)
    assert (await latest(harness)).status == "Cancelled"
    with pytest.raises(Unprocessable) as refused:
        await update(harness, profile(mail="string", years="int"), re_paths={"years": "age"})
    assert refused.value.code == "OperationAlreadyExecuting"
    async with worker(harness):
        assert (await ended(harness)).status == "Completed"
        await update(harness, profile(mail="string", years="int"), re_paths={"years": "age"})
        await ended(harness)
    [found], [old] = await attributes(harness), before
    assert isinstance(old, dict) and found == {"mail": old["email"], "years": old["age"]}


async def test_an_operation_waits_for_the_change_in_which_it_was_created(harness: Harness) -> None:
    catalog, workspace = harness.catalog, harness.workspace
    async with worker(harness):
        async with catalog.change() as change:
            old = find_workspace(catalog, workspace)
            settings = ResolutionSettings(identifiers=(Identifier(path="email"),))
            change.update_workspace(msgspec.structs.replace(old, resolution=settings))
            await harness.operations.create(workspace, ProfileSchemaUpdateParameters(version=1), None)
            async with asyncio.timeout(30):
                while (await latest(harness)).status != "Running":
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            assert (await latest(harness)).status == "Running"
        assert (await ended(harness)).status == "Completed"
    assert await latest_update(harness.operations, workspace) == await latest(harness)
