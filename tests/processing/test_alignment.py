"""Pipelines that no longer fit the profile schema fail their records with the reason, until they are edited."""

from typing import Any

import msgspec
import pytest

from headwater.base.clock import microseconds
from headwater.catalog import Connection, ProfileSchema
from headwater.management.pipelines import UpdatePipeline, update_pipeline
from headwater.management.workspaces import find_workspace
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.processing.processor import BatchProcessor
from headwater.schemas import IntType, ObjectType, Property, Schema, StringType
from tests.harness import Harness
from tests.processing.test_lanes import COPY, MAPPING, add_pipeline, identify, identities, new_source, send, steps

REASON = "outSchema differs from the profile schema: property email no longer exists"


def profile(**types: Any) -> Schema:
    return ObjectType(tuple(Property(name, type_, read_optional=True) for name, type_ in types.items()))


EMAIL = StringType(max_length=40)
ALIGNED = profile(email=EMAIL, age=IntType(32))


async def set_schema(harness: Harness, schema: Schema | None) -> None:
    """Store a profile schema, with a version that none had before."""
    async with harness.catalog.change() as change:
        old = find_workspace(harness.catalog, harness.workspace)
        profiles = None if schema is None else ProfileSchema(schema=schema, version=change.delta.version)
        change.update_workspace(msgspec.structs.replace(old, profile_schema=profiles))


async def process(harness: Harness, processor: BatchProcessor, source: Connection, *events: dict[str, Any]) -> None:
    """Send events and process them with one processor, which keeps its compiled pipelines."""
    await harness.send(source, msgspec.json.encode({"batch": events}))
    after = await harness.state.position(CONSUMER)
    await processor.handle(read_batch(await harness.log_entries(after)), after=after)
    await harness.drain_lanes()


@pytest.mark.parametrize("transformation", [MAPPING, COPY], ids=["mapping", "function"])
async def test_records_fail_while_the_pipeline_does_not_fit(harness: Harness, transformation: Any) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, transformation)
    processor = harness.processor
    for name, schema in (
        ("none", None),
        ("aligned", ALIGNED),
        ("renamed", profile(mail=EMAIL)),
        ("aligned again", ALIGNED),
        ("another type", profile(email=StringType())),
    ):
        await set_schema(harness, schema)
        await process(harness, processor, source, identify(name, "a@x.org"))
    assert [row[0] for row in await identities(harness, pipeline)] == ["aligned", "aligned again", "none"]
    [failed] = await steps(harness, source, "renamed")
    assert (failed.step, failed.outcome, failed.message) == ("Transformation", "Failed", REASON)
    [failed] = await steps(harness, source, "another type")
    assert "maxLength was 40 and is now not set" in failed.message
    now = microseconds(harness.clock.now())
    errors = await harness.state.pipeline_errors([pipeline], start=0, end=now + 86_400_000_000, step=None, limit=10)
    assert REASON in [error.message for error in errors]


async def test_editing_the_pipeline_ends_it(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, MAPPING)
    processor = harness.processor
    await set_schema(harness, profile(mail=EMAIL))
    await process(harness, processor, source, identify("a", "a@x.org"))
    old = harness.catalog.pipeline(harness.workspace, pipeline)
    assert old is not None and old.definition.transformation is not None
    transformation = msgspec.structs.replace(old.definition.transformation, mapping={"mail": "traits.email"})
    request = UpdatePipeline(
        name="People",
        enabled=True,
        out_schema=profile(mail=EMAIL),
        definition=msgspec.structs.replace(old.definition, transformation=transformation, out_schema=None),
    )
    await update_pipeline(harness.catalog, harness.workspace, pipeline, request)
    await process(harness, processor, source, identify("b", "b@x.org"))
    assert [(row[0], row[4]) for row in await identities(harness, pipeline)] == [("b", '{"mail":"b@x.org"}')]


async def test_records_that_wait_in_a_lane_fail_too(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, COPY)
    await send(harness, source, identify("a", "a@x.org"))
    assert [step.outcome for step in await steps(harness, source, "a")] == ["Pending"]
    await set_schema(harness, profile(mail=EMAIL))
    await harness.drain_lanes()
    [failed] = await steps(harness, source, "a")
    assert (failed.outcome, failed.message) == ("Failed", REASON)
    assert await identities(harness, pipeline) == []


async def test_a_pipeline_without_attributes_always_fits(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, None)
    await set_schema(harness, profile(mail=EMAIL))
    await send(harness, source, identify("a", "a@x.org"))
    assert [row[4] for row in await identities(harness, pipeline)] == ["{}"]
