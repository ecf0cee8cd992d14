"""A destination that is dead for a day: the size of the queue, the memory of the courier, and the way back.

The worker's batches, the stores and the courier are real. The clock of their stores is simulated: a day takes about a
minute. The number of events and the bound of the queue are scaled down by the same factor, from 5,000 events/s and the
default bound, so the queue overflows at the same hour as at full size. HEADWATER_BENCH_OUTAGE_EVENTS sets the number of
events (default 200,000). The pauses of the lanes are of real time, so a simulated hour has fewer probes.
"""

import asyncio
import gc
import multiprocessing
import os
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.delivery import peak_megabytes
from bench.destinations import BATCH_EVENTS, MAPPING, SECRET
from bench.payload import Batch
from bench.receiver import Receiver, receiver
from headwater.base.clock import Clock, microseconds
from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, open_catalog
from headwater.catalog.definition import Definition, TransformationDefinition
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.http_webhook.events import EVENT_TYPES
from headwater.delivery import dispatcher
from headwater.delivery.resending import Resend
from headwater.delivery.stored import StoredEvents
from headwater.events import Envelope
from headwater.events.protocol import encode_envelope
from headwater.log import LogEntry, StoredEntry
from headwater.management.connections import (
    CreateConnection,
    UpdateConnection,
    create_connection,
    update_connection,
)
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.processing.processor import BatchProcessor
from headwater.server.child import COLLECT_AFTER
from headwater.state import open_state
from headwater.state.deliveries import DeliveryStore, open_delivery_store
from headwater.state.deliveries.space import DEFAULT_MAX_BYTES
from headwater.state.operations import Operation, ResendParameters
from headwater.storage.database import sqlite_url
from headwater.transforms.functions import Runner
from headwater.warehouse import Warehouse, open_warehouse
from tests.harness import add_source, add_workspace
from tests.system import free_port

EVENTS = int(os.environ.get("HEADWATER_BENCH_OUTAGE_EVENTS", "200000"))
RATE = 5_000
"""Events/s of the goal."""
WINDOW_HOURS = 24
HOURS = 26
"""Duration of the outage: longer than the window, so that the deliveries of the small destination expire."""
MAX_BYTES = DEFAULT_MAX_BYTES * EVENTS // (RATE * 3_600 * HOURS)
SMALL_SHARE = 50
"""One batch in so many is for the small destination. The bound does not concern it, but the window does."""
CLEAN_SECONDS = 0.5
"""Interval at which the courier looks for expired deliveries: about a quarter of an hour of simulated time."""


class SimulatedClock:
    """A clock that shows the seconds since 1970 in memory that processes share."""

    def __init__(self, seconds: "Synchronized[float]") -> None:
        self._seconds = seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._seconds.value, UTC)

    def advance(self, seconds: float) -> None:
        self._seconds.value += seconds


class _Dead(msgspec.Struct):
    """A destination that is dead at first."""

    connection: Connection
    port: int
    accepted: int = 0
    """Events that were appended for it."""


def outage(folder: Path, seconds: float) -> None:
    """A destination dead for 26 simulated hours at 5,000/s: disk, memory of the courier, overflow, and catching up."""
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")  # the courier has its own memory
    seconds_ = context.Value("d", time.time())
    courier = context.Process(target=_courier, args=(folder, seconds_), daemon=True)
    try:
        uvloop.run(_measure(folder, SimulatedClock(seconds_), courier))
    finally:
        if courier.pid is not None:
            courier.kill()
            courier.join()


def _courier(folder: Path, seconds: "Synchronized[float]") -> None:
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    dispatcher.CLEAN_SECONDS = CLEAN_SECONDS  # type: ignore[misc]
    uvloop.run(_deliver(folder, SimulatedClock(seconds)))


async def _deliver(folder: Path, clock: Clock) -> None:
    environment = ConnectorEnvironment(addresses=AddressPolicy.parse("127.0.0.0/8"))
    async with (
        _catalog(folder, clock) as catalog,
        open_delivery_store(sqlite_url(folder / "delivery.db"), max_bytes=MAX_BYTES) as store,
        Runner(javascript=1, python=1) as functions,
    ):
        running = dispatcher.Dispatcher(
            catalog, store, functions, environment, clock, expiry=timedelta(hours=WINDOW_HOURS)
        )
        await running.run(asyncio.Event())


def _catalog(folder: Path, clock: Clock) -> Any:
    return open_catalog(
        sqlite_url(folder / "catalog.db"), clock=clock, identifiers=Identifiers(), keyring=Keyring("s" * 32)
    )


async def _measure(folder: Path, clock: SimulatedClock, courier: Any) -> None:
    async with (
        _catalog(folder, clock) as catalog,
        open_state(sqlite_url(folder / "state.db"), writes=True, clock=clock) as state,
        open_warehouse(sqlite_url(folder / "warehouse.db"), writes=True, clock=clock) as warehouse,
        open_delivery_store(sqlite_url(folder / "delivery.db"), max_bytes=MAX_BYTES) as store,
    ):
        workspace = (await add_workspace(catalog)).id
        large, small = [await _add_destination(catalog, workspace) for _ in range(2)]
        courier.start()
        processor = BatchProcessor(CONSUMER, catalog, state, warehouse, clock, deliveries=store)
        await _append(processor, clock, large, small, folder, courier.pid)
        await asyncio.sleep(2 * CLEAN_SECONDS)
        for dead in (large, small):
            await _report(store, workspace, dead, "large" if dead is large else "small")
        await _recover(catalog, store, warehouse, clock, workspace, large, "large")
        await _recover(catalog, store, warehouse, clock, workspace, small, "small")
        print(f"  courier: peak {peak_megabytes(courier.pid):.0f} MB (goal 200), with the start and catching up")


async def _add_destination(catalog: Catalog, workspace: int) -> _Dead:
    """Add a source, and a webhook that gets its events in batches, with a mapping of six properties."""
    source = await add_source(catalog, workspace)
    port = free_port()
    made = await create_connection(
        catalog,
        workspace,
        CreateConnection(
            name="Hook",
            role="Destination",
            connector="http-webhook",
            sending_mode="Server",
            linked_connections=(source.id,),
            settings=_settings(port),
        ),
    )
    schema = next(each.schema for each in EVENT_TYPES if each.id == "send_data")
    assert schema is not None
    await create_pipeline(
        catalog,
        workspace,
        CreatePipeline(
            connection=made.id,
            target="Event",
            name="All",
            enabled=True,
            event_type="send_data",
            out_schema=type(schema)(tuple(each for each in schema if each.name == "data")),
            definition=Definition(transformation=TransformationDefinition(mapping={"data": MAPPING})),
        ),
    )
    connection = catalog.connection(workspace, made.id)
    assert connection is not None
    return _Dead(connection, port)


def _settings(port: int) -> dict[str, object]:
    return {"url": f"http://127.0.0.1:{port}/hook", "secret": SECRET, "batchSize": BATCH_EVENTS}


async def _append(
    processor: BatchProcessor, clock: SimulatedClock, large: _Dead, small: _Dead, folder: Path, courier: int
) -> None:
    """Process all batches of the outage as the worker does, and print the sizes now and then."""
    batch = Batch(BATCH_EVENTS)
    batches = EVENTS // BATCH_EVENTS
    position = after = most = 0
    for number in range(batches):
        clock.advance(HOURS * 3_600 / batches)
        dead = large if number % SMALL_SHARE else small
        source = dead.connection.linked_connections[0]
        envelope = Envelope(
            "track", "batch", dead.connection.workspace, source, microseconds(clock.now()), os.urandom(16), rejected={}
        )
        position = after + 1
        entry = StoredEntry(position, LogEntry(batch.events, encode_envelope(envelope), batch.refresh()))
        after = await processor.handle(read_batch([entry]), after=after)
        dead.accepted += batch.events
        most = max(most, _disk_bytes(folder))
        if number % (batches // 4) == batches // 4 - 1:
            print(
                f"  after {HOURS * (number + 1) / batches:4.1f} h, {after:,} events: queue on the disk "
                f"{_disk_bytes(folder) / 1e6:.1f} MB (bound {MAX_BYTES / 1e6:.1f})   "
                f"courier {_megabytes(courier):.0f} MB",
                flush=True,
            )
    print(f"  the most on the disk {most / 1e6:.1f} MB, {most / MAX_BYTES:.2f} of the bound")


async def _report(store: DeliveryStore, workspace: int, dead: _Dead, name: str) -> None:
    """Print what became of the events of a destination. All of them are accounted for."""
    waiting = await _open_items(store, dead.connection.id)
    counts = {each.reason: each.count for each in await store.dead_counts(workspace, destination=dead.connection.id)}
    assert waiting + sum(counts.values()) == dead.accepted, (waiting, counts, dead.accepted)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    print(f"  {name} destination: {dead.accepted:,} events, {waiting:,} wait, given up: {reasons}", flush=True)


async def _recover(
    catalog: Catalog,
    store: DeliveryStore,
    warehouse: Warehouse,
    clock: SimulatedClock,
    workspace: int,
    dead: _Dead,
    name: str,
) -> None:
    """Start the destination, and send again what was given up. All events arrive."""
    waiting = await _open_items(store, dead.connection.id)
    with receiver(dead.port) as hook:
        await update_connection(  # ends the pause
            catalog,
            workspace,
            dead.connection.id,
            UpdateConnection(name="Hook", sending_mode="Server", settings=_settings(dead.port)),
        )
        rate = await _arrive(hook, waiting)
        parameters = ResendParameters(destination=dead.connection.id)
        clock.advance(1)
        now = microseconds(clock.now())
        operation = Operation(id=dead.connection.id, workspace=workspace, parameters=parameters, created_at=now)
        resend = Resend(operation, catalog, StoredEvents(catalog, warehouse), store, clock)
        began = time.perf_counter()
        arriving = asyncio.create_task(_arrive(hook, dead.accepted - waiting))
        while not (step := await resend.step()).is_complete:
            await asyncio.sleep(0.1 * step.must_wait)
        await arriving
        resent = step.enqueued / (time.perf_counter() - began)
        assert waiting + step.enqueued == dead.accepted, (waiting, step, dead.accepted)
        print(
            f"  {name} destination: catching up with {waiting:,}: {rate:,.0f} events/s (goal 15,000)   "
            f"sent again {step.enqueued:,}: {resent:,.0f} events/s   all events arrived",
            flush=True,
        )


async def _arrive(hook: Receiver, events: int) -> float:
    """Wait until this number of events has arrived; return the events/s since the first."""
    got, first = 0, None
    async with asyncio.timeout(300):
        while got < events:
            count = await asyncio.to_thread(hook.take)
            if count.events and first is None:
                first = time.perf_counter()
            got += count.events
            await asyncio.sleep(0.02)
    assert got == events, (got, events)
    return got / (time.perf_counter() - first) if first is not None else 0.0


async def _open_items(store: DeliveryStore, destination: int) -> int:
    return sum(each.open_items for each in await store.summaries() if each.destination == destination)


def _disk_bytes(folder: Path) -> int:
    """Return the size of the queue's file, without its write-ahead log, which has about 16 MB at any scale."""
    return (folder / "delivery.db").stat().st_size


def _megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
