"""Traits in User pipelines from the client API: the traits of all calls, not only of the last one."""

import json

import pytest

from headwater.catalog import Connection, Definition, TransformationDefinition
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.schemas import parse_schema
from tests.harness import Harness, add_source, client_call

PERSON = parse_schema(
    '{"kind":"object","properties":['
    '{"name":"email","type":{"kind":"string"},"readOptional":true},'
    '{"name":"plan","type":{"kind":"string"},"readOptional":true}]}'
)


@pytest.fixture
async def source(harness: Harness) -> Connection:
    source = await add_source(harness.catalog, harness.workspace, users=())
    mapping = TransformationDefinition(mapping={"email": "traits.email", "plan": "traits.plan"})
    request = CreatePipeline(
        connection=source.id,
        target="User",
        name="People",
        enabled=True,
        out_schema=PERSON,
        definition=Definition(transformation=mapping),
    )
    await create_pipeline(harness.catalog, harness.workspace, request)
    found = harness.catalog.connection(harness.workspace, source.id)
    assert found is not None
    return found


async def attributes(harness: Harness) -> dict[str, object]:
    async with harness.state.transaction() as transaction:
        query = "SELECT identity_id, attributes FROM identities"
        rows = await transaction.run(lambda connection: connection.exec_driver_sql(query).mappings().all())
        return {row["identity_id"]: json.loads(row["attributes"]) for row in rows}


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_not_said_stays_and_null_clears(harness: Harness, source: Connection, together: bool) -> None:
    async def call(name: str, body: object) -> None:
        key = source.event_write_keys[0]
        await harness.intake.accept(client_call(call=name, body=json.dumps(body).encode(), key=key))
        if not together:
            await harness.process_log()

    await call("identify", {"anonymous_id": "A", "email": "a@b.c", "data": {"plan": "free"}})
    await call("alias", {"anonymous_id": "A", "external_id": "E"})
    await call("identify", {"external_id": "E", "data": {"plan": "pro"}})
    await call("events", [{"external_id": "E", "name": "Opened"}])
    await harness.process_log()
    assert await attributes(harness) == {"E": {"email": "a@b.c", "plan": "pro"}}
    await call("identify", {"external_id": "E", "email": None})
    await call("events", [{"external_id": "E", "user": {"data": {"plan": "team"}}}])
    await harness.process_log()
    assert await attributes(harness) == {"E": {"plan": "team"}}
    stored = [json.loads(document)["traits"] for document in await harness.documents()]
    assert stored == [
        {"plan": "free", "email": "a@b.c"},
        {},
        {"plan": "pro"},
        {},
        {"email": None},
        {"plan": "team"},
    ], "events are stored as they were sent"


async def test_events_of_the_track_api_stand_for_themselves(harness: Harness, source: Connection) -> None:
    for traits in ({"email": "a@b.c"}, {"plan": "pro"}):
        await harness.send(source, json.dumps({"userId": "u", "traits": traits}).encode(), call="identify")
        await harness.process_log()
    assert await attributes(harness) == {"u": {"plan": "pro"}}
