"""Destinations, dead letters and what waits, for the tests of operations."""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from headwater.base.clock import microseconds
from headwater.catalog import Connection, Definition, Pipeline
from headwater.connectors.connector import SendingMode
from headwater.delivery.operations import OperationRunner
from headwater.filters import Filter
from headwater.state.deliveries import ChunkItem, ChunkProgress, DeadLetter, DeadSelection, DeliveryStore, QueuedChunk
from headwater.state.operations import Operation, OperationStore
from tests.harness import Harness

Delivery = tuple[int, str]
"""The pipeline and the message id of a delivery."""


async def add_destination(
    harness: Harness, *sources: Connection, pipelines: int = 1, filter: Filter | None = None, workspace: int = 0
) -> Connection:
    """Add a dummy destination that is linked with sources, with enabled Event pipelines."""
    sending_mode: SendingMode = "Server"
    async with harness.catalog.change() as change:
        destination = Connection(
            id=change.new_id(),
            workspace=workspace or harness.workspace,
            name="Dummy",
            connector="dummy",
            role="Destination",
            strategy=None,
            sending_mode=sending_mode,
            created_at=change.now,
            linked_connections=tuple(sorted(source.id for source in sources)),
        )
        change.add_connection(destination)
        for _ in range(pipelines):
            pipeline = Pipeline(
                id=change.new_id(),
                workspace=destination.workspace,
                connection=destination.id,
                name="Send",
                target="Event",
                enabled=True,
                created_at=change.now,
                event_type="send_event_with_no_schema",
                definition=Definition(filter=None if filter is None else msgspec.json.encode(filter).decode()),
            )
            change.add_pipeline(pipeline)
    return reread(harness, destination)


def reread(harness: Harness, connection: Connection) -> Connection:
    """Return a connection as it is at present."""
    found = harness.catalog.connection(connection.workspace, connection.id)
    assert found is not None
    return found


async def send(harness: Harness, source: Connection, events: Iterable[dict[str, Any]]) -> None:
    """Send events and process them, a call and a batch of the worker for each."""
    for event in events:
        await harness.send(source, json.dumps({"batch": [event]}).encode())
        harness.clock.advance(1)
        await harness.process_log()


def track(number: int, **members: Any) -> dict[str, Any]:
    """Return an event with the message id m<number>."""
    return {"type": "track", "event": f"E{number}", "userId": f"u{number % 3}", "messageId": f"m{number}", **members}


async def waiting(store: DeliveryStore, destination: Connection) -> list[Delivery]:
    """Return what waits for a destination, in the order of sending."""
    found: list[Delivery] = []
    after = 0
    while chunks := await store.read(destination.id, after, max_bytes=1 << 20):
        for chunk in chunks:
            found += [(item.pipeline, item.event.message_id) for item in chunk.unfinished()]
            after = chunk.id
    return found


Reason = Callable[[ChunkItem], str]
"""Returns the reason why a delivery is given up; empty if it is delivered."""


async def finish(harness: Harness, destination: Connection, reason: Reason) -> None:
    """Finish everything that waits for a destination at the call: delivered, or given up."""
    store = harness.deliveries
    epoch = await store.claim()
    now = microseconds(harness.clock.now())
    waiting: list[QueuedChunk] = []
    while chunks := await store.read(destination.id, waiting[-1].id if waiting else 0, max_bytes=1 << 20):
        waiting += chunks
    for chunk in waiting:
        dead = [
            DeadLetter(
                number=item.number,
                workspace=chunk.workspace,
                destination=chunk.destination,
                pipeline=item.pipeline,
                reason=text,
                message="no",
                status=422,
                attempts=1,
                enqueued_at=chunk.enqueued_at,
                died_at=now,
                event=item.event,
            )
            for item in chunk.unfinished()
            if (text := reason(item))
        ]
        done = bytes([255] * (chunk.item_count // 8 + 1))
        await store.commit(epoch, [ChunkProgress(chunk.id, chunk.destination, done)], dead=dead, now=now)


async def dead(store: DeliveryStore, workspace: int) -> list[Delivery]:
    """Return the dead letters of a workspace that have their events."""
    page = await store.dead_letters(DeadSelection(workspace=workspace), limit=1_000)
    return sorted((letter.pipeline, letter.event.message_id) for letter in page.letters)


async def execute(
    harness: Harness,
    *,
    deliveries: DeliveryStore | None = None,
    operations: OperationStore | None = None,
    until: Callable[[], bool] = lambda: False,
    tick_seconds: float = 0.0,
) -> None:
    """Execute operations until all have ended, or a condition holds. The clock advances by ticks."""
    runner = OperationRunner(
        harness.catalog,
        operations or harness.operations,
        deliveries or harness.deliveries,
        harness.warehouse,
        harness.clock,
    )
    stop = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(runner.run(stop))
        while not until() and any(each.ended_at is None for each in await harness.operations.page(limit=100)):
            await asyncio.sleep(0.002)
            harness.clock.advance(tick_seconds)
        stop.set()


async def ended(harness: Harness, operation: Operation) -> Operation:
    """Return an operation, which has ended."""
    found = await harness.operations.find(operation.id)
    assert found is not None and found.ended_at is not None, found
    return found


def ids(destination: Connection) -> Sequence[int]:
    """Return the ids of the pipelines of a destination."""
    return [pipeline.id for pipeline in destination.pipelines]
