"""The pipelines of events, and their results."""

import json
from pathlib import Path
from typing import Any

import msgspec

from headwater.catalog import Definition, FunctionDefinition, TransformationDefinition
from headwater.filters import Condition, Filter
from headwater.management.pipelines import CreatePipeline, UpdatePipeline, create_pipeline, update_pipeline
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.schemas import parse_schema
from tests.harness import Harness, add_source, open_harness

EMAIL = parse_schema(
    '{"kind":"object","properties":[{"name":"email","type":{"kind":"string","maxLength":20},"readOptional":true}]}'
)
GONE = {"property": "gone", "operator": "is", "values": ["x"]}
TRACK = Filter("and", (Condition("type", "is", ("track",)),))


async def attributes(harness: Harness, events: list[dict[str, Any]], **definition: Any) -> list[str]:
    """Return the attributes that a User pipeline with this definition derives from the events."""
    source = await add_source(harness.catalog, harness.workspace, events=None, users=())
    request = CreatePipeline(
        connection=source.id, target="User", name="People", enabled=True, out_schema=EMAIL, **definition
    )
    await create_pipeline(harness.catalog, harness.workspace, request)
    found = harness.catalog.connection(harness.workspace, source.id)
    assert found is not None
    await harness.send(found, json.dumps({"batch": events}).encode())
    await harness.process_log()
    await harness.drain_lanes()
    async with harness.state.transaction() as transaction:
        query = "SELECT attributes FROM identities ORDER BY identity_id"
        return await transaction.run(lambda connection: list(connection.exec_driver_sql(query).scalars()))


def identify(user: str, email: object) -> dict[str, Any]:
    return {"type": "identify", "userId": user, "traits": {"email": email}, "messageId": "m" if user == "a" else user}


async def test_a_record_that_cannot_be_mapped_does_not_hinder_the_others(tmp_path: Path) -> None:
    mapping = TransformationDefinition(mapping={"email": "traits.email"})
    events = [identify("a", "a@x"), identify("b", "much-longer-than-twenty@x"), identify("c", "c@x")]
    async with open_harness(tmp_path) as harness:
        found = await attributes(harness, events, definition=Definition(transformation=mapping))
    assert found == ['{"email":"a@x"}', '{"email":"c@x"}']


async def test_a_record_on_which_a_function_fails_does_not_hinder_the_others(tmp_path: Path) -> None:
    function = FunctionDefinition(
        language="JavaScript",
        source="function transform(e) { return {email: e.traits.email.trim()}; }",
        in_paths=("traits",),
        out_paths=("email",),
    )
    events = [identify("a", " a@x "), identify("b", 5), identify("c", "c@x")]
    async with open_harness(tmp_path) as harness:
        transformation = TransformationDefinition(function=function)
        found = await attributes(harness, events, definition=Definition(transformation=transformation))
    assert found == ['{"email":"a@x"}', '{"email":"c@x"}']


async def test_a_pipeline_whose_filter_no_longer_fits_stops_only_itself(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        source = await add_source(harness.catalog, harness.workspace)
        pipeline = await create_pipeline(
            harness.catalog,
            harness.workspace,
            CreatePipeline(connection=source.id, target="User", name="Broken", enabled=True, filter=TRACK),
        )
        broken = msgspec.structs.replace(
            pipeline,
            definition=Definition(filter='{"logical":"and","conditions":[{"property":"gone","operator":"is"}]}'),
        )
        async with harness.catalog.change() as change:
            change.update_pipeline(broken)
        found = harness.catalog.connection(harness.workspace, source.id)
        assert found is not None
        await harness.send(found, json.dumps({"batch": [{"type": "track", "event": "E", "userId": "u"}]}).encode())
        await harness.process_log()
        assert len(await harness.documents()) == 1


async def test_a_changed_filter_holds_from_the_next_batch(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as harness:
        source = await add_source(harness.catalog, harness.workspace)
        [storing] = [pipeline for pipeline in source.pipelines if pipeline.target == "Event"]
        processor = harness.processor
        for number, filter_ in enumerate([None, TRACK, None]):
            await update_pipeline(
                harness.catalog, harness.workspace, storing.id, UpdatePipeline(name="E", enabled=True, filter=filter_)
            )
            page = {"type": "page", "userId": "u", "messageId": str(number)}
            await harness.send(source, json.dumps({"batch": [page]}).encode())
            after = await harness.state.position(CONSUMER)
            await processor.handle(read_batch(await harness.log_entries(after)), after=after)
        assert [json.loads(document)["messageId"] for document in await harness.documents()] == ["0", "2"]
