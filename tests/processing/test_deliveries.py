"""New events are queued for the destinations of their source: links, `integrations`, filters; each exactly once."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import event as sqlalchemy_event

from headwater.base.errors import Unavailable
from headwater.catalog import Connection, Definition, Pipeline
from headwater.filters import Condition, Filter, document
from headwater.processing import CONSUMER
from headwater.processing.deliveries import EXCLUDED, selects
from headwater.state import Step
from headwater.state.deliveries.store import SqlDeliveryStore
from tests.harness import Harness, add_source, add_workspace, open_harness

IDENTIFY = Filter("and", (Condition("type", "is", ("identify",)),))
EVERYTHING = 1 << 30


async def add_destination(harness: Harness, *sources: Connection, **members: Any) -> Connection:
    """Add a destination of these sources."""
    async with harness.catalog.change() as change:
        values: dict[str, Any] = {
            "id": change.new_id(), "workspace": harness.workspace, "name": "D", "connector": "dummy",
            "role": "Destination", "strategy": None, "sending_mode": "Server", "created_at": change.now,
            "linked_connections": tuple(sorted(source.id for source in sources)),
        }  # fmt: skip
        connection = Connection(**values | members)
        change.add_connection(connection)
    return connection


async def add_pipeline(
    harness: Harness, destination: Connection, filter: Filter | None = None, *, enabled: bool = True, **members: Any
) -> Pipeline:
    """Add an Event pipeline to a destination."""
    text = None if filter is None else json.dumps(document(filter))
    async with harness.catalog.change() as change:
        values: dict[str, Any] = {
            "id": change.new_id(), "workspace": destination.workspace, "connection": destination.id, "name": "P",
            "target": "Event", "enabled": enabled, "created_at": change.now, "definition": Definition(filter=text),
        }  # fmt: skip
        pipeline = Pipeline(**values | members)
        change.add_pipeline(pipeline)
    return pipeline


async def change_pipeline(harness: Harness, pipeline: Pipeline, **members: Any) -> None:
    async with harness.catalog.change() as change:
        change.update_pipeline(replace(pipeline, **members))


def track(id_: str, **members: Any) -> dict[str, Any]:
    return {"type": "track", "event": "e", "userId": "u", "messageId": id_, **members}


async def accept(harness: Harness, source: Connection, *events: dict[str, Any]) -> None:
    await harness.send(source, json.dumps({"batch": events}).encode())


async def send(harness: Harness, source: Connection, *events: dict[str, Any]) -> None:
    """Accept a batch of events and process it."""
    await accept(harness, source, *events)
    await harness.process_log()


async def queued(harness: Harness, destination: Connection) -> list[tuple[str, int]]:
    """Return the queued deliveries as message ids and pipelines."""
    chunks = await harness.deliveries.read(destination.id, 0, max_bytes=EVERYTHING)
    return [(item.event.message_id, item.pipeline) for chunk in chunks for item in chunk.unfinished()]


async def steps(harness: Harness, source: Connection, message_id: str) -> list[Step]:
    """Return the trace steps of a message in the pipelines of destinations."""
    [entry] = (await harness.state.messages([(source.id, message_id)])).values()
    return [step for step in entry.steps if step.connection != source.id]


async def test_an_event_is_queued_for_every_pipeline_of_the_linked_destinations(harness: Harness) -> None:
    one, other = (
        await add_source(harness.catalog, harness.workspace),
        await add_source(harness.catalog, harness.workspace),
    )
    first = await add_destination(harness, one, other)
    second = await add_destination(harness, one)
    unlinked = await add_destination(harness)
    pipelines = [await add_pipeline(harness, first), await add_pipeline(harness, first)]
    single = await add_pipeline(harness, second)
    await add_pipeline(harness, unlinked)
    await accept(harness, one, track("a"), track("b"))
    await accept(harness, other, track("c"))
    await harness.process_log()
    ids = sorted(pipeline.id for pipeline in pipelines)
    assert await queued(harness, first) == [(id_, pipeline) for id_ in "abc" for pipeline in ids]
    assert await queued(harness, second) == [("a", single.id), ("b", single.id)]
    assert await queued(harness, unlinked) == []
    pending = [Step(pipeline, first.id, "Finalize", "Pending") for pipeline in ids]
    assert await steps(harness, other, "c") == pending
    assert {*pending, Step(single.id, second.id, "Finalize", "Pending")} == set(await steps(harness, one, "a"))
    (chunk,) = await harness.deliveries.read(second.id, 0, max_bytes=1)
    assert [json.loads(event.document)["messageId"] for event in chunk.events] == ["a", "b", "c"]
    assert {event.source for event in chunk.events} == {one.id, other.id}


@pytest.mark.parametrize(
    ("of_pipeline", "of_destination"),
    [
        ({"enabled": False}, {}),
        ({"target": "User"}, {}),
        ({}, {"sending_mode": "Client"}),
    ],
    ids=["disabled pipeline", "User pipeline", "events are sent by the client"],
)
async def test_nothing_is_queued_for(
    harness: Harness, source: Connection, of_pipeline: dict[str, Any], of_destination: dict[str, Any]
) -> None:
    destination = await add_destination(harness, source, **of_destination)
    await add_pipeline(harness, destination, **of_pipeline)
    await send(harness, source, track("a"))
    assert await queued(harness, destination) == []
    assert await steps(harness, source, "a") == []


async def test_a_pipeline_that_is_disabled_gets_no_more_events_and_its_queue_stays(
    harness: Harness, source: Connection
) -> None:
    destination = await add_destination(harness, source)
    pipeline = await add_pipeline(harness, destination)
    await send(harness, source, track("a"))
    await change_pipeline(harness, pipeline, enabled=False)
    await send(harness, source, track("b"))
    await change_pipeline(harness, pipeline, enabled=True)
    await send(harness, source, track("c"), track("a"))
    assert await queued(harness, destination) == [("a", pipeline.id), ("c", pipeline.id)]


async def test_a_filter_decides_for_its_pipeline(harness: Harness, source: Connection) -> None:
    destination = await add_destination(harness, source)
    everything, some = await add_pipeline(harness, destination), await add_pipeline(harness, destination, IDENTIFY)
    identify = {"type": "identify", "userId": "u", "messageId": "b"}
    await send(harness, source, track("a"), identify, track("c"))
    expected = {("a", everything.id), ("b", everything.id), ("b", some.id), ("c", everything.id)}
    assert set(await queued(harness, destination)) == expected
    assert Step(some.id, destination.id, "Filter", "Filtered") in await steps(harness, source, "a")
    assert {step.outcome for step in await steps(harness, source, "b")} == {"Pending"}


async def test_a_filter_reads_the_context(harness: Harness, source: Connection) -> None:
    destination = await add_destination(harness, source)
    mobile = Filter("and", (Condition("context.device.type", "is", ("ios",)),))
    pipelines = [await add_pipeline(harness, destination, each) for each in (IDENTIFY, mobile)]
    phone = {"context": {"device": {"type": "ios"}}}
    await send(harness, source, track("a"), track("b", **phone), track("c", context={"device": {"type": "android"}}))
    assert await queued(harness, destination) == [("b", pipelines[1].id)]


async def test_an_error_of_a_filter_concerns_its_pipeline_only(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = await add_destination(harness, source)
    good, bad = await add_pipeline(harness, destination), await add_pipeline(harness, destination, IDENTIFY)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("headwater.processing.plans.check_filter", fail)
    await send(harness, source, track("a"))
    assert await queued(harness, destination) == [("a", good.id)]
    assert {step.pipeline: step.outcome for step in await steps(harness, source, "a")} == {
        good.id: "Pending",
        bad.id: "Failed",
    }
    assert len(await harness.documents()) == 1


CHOICES = [
    ({}, True),
    ({"All": True}, True),
    ({"All": False}, False),
    ({"all": False}, False),
    ({"All": False, "Dummy": True}, True),
    ({"All": False, "dummy": True}, True),
    ({"All": False, "Dummy": {"region": "eu"}}, True),
    ({"All": False, "Dummy": False}, False),
    ({"Dummy": False}, False),
    ({"Dummy": False, "All": True}, False),
    ({"Klaviyo": False}, True),
    ({"All": False, "Klaviyo": True}, False),
    ({"Dummy": None}, True),
    ({"Dummy": "no"}, True),
    ({"All": "no"}, True),
    ({"All": 0}, True),
]


@pytest.mark.parametrize(("integrations", "selected"), CHOICES, ids=lambda value: json.dumps(value))
def test_integrations_select_destinations(integrations: dict[str, Any], selected: bool) -> None:
    assert selects(json.dumps(integrations).encode(), frozenset({"dummy"})) is selected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text() | st.sampled_from(["All", "Dummy"]), JSON))
def test_whatever_integrations_hold_they_are_read(integrations: dict[str, Any]) -> None:
    assert selects(json.dumps(integrations).encode(), frozenset({"dummy"})) in (True, False)


async def test_the_trace_tells_that_integrations_exclude_a_destination(harness: Harness, source: Connection) -> None:
    destination = await add_destination(harness, source)
    pipeline = await add_pipeline(harness, destination)
    await send(
        harness,
        source,
        track("a", integrations={"All": False}),
        track("b", integrations={"All": False, "Dummy": True}),
        track("c"),
        track("d", integrations={}),
    )
    assert await queued(harness, destination) == [(id_, pipeline.id) for id_ in "bcd"]
    assert await steps(harness, source, "a") == [Step(pipeline.id, destination.id, "Filter", "Filtered", EXCLUDED)]
    assert len(await harness.documents()) == 4


async def test_a_repeated_message_is_not_queued(harness: Harness, source: Connection) -> None:
    destination = await add_destination(harness, source)
    pipeline = await add_pipeline(harness, destination)
    await send(harness, source, track("a"), track("a"))
    await send(harness, source, track("a"), track("b"))
    assert await queued(harness, destination) == [("a", pipeline.id), ("b", pipeline.id)]


async def test_the_destinations_of_a_workspace_get_the_events_of_that_workspace(harness: Harness) -> None:
    other = await add_workspace(harness.catalog, "Other")
    sources = [await add_source(harness.catalog, workspace) for workspace in (harness.workspace, other.id)]
    destinations = [await add_destination(harness, source, workspace=source.workspace) for source in sources]
    for destination in destinations:
        await add_pipeline(harness, destination)
    for source in sources:
        await accept(harness, source, track(f"of {source.id}"))
    await harness.process_log()
    for source, destination in zip(sources, destinations, strict=True):
        assert [id_ for id_, _ in await queued(harness, destination)] == [f"of {source.id}"]
        (chunk,) = await harness.deliveries.read(destination.id, 0, max_bytes=1)
        assert chunk.workspace == source.workspace


async def test_after_a_crash_each_event_is_queued_once(
    tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = SqlDeliveryStore.append
    for crashes_after in (False, True):

        async def fail(self: SqlDeliveryStore, *arguments: Any, after: bool = crashes_after, **members: Any) -> None:
            if after:
                await append(self, *arguments, **members)
            raise Unavailable("the power fails")

        async with open_harness(tmp_path, database_url=database_url) as harness:
            source = await add_source(harness.catalog, harness.workspace)
            destination = await add_destination(harness, source)
            pipeline = await add_pipeline(harness, destination)
            before = await harness.state.position(CONSUMER)
            await accept(harness, source, track("a"), track("b"))
            with monkeypatch.context() as patch, pytest.raises(Unavailable):
                patch.setattr(SqlDeliveryStore, "append", fail)
                await harness.process_log()
            assert await harness.state.position(CONSUMER) == before
        async with open_harness(tmp_path, database_url=database_url) as harness:
            await accept(harness, source, track("c"))
            await harness.process_log()
            assert await queued(harness, destination) == [(id_, pipeline.id) for id_ in "abc"]
            events = [json.loads(each) for each in await harness.documents()]
            assert [each["messageId"] for each in events if each["connectionId"] == source.id] == ["a", "b", "c"]


async def test_an_event_that_cannot_be_stored_does_not_hold_up_the_others(harness: Harness, source: Connection) -> None:
    """Trials that find it append nothing, and its neighbours are queued once."""
    destination = await add_destination(harness, source)
    pipeline = await add_pipeline(harness, destination)
    failing = "poison"
    engine = harness.state._sessions.engine

    def refuse(_c: Any, _k: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if statement.startswith("INSERT INTO identities") and failing in repr(parameters):
            raise ZeroDivisionError

    sqlalchemy_event.listen(engine, "before_cursor_execute", refuse)
    try:
        await send(harness, source, track("a"), track("b", userId=failing), track("c"))
    finally:
        sqlalchemy_event.remove(engine, "before_cursor_execute", refuse)
    assert await queued(harness, destination) == [("a", pipeline.id), ("c", pipeline.id)]
    assert [step.outcome for step in await steps(harness, source, "b")] == ["Failed"]
    assert len(await harness.documents()) == 3
