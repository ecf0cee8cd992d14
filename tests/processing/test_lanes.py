"""Lanes: the courier's results, and identities that are the same as without lanes."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headwater.base.identifiers import Identifiers
from headwater.catalog import Connection, Definition, FunctionDefinition, TransformationDefinition, open_catalog
from headwater.filters import Condition, Filter
from headwater.management.pipelines import (
    CreatePipeline,
    UpdatePipeline,
    create_pipeline,
    delete_pipeline,
    update_pipeline,
)
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.processing.evaluate import MAX_WORKSPACE_MAPPING_SECONDS
from headwater.processing.janitor import Janitor
from headwater.processing.lanes import ResultApplier
from headwater.processing.processor import BatchProcessor
from headwater.processing.transformer import Budget, Failed, MappingTransformer
from headwater.profiles.updating import ProfileResolver
from headwater.schemas import Record, parse_schema
from headwater.state import Step
from headwater.storage.database import sqlite_url
from tests.examples import examples
from tests.harness import KEYRING, Harness, add_source, add_workspace, open_harness

SCHEMA = parse_schema(
    '{"kind":"object","properties":[{"name":"email","type":{"kind":"string","maxLength":40},"readOptional":true}]}'
)
MAPPING = TransformationDefinition(mapping={"email": "traits.email"})
TRACK = Filter("and", (Condition("type", "is", ("track",)),))
IDENTIFY = Filter("and", (Condition("type", "is", ("identify",)),))


def function(source: str) -> TransformationDefinition:
    """A JavaScript function that gets `traits` and `userId`, and returns `email`."""
    definition = FunctionDefinition(
        language="JavaScript", source=source, in_paths=("traits", "userId"), out_paths=("email",)
    )
    return TransformationDefinition(function=definition)


COPY = function("function transform(e) { return 'email' in e.traits ? {email: e.traits.email} : {}; }")


async def add_pipeline(
    harness: Harness, source: Connection, transformation: TransformationDefinition | None, **members: Any
) -> int:
    """Add a User pipeline to a source; return its id."""
    request = CreatePipeline(
        connection=source.id,
        target="User",
        name="People",
        enabled=True,
        definition=Definition(transformation=transformation),
        **{"out_schema": None if transformation is None else SCHEMA, **members},
    )
    return (await create_pipeline(harness.catalog, source.workspace, request)).id


async def change(harness: Harness, pipeline: int, transformation: TransformationDefinition, **members: Any) -> None:
    """Give a pipeline another transformation."""
    request = UpdatePipeline(
        name="People",
        out_schema=SCHEMA,
        definition=Definition(transformation=transformation),
        **{"enabled": True, **members},
    )
    await update_pipeline(harness.catalog, harness.workspace, pipeline, request)


async def new_source(harness: Harness, workspace: int | None = None) -> Connection:
    """A source with an Event pipeline and no other."""
    return await add_source(harness.catalog, workspace or harness.workspace, users=())


async def send(harness: Harness, source: Connection, *events: dict[str, Any]) -> None:
    """Send a batch of events and process it."""
    await harness.send(source, json.dumps({"batch": events}).encode())
    await harness.process_log()


async def identities(harness: Harness, pipeline: int) -> list[tuple[Any, ...]]:
    """The identities of a pipeline: id, whether it is anonymous, anonymous ids, time, attributes."""
    query = (
        "SELECT identity_id, is_anonymous, anonymous_ids, updated_at, attributes FROM identities"
        f" WHERE pipeline = {pipeline} ORDER BY identity_id, is_anonymous"
    )
    async with harness.state.transaction() as transaction:
        rows = await transaction.run(lambda connection: connection.exec_driver_sql(query).all())
        return [tuple(row) for row in rows]


async def steps(harness: Harness, source: Connection, message_id: str) -> list[Step]:
    """The trace steps of a message in its User pipelines."""
    [entry] = (await harness.state.messages([(source.id, message_id)])).values()
    stores = {pipeline.id for pipeline in source.pipelines}
    return [step for step in entry.steps if step.pipeline not in stores]


def identify(user: str, email: object, **members: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": user, "messageId": user, "traits": {"email": email}, **members}


async def test_an_event_is_stored_immediately_and_its_function_runs_later(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, COPY)
    await send(harness, source, identify("u", "u@x"))
    assert len(await harness.documents()) == 1
    assert [step.outcome for step in await steps(harness, source, "u")] == ["Pending"]
    assert await identities(harness, pipeline) == []
    await harness.drain_lanes()
    assert [row[4] for row in await identities(harness, pipeline)] == ['{"email":"u@x"}']
    assert [(step.step, step.outcome) for step in await steps(harness, source, "u")] == [("Finalize", "Passed")]
    assert await harness.store.results(0, max_bytes=1) == [] or await harness.state.lanes() == []


async def test_results_of_a_pipeline_that_was_created_while_the_worker_had_no_lease_are_applied(
    harness: Harness,
) -> None:
    url = harness.database_url or sqlite_url(harness.folder / "catalog.db")
    async with open_catalog(url, clock=harness.clock, identifiers=Identifiers(), keyring=KEYRING) as waiting:
        source = await new_source(harness)
        pipeline = await add_pipeline(harness, source, COPY)
        await send(harness, source, identify("u", "u@x"))
        resolver = ProfileResolver(waiting, harness.clock)
        applier = ResultApplier(waiting, harness.state, harness.store, harness.clock, profiles=resolver)
        stop = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(harness.courier.run(stop))
            while not await applier.apply():
                await asyncio.sleep(0.01)
            stop.set()
    assert [row[4] for row in await identities(harness, pipeline)] == ['{"email":"u@x"}']


async def test_a_record_on_which_the_function_throws_fails_alone_with_its_reason(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(
        harness, source, function("function transform(e) { return {email: e.traits.email.trim()}; }")
    )
    await send(harness, source, identify("a", " a@x "), identify("b", 5), identify("c", "c@x"))
    await harness.drain_lanes()
    assert [row[0] for row in await identities(harness, pipeline)] == ["a", "c"]
    [failed] = await steps(harness, source, "b")
    assert (failed.step, failed.outcome) == ("Transformation", "Failed")
    assert "trim is not a function" in failed.message


async def test_a_pipeline_in_which_events_fail_is_logged_once_without_their_data(harness: Harness) -> None:
    source = await new_source(harness)
    throwing = await add_pipeline(harness, source, function("function transform(e) { throw new Error(e.userId); }"))
    mapped = await add_pipeline(harness, source, MAPPING)
    with capture_logs() as lines:
        for batch in ("ab", "cd"):
            await send(harness, source, *(identify(user, "too long " * 10) for user in batch))
        await harness.drain_lanes()
    assert len(await steps(harness, source, "d")) == 2
    failing = {"event": "events fail in a pipeline", "log_level": "warning", "step": "Transformation", "count": 1}
    assert [line for line in lines if line["log_level"] == "warning"] == [
        {**failing, "pipeline": pipeline} for pipeline in (mapped, throwing)
    ]


async def test_an_endless_record_fails_alone_and_the_others_are_late(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.processing.transformer.MAX_FUNCTION_SECONDS", 0.3)
    source = await new_source(harness)
    endless = function("function transform(e) { while (e.userId === 'b') {} return {email: e.userId}; }")
    pipeline = await add_pipeline(harness, source, endless)
    await send(harness, source, *(identify(user, "") for user in "abc"))
    await harness.drain_lanes()
    assert [row[0] for row in await identities(harness, pipeline)] == ["a", "c"]
    [failed] = await steps(harness, source, "b")
    assert failed.outcome == "Failed"
    assert "took longer than 0.3 s" in failed.message


async def test_a_function_that_keeps_reaching_its_limit_is_paused_until_it_is_repaired(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.processing.transformer.MAX_FUNCTION_SECONDS", 0.1)
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, function("function transform(e) { for (;;) {} }"))
    users = [f"u{number}" for number in range(10)]
    await send(harness, source, *(identify(user, "") for user in users))
    stop = asyncio.Event()
    courier = asyncio.create_task(harness.courier.run(stop))
    while not (progress := (await harness.store.progress()).get(pipeline)) or not progress.paused_until:
        await asyncio.sleep(0.01)
    assert progress.failures == 1
    assert "took longer" in progress.reason
    await change(harness, pipeline, function("function transform(e) { return {email: e.userId}; }"))
    stop.set()
    await courier
    await harness.drain_lanes()
    assert [row[0] for row in await identities(harness, pipeline)] == users[1:], "those that waited were only late"


async def test_a_disabled_pipeline_keeps_what_waits_and_a_deleted_one_does_not(harness: Harness) -> None:
    source = await new_source(harness)
    pipelines = [await add_pipeline(harness, source, COPY) for _ in range(2)]
    await send(harness, source, identify("u", "u@x"))
    await change(harness, pipelines[0], COPY, enabled=False)
    await delete_pipeline(harness.catalog, harness.workspace, pipelines[1])
    await Janitor(
        harness.log, harness.catalog, harness.state, harness.warehouse, harness.clock, keep=timedelta(hours=1)
    ).clean()
    assert {lane.pipeline for lane in await harness.state.lanes()} == {pipelines[0]}
    await change(harness, pipelines[0], COPY)
    await harness.drain_lanes()
    assert len(await identities(harness, pipelines[0])) == 1


async def test_when_the_lanes_of_a_workspace_are_full_its_records_fail_and_no_others_do(harness: Harness) -> None:
    other = await add_workspace(harness.catalog, "Other")
    sources = [await new_source(harness), await new_source(harness, other.id)]
    for source in sources:
        await add_pipeline(harness, source, COPY)
    processor = BatchProcessor(CONSUMER, harness.catalog, harness.state, harness.warehouse, harness.clock, lane_bytes=1)
    for source, users in ((sources[0], "ab"), (sources[1], "c")):
        for user in users:
            await harness.send(source, json.dumps({"batch": [identify(user, "")]}).encode())
            after = await harness.state.position(CONSUMER)
            await processor.handle(read_batch(await harness.log_entries(after)), after=after)
    assert [step.outcome for step in await steps(harness, sources[0], "a")] == ["Pending"]
    [full] = await steps(harness, sources[0], "b")
    assert (full.outcome, full.message) == (
        "Failed",
        "the records that wait in the workspace's lanes have reached 1 bytes",
    )
    assert [step.outcome for step in await steps(harness, sources[1], "c")] == ["Pending"]


async def test_a_record_that_finds_no_room_in_its_lane_claims_all_the_same(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, COPY)
    await send(harness, source, {"type": "track", "event": "E", "anonymousId": "a", "messageId": "1", "traits": {}})
    await harness.drain_lanes()
    await harness.send(source, json.dumps({"batch": [identify("u", "", anonymousId="a")]}).encode())
    processor = BatchProcessor(CONSUMER, harness.catalog, harness.state, harness.warehouse, harness.clock, lane_bytes=0)
    after = await harness.state.position(CONSUMER)
    await processor.handle(read_batch(await harness.log_entries(after)), after=after)
    assert [step.outcome for step in await steps(harness, source, "u")] == ["Failed"]
    await harness.drain_lanes()
    assert await identities(harness, pipeline) == []


async def test_mappings_beyond_their_share_of_a_batch_are_late(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await new_source(harness)
    pipelines = [await add_pipeline(harness, source, MAPPING) for _ in range(4)]
    run = MappingTransformer.run

    async def slow(self: MappingTransformer, records: Sequence[Record], budget: Budget) -> list[str | Failed]:
        budget.use(MAX_WORKSPACE_MAPPING_SECONDS / 1.5, 0)
        return await run(self, records, budget)

    monkeypatch.setattr(MappingTransformer, "run", slow)
    await send(harness, source, identify("u", "u@x"))
    outcomes = [step.outcome for step in await steps(harness, source, "u")]
    assert sorted(outcomes) == ["Passed", "Passed", "Pending", "Pending"]
    await harness.drain_lanes()
    for pipeline in pipelines:
        assert [row[4] for row in await identities(harness, pipeline)] == ['{"email":"u@x"}']


async def test_a_mapping_that_was_a_function_waits_for_what_is_in_its_lane(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, COPY)
    await send(harness, source, identify("u", "old", messageId="1"))
    await change(harness, pipeline, MAPPING)
    await send(harness, source, identify("u", "new", messageId="2"))
    assert [step.outcome for step in await steps(harness, source, "2")] == ["Pending"]
    await harness.drain_lanes()
    assert [row[4] for row in await identities(harness, pipeline)] == ['{"email":"new"}']
    await send(harness, source, identify("u", "newest", messageId="3"))
    assert [step.outcome for step in await steps(harness, source, "3")] == ["Passed"]


@pytest.mark.parametrize("is_in_lane", [True, False], ids=["in a lane", "in the worker"])
async def test_a_claim_after_an_alias_that_claims_nothing_has_effect(harness: Harness, is_in_lane: bool) -> None:
    """Both have the same ids. The alias passes no filter, so it claims nothing; the identify passes that of another
    pipeline, and claims the anonymous id in all of them."""
    source = await new_source(harness)
    seen_in = await add_pipeline(harness, source, COPY if is_in_lane else None, filter=TRACK)
    await add_pipeline(harness, source, None if is_in_lane else COPY, filter=IDENTIFY)
    await send(harness, source, {"type": "track", "event": "E", "anonymousId": "a", "messageId": "0", "traits": {}})
    await harness.drain_lanes()
    assert [row[0] for row in await identities(harness, seen_in)] == ["a"]
    both = {"userId": "u", "anonymousId": "a"}
    await send(
        harness,
        source,
        {"type": "alias", "previousId": "b", "messageId": "1", **both},
        {"type": "identify", "messageId": "2", "traits": {"email": "u@x"}, **both},
    )
    await harness.drain_lanes()
    assert await identities(harness, seen_in) == []


async def test_results_that_are_there_twice_are_applied_once(harness: Harness) -> None:
    """Two appliers run, as after a takeover that the former holder has not noticed: one of them fails."""
    from headwater.base.errors import Unavailable
    from headwater.processing.lanes import ResultApplier

    source = await new_source(harness)
    await add_pipeline(harness, source, COPY)
    await send(harness, source, identify("u", "u@x"))
    stop = asyncio.Event()
    courier = asyncio.create_task(harness.courier.run(stop))
    while not await harness.store.results(0, max_bytes=1):
        await asyncio.sleep(0.01)
    stop.set()
    await courier
    appliers = [ResultApplier(harness.catalog, harness.state, harness.store, harness.clock) for _ in range(2)]
    applied = await asyncio.gather(*(applier.apply() for applier in appliers), return_exceptions=True)
    assert sum(1 for each in applied if each == 1) == 1
    assert all(each in (0, 1) or isinstance(each, Unavailable) for each in applied)


# --- The same as without lanes ------------------------------------------------------------------------------------

people = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["identify", "track", "alias"]),
        "userId": st.sampled_from(["u", "v", ""]),
        "anonymousId": st.sampled_from(["a", "b", ""]),
        "previousId": st.sampled_from(["a", "b", "u"]),
        "email": st.sampled_from(["1", "2"]),
        "second": st.integers(0, 5),
    }
)


def wire(person: dict[str, Any], number: int) -> dict[str, Any] | None:
    """An event of the track API; None for one that would be rejected."""
    event = {
        "type": person["type"],
        "messageId": str(number),
        "timestamp": f"2026-01-01T00:00:0{person['second']}Z",
        "context": {"traits": {"email": person["email"]}},
    }
    event |= {name: person[name] for name in ("userId", "anonymousId") if person[name]}
    if person["type"] == "alias":
        event["previousId"] = person["previousId"]
        return event if person["userId"] else None
    if person["type"] == "track":
        event["event"] = "E"
    return event if person["userId"] or person["anonymousId"] else None


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.tuples(st.lists(people, min_size=1, max_size=5), st.booleans()), min_size=1, max_size=4),
    plain_filter=st.sampled_from([None, IDENTIFY]),
)
def test_identities_are_as_if_there_were_no_lanes(
    tmp_path_factory: pytest.TempPathFactory,
    batches: Sequence[tuple[list[dict[str, Any]], bool]],
    plain_filter: Filter | None,
) -> None:
    """Whenever the courier runs: claims and aliases reach a lane's identities in the order of the events."""
    asyncio.run(compare(tmp_path_factory.mktemp("lanes"), batches, plain_filter))


async def compare(
    folder: Path, batches: Sequence[tuple[list[dict[str, Any]], bool]], plain_filter: Filter | None
) -> None:
    async with open_harness(folder) as harness:
        sources, pipelines = [], []
        for transformation in (MAPPING, COPY):
            source = await new_source(harness)
            sources.append(source)
            pipelines.append(
                [
                    await add_pipeline(harness, source, None, filter=plain_filter),
                    await add_pipeline(harness, source, transformation, filter=TRACK),
                    await add_pipeline(harness, source, transformation),
                ]
            )
        number = 0
        for persons, drains in batches:
            events = []
            for person in persons:
                number += 1
                events.append(wire(person, number))
            sent = [event for event in events if event is not None]
            for source in sources:
                if sent:
                    await send(harness, source, *sent)
            if drains:
                await harness.drain_lanes()
        await harness.drain_lanes()
        for direct, laned in zip(*pipelines, strict=True):
            assert await identities(harness, laned) == await identities(harness, direct)
