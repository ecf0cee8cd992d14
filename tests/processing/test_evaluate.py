"""Which pipelines events go through, and what each makes of them."""

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
from tests.parts import OpenParts, add_source, open_parts

EMAIL = parse_schema(
    '{"kind":"object","properties":[{"name":"email","type":{"kind":"string","maxLength":20},"readOptional":true}]}'
)
GONE = {"property": "gone", "operator": "is", "values": ["x"]}
TRACK = Filter("and", (Condition("type", "is", ("track",)),))


async def attributes(parts: OpenParts, events: list[dict[str, Any]], **definition: Any) -> list[str]:
    """What a User pipeline with this definition knows of the people in the events."""
    source = await add_source(parts.catalog, parts.workspace, events=None, users=())
    request = CreatePipeline(
        connection=source.id, target="User", name="People", enabled=True, out_schema=EMAIL, **definition
    )
    await create_pipeline(parts.catalog, parts.workspace, request)
    found = parts.catalog.connection(parts.workspace, source.id)
    assert found is not None
    await parts.send(found, json.dumps({"batch": events}).encode())
    await parts.carry()
    await parts.drain_lanes()
    async with parts.warehouse.transaction() as transaction:
        rows = await transaction._connection.exec_driver_sql("SELECT attributes FROM identities ORDER BY identity_id")
        return [row[0] for row in rows]


def identify(user: str, email: object) -> dict[str, Any]:
    return {"type": "identify", "userId": user, "traits": {"email": email}, "messageId": "m" if user == "a" else user}


async def test_a_record_that_cannot_be_mapped_does_not_hinder_the_others(tmp_path: Path) -> None:
    mapping = TransformationDefinition(mapping={"email": "traits.email"})
    events = [identify("a", "a@x"), identify("b", "much-longer-than-twenty@x"), identify("c", "c@x")]
    async with open_parts(tmp_path) as parts:
        found = await attributes(parts, events, definition=Definition(transformation=mapping))
    assert found == ['{"email":"a@x"}', '{"email":"c@x"}']


async def test_a_record_on_which_a_function_fails_does_not_hinder_the_others(tmp_path: Path) -> None:
    function = FunctionDefinition(
        language="JavaScript",
        source="function transform(e) { return {email: e.traits.email.trim()}; }",
        in_paths=("traits",),
        out_paths=("email",),
    )
    events = [identify("a", " a@x "), identify("b", 5), identify("c", "c@x")]
    async with open_parts(tmp_path) as parts:
        transformation = TransformationDefinition(function=function)
        found = await attributes(parts, events, definition=Definition(transformation=transformation))
    assert found == ['{"email":"a@x"}', '{"email":"c@x"}']


async def test_a_pipeline_whose_filter_no_longer_fits_stops_only_itself(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as parts:
        source = await add_source(parts.catalog, parts.workspace)
        pipeline = await create_pipeline(
            parts.catalog,
            parts.workspace,
            CreatePipeline(connection=source.id, target="User", name="Broken", enabled=True, filter=TRACK),
        )
        broken = msgspec.structs.replace(
            pipeline,
            definition=Definition(filter='{"logical":"and","conditions":[{"property":"gone","operator":"is"}]}'),
        )
        async with parts.catalog.change() as change:
            change.update_pipeline(broken)
        found = parts.catalog.connection(parts.workspace, source.id)
        assert found is not None
        await parts.send(found, json.dumps({"batch": [{"type": "track", "event": "E", "userId": "u"}]}).encode())
        await parts.carry()
        assert len(await parts.documents()) == 1


async def test_a_changed_filter_holds_from_the_next_batch(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as parts:
        source = await add_source(parts.catalog, parts.workspace)
        [storing] = [pipeline for pipeline in source.pipelines if pipeline.target == "Event"]
        processor = parts.processor
        for number, filter_ in enumerate([None, TRACK, None]):
            await update_pipeline(
                parts.catalog, parts.workspace, storing.id, UpdatePipeline(name="E", enabled=True, filter=filter_)
            )
            page = {"type": "page", "userId": "u", "messageId": str(number)}
            await parts.send(source, json.dumps({"batch": [page]}).encode())
            after = await parts.warehouse.finished(CONSUMER)
            await processor.process(read_batch(await parts.frames(after)), after=after)
        assert [json.loads(document)["messageId"] for document in await parts.documents()] == ["0", "2"]
