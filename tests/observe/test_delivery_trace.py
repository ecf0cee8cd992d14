"""The trace of a message shows the decision of every pipeline of a destination, and every attempt."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import pytest

from headwater.base.clock import microseconds
from headwater.catalog import Connection, Definition, FunctionDefinition, TransformationDefinition
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.environment import ConnectorEnvironment
from headwater.delivery import dispatcher
from headwater.delivery.dispatcher import Dispatcher
from headwater.filters import Condition, Filter
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.pipelines import (
    CreatePipeline,
    create_pipeline,
    delete_pipeline,
    set_pipeline_status,
)
from headwater.observe.deliverysteps import DELETED, DISABLED, DROPPED, UNKNOWN, TracedStep, combine
from headwater.observe.trace import Tracer
from headwater.processing.deliveries import EXCLUDED
from headwater.schemas import JsonType, ObjectType, Property
from headwater.state import Step
from headwater.state.deliveries import AttemptRecord, DeadSelection, LaneHealth, TracedDelivery
from headwater.state.deliveries.records import DeliveryState
from tests.e2e.receiver import Received, Receiver, receiver
from tests.harness import Harness

ENVIRONMENT: Final = ConnectorEnvironment(addresses=AddressPolicy.parse("1"))
SECRET: Final = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
IDENTIFY: Final = Filter("and", (Condition("type", "is", ("identify",)),))


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@asynccontextmanager
async def dispatching(harness: Harness) -> AsyncIterator[None]:
    """Deliver during the block."""
    delivering = Dispatcher(
        harness.catalog, harness.deliveries, harness.functions, ENVIRONMENT, harness.clock, expiry=timedelta(hours=24)
    )
    stop = asyncio.Event()
    running = asyncio.create_task(delivering.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def deliver(harness: Harness, seconds: float = 20) -> None:
    """Deliver until nothing waits."""
    async with dispatching(harness), asyncio.timeout(seconds):
        while any(each.open_items for each in await harness.deliveries.summaries()):
            await asyncio.sleep(0.02)


async def add_hook(harness: Harness, source: Connection, url: str, *pipelines: dict[str, Any]) -> Connection:
    """Link a webhook to the source, with a pipeline that sends all events, or with the given ones."""
    request = CreateConnection(
        name="Hook",
        role="Destination",
        connector="http-webhook",
        sending_mode="Server",
        linked_connections=(source.id,),
        settings={"url": url, "secret": SECRET},
    )
    made = await create_connection(harness.catalog, harness.workspace, request)
    for members in pipelines or ({},):
        values: dict[str, Any] = {"name": "Events", "enabled": True, "event_type": "send_event"} | members
        await create_pipeline(
            harness.catalog, harness.workspace, CreatePipeline(connection=made.id, target="Event", **values)
        )
    found = harness.catalog.connection(harness.workspace, made.id)
    assert found is not None
    return found


async def send(harness: Harness, source: Connection, **members: Any) -> None:
    """Accept the message "m" and process it."""
    event = {"type": "track", "event": "E", "userId": "u", "messageId": "m", **members}
    await harness.send(source, json.dumps({"batch": [event]}).encode())
    await harness.process_log()


async def steps(harness: Harness, destination: Connection) -> list[TracedStep]:
    """Return the steps of the message at a destination."""
    tracer = Tracer(harness.state, harness.log, harness.deliveries)
    [arrived] = await tracer.trace(harness.workspace, "m", harness.catalog)
    assert arrived.outcome == "Processed"
    return [step for step in arrived.steps if step.connection == destination.id]


def failing(name: str) -> dict[str, Any]:
    """Return the members of a pipeline whose function throws."""
    function = FunctionDefinition(
        language="JavaScript",
        source=f"function transform(event) {{ throw new Error('{name}') }}",
        in_paths=("properties",),
        out_paths=("data",),
    )
    schema = ObjectType((Property("data", JsonType(), create_required=True, description="Data of the message"),))
    definition = Definition(transformation=TransformationDefinition(function=function))
    return {"event_type": "send_data", "out_schema": schema, "definition": definition}


async def test_delivered_filtered_and_excluded(harness: Harness, source: Connection, hook: Receiver) -> None:
    destination = await add_hook(harness, source, hook.url, {}, {"filter": IDENTIFY}, {})
    [filtering] = (pipeline.id for pipeline in destination.pipelines if pipeline.definition.filter is not None)
    await send(harness, source)
    now = microseconds(harness.clock.now())
    assert {(each.pipeline, each.step, each.outcome, each.at) for each in await steps(harness, destination)} == {
        (pipeline.id, "Filter", "Filtered", now)
        if pipeline.id == filtering
        else (pipeline.id, "Finalize", "Pending", now)
        for pipeline in destination.pipelines
    }
    harness.clock.advance(5)
    await deliver(harness)
    for step in await steps(harness, destination):
        if step.pipeline == filtering:
            assert (step.outcome, step.attempt_count, step.attempts) == ("Filtered", 0, ())
            continue
        assert (step.step, step.outcome, step.message) == ("Finalize", "Passed", "")
        assert (step.attempt_count, step.at, step.operation) == (1, now + 5_000_000, None)
        [request] = step.attempts
        assert (request.number, request.outcome, request.status, request.message) == (1, "Passed", 200, "")
    assert len(hook.requests) == 2


async def test_an_event_whose_integrations_exclude_the_destination(harness: Harness, source: Connection) -> None:
    destination = await add_hook(harness, source, "http://127.0.0.1:9")
    await send(harness, source, integrations={"All": False})
    [step] = await steps(harness, destination)
    assert (step.step, step.outcome, step.message) == ("Filter", "Filtered", EXCLUDED)


def repeat_everything(status: int, received: Received) -> tuple[int, dict[str, str], bytes]:
    """Respond with all that a destination knows, with its secret in several forms."""
    forms = [SECRET, SECRET.removeprefix("whsec_"), quote(SECRET, safe=""), json.dumps({"authorization": SECRET})]
    return status, {"x-secret": SECRET}, f"no such product; {forms}; {received.headers}".encode()


def check_secrets(step: TracedStep) -> None:
    assert "no such product" in repr(step)
    for secret in (SECRET, SECRET.removeprefix("whsec_"), quote(SECRET, safe="")):
        assert secret not in repr(step)


async def test_a_refused_event_has_its_reason_and_no_secret(
    harness: Harness, source: Connection, hook: Receiver
) -> None:
    hook.answer = partial(repeat_everything, 422)
    destination = await add_hook(harness, source, hook.url)
    await send(harness, source)
    await deliver(harness)
    [step] = await steps(harness, destination)
    assert (step.step, step.outcome, step.reason, step.attempt_count) == ("Finalize", "Failed", "Status422", 1)
    [request] = step.attempts
    assert (request.outcome, request.status) == ("Failed", 422)
    assert "no such product" in request.message
    check_secrets(step)


async def test_an_event_that_is_delivered_after_a_failure_has_both_attempts(
    harness: Harness, source: Connection, hook: Receiver
) -> None:
    answers = iter([503])
    hook.answer = lambda _: (next(answers, 200), {}, b"busy")
    destination = await add_hook(harness, source, hook.url)
    await send(harness, source)
    await deliver(harness, seconds=40)
    [step] = await steps(harness, destination)
    assert (step.outcome, step.attempt_count, step.message) == ("Passed", 2, "")
    assert [(each.number, each.outcome, each.status) for each in step.attempts] == [
        (1, "Retrying", 503),
        (2, "Passed", 200),
    ]
    assert step.attempts[0].message


async def test_a_destination_that_fails_shows_its_error_and_its_next_attempt(
    harness: Harness, source: Connection, hook: Receiver
) -> None:
    hook.answer = partial(repeat_everything, 503)
    destination = await add_hook(harness, source, hook.url)
    await send(harness, source)
    async with dispatching(harness), asyncio.timeout(20):
        while not any(each.failing_since for each in (await harness.deliveries.health()).values()):
            await asyncio.sleep(0.02)
    [step] = await steps(harness, destination)
    assert (step.step, step.outcome, step.attempts) == ("Finalize", "Retrying", ())
    assert "503" in step.message
    assert step.next_attempt_at > step.at
    check_secrets(step)


async def test_an_expired_event(harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "CLEAN_SECONDS", 0.05)
    destination = await add_hook(harness, source, "http://127.0.0.1:9/hook")
    await send(harness, source)
    harness.clock.advance(25 * 3_600)
    await deliver(harness)
    [step] = await steps(harness, destination)
    assert (step.step, step.outcome, step.reason) == ("Finalize", "Failed", "Expired")
    assert step.at == microseconds(harness.clock.now())


@pytest.mark.process
async def test_an_event_that_is_sent_again_has_both_deliveries(
    harness: Harness, source: Connection, hook: Receiver
) -> None:
    answers = iter([422])
    hook.answer = lambda _: (next(answers, 200), {}, b"no such product")
    destination = await add_hook(harness, source, hook.url, {}, failing("no price"))
    [sending] = (pipeline.id for pipeline in destination.pipelines if pipeline.event_type == "send_event")
    [throwing] = (pipeline.id for pipeline in destination.pipelines if pipeline.id != sending)
    await send(harness, source)
    await deliver(harness)
    assert {step.pipeline: (step.step, step.reason) for step in await steps(harness, destination)} == {
        sending: ("Finalize", "Status422"),
        throwing: ("Transformation", "TransformationFailed"),
    }
    harness.clock.advance(60)
    selection = DeadSelection(workspace=harness.workspace)
    while not (await harness.deliveries.resend("7", selection, now=microseconds(harness.clock.now()))).is_complete:
        pass
    for pipeline in (sending, throwing):
        assert [
            (step.outcome, step.operation) for step in await steps(harness, destination) if step.pipeline == pipeline
        ] == [("Failed", None), ("Pending", 7)]
    await deliver(harness)
    first, second, threw, threw_again = sorted(
        await steps(harness, destination), key=lambda step: (step.pipeline != sending, step.at)
    )
    assert (first.outcome, first.reason, first.attempts[0].status) == ("Failed", "Status422", 422)
    assert (second.outcome, second.operation, second.attempts[0].status) == ("Passed", 7, 200)
    for step in (threw, threw_again):
        assert (step.step, step.outcome, step.reason) == ("Transformation", "Failed", "TransformationFailed")
        assert "no price" in step.message
        assert (step.attempt_count, step.attempts) == (0, ())
    assert threw_again.operation == 7


async def test_a_disabled_pipeline_and_a_deleted_one(harness: Harness, source: Connection, hook: Receiver) -> None:
    destination = await add_hook(harness, source, hook.url, {}, {})
    sending, other = (pipeline.id for pipeline in destination.pipelines)
    await send(harness, source)
    await set_pipeline_status(harness.catalog, harness.workspace, other, enabled=False)
    messages = {step.pipeline: (step.outcome, step.message) for step in await steps(harness, destination)}
    assert messages == {sending: ("Pending", ""), other: ("Pending", DISABLED)}
    await delete_pipeline(harness.catalog, harness.workspace, other)
    await deliver(harness)
    found = {step.pipeline: (step.outcome, step.reason) for step in await steps(harness, destination)}
    assert found == {sending: ("Passed", ""), other: ("Failed", "PipelineDeleted")}


# --- Cases of one delivery ----------------------------------------------------------------------------------------

PIPELINE: Final = 5
DESTINATION: Final = 4
QUEUED: Final = Step(PIPELINE, DESTINATION, "Finalize", "Pending")
FILTERED: Final = Step(PIPELINE, DESTINATION, "Filter", "Filtered")
FAILING: Final = LaneHealth(
    destination=DESTINATION, workspace=1, failing_since=1, paused_until=9, last_error="Busy: later"
)


def delivery(state: DeliveryState, **members: Any) -> TracedDelivery:
    return TracedDelivery(destination=DESTINATION, pipeline=PIPELINE, state=state, enqueued_at=2, **members)


CASES: list[tuple[str, Step, list[TracedDelivery], dict[int, bool], list[tuple[Any, ...]]]] = [
    ("history is gone", QUEUED, [], {5: True}, [("Unknown", UNKNOWN, None)]),
    ("pipeline is gone", QUEUED, [], {}, [("Unknown", DELETED, None)]),
    ("a deleted pipeline's event waits", QUEUED, [delivery("Queued")], {}, [("Pending", DELETED, None)]),
    ("a disabled pipeline", QUEUED, [delivery("Queued")], {5: False}, [("Pending", DISABLED, None)]),
    ("a failing destination", QUEUED, [delivery("Queued")], {5: True}, [("Retrying", "Busy: later", None)]),
    ("attempts are gone", QUEUED, [delivery("Ended")], {5: True}, [("Unknown", UNKNOWN, None)]),
    ("dropped", QUEUED, [delivery("Dropped", reason="NoSpace")], {5: True}, [("Failed", DROPPED, None)]),
    (
        "delivered before others were dropped",
        QUEUED,
        [delivery("Delivered"), delivery("Dropped")],
        {5: True},
        [("Passed", "", None)],
    ),
    (
        "dropped, and sent again",
        QUEUED,
        [delivery("Dropped"), delivery("Delivered", origin="7/ranges")],
        {5: True},
        [("Failed", DROPPED, None), ("Passed", "", 7)],
    ),
    ("filtered, in a dropped range", FILTERED, [delivery("Dropped")], {5: True}, [("Filtered", "", None)]),
    (
        "filtered, and replayed",
        FILTERED,
        [delivery("Delivered", origin="8")],
        {5: True},
        [("Filtered", "", None), ("Passed", "", 8)],
    ),
]


@pytest.mark.parametrize(
    ("step", "deliveries", "enabled", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_step_and_its_deliveries(
    step: Step, deliveries: list[TracedDelivery], enabled: dict[int, bool], expected: list[tuple[Any, ...]]
) -> None:
    found = combine(1, [step], 3, deliveries, health={DESTINATION: FAILING}, enabled=enabled)
    assert [(each.outcome, each.message, each.operation) for each in found] == expected
    assert all((each.pipeline, each.connection) == (PIPELINE, DESTINATION) for each in found)


def test_an_event_that_was_replayed_to_a_pipeline_that_did_not_exist() -> None:
    attempts = (AttemptRecord(7, "Delivered", 0, 0, status=200),)
    replayed = delivery("Delivered", origin="8", attempts=attempts, ended_at=7)
    stored, found = combine(1, [Step(3, 1, "Finalize", "Passed")], 3, [replayed], health={}, enabled={})
    assert (stored.pipeline, stored.at) == (3, 3)
    assert (found.pipeline, found.outcome, found.operation, found.at) == (PIPELINE, "Passed", 8, 7)


def test_a_record_that_waits_for_a_function_is_no_delivery() -> None:
    waiting = Step(3, 1, "Transformation", "Pending")
    [found] = combine(1, [waiting], 3, [], health={}, enabled={})
    assert (found.step, found.outcome, found.at) == ("Transformation", "Pending", 3)
