"""Runs every part below the servicers in one process on real files, for the tests of several packages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, Workspace, open_catalog
from headwater.courier import Courier
from headwater.intake import IncomingCall, Intake, Receipt
from headwater.log import Consumer, SqliteEventLog, StoredEntry
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.processing import CONSUMER, make_consumer
from headwater.processing.batch import Batch, read_batch
from headwater.processing.lanes import ResultApplier
from headwater.processing.processor import BatchProcessor
from headwater.profiles.operations import ProfileCompanion
from headwater.profiles.updating import ProfileResolver
from headwater.state import StateStore, open_state
from headwater.state.deliveries import DeliveryStore, open_delivery_store
from headwater.state.lanestore import LaneStore, open_lane_store
from headwater.state.operations import OperationStore, open_operations
from headwater.state.runs import RunStore, open_runs
from headwater.storage.postgresql import open_connections
from headwater.transforms.functions import Runner
from headwater.warehouse import EventQuery, Warehouse, open_warehouse
from tests.sqlite import migrated_url

NOW = datetime(2026, 11, 22, 12, 0, 10, 500_000, tzinfo=UTC)
"""The initial time of a `MovableClock`."""

KEYRING = Keyring("a secret key for tests, of 32 characters")


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Harness:
    """Catalog, log, stores and processors of one installation."""

    folder: Path
    database_url: str | None
    clock: MovableClock
    catalog: Catalog
    log: SqliteEventLog
    state: StateStore
    warehouse: Warehouse
    store: LaneStore
    deliveries: DeliveryStore
    operations: OperationStore
    runs: RunStore
    intake: Intake
    functions: Runner
    workspace: int
    resolver: ProfileResolver

    @property
    def consumer(self) -> Consumer[Batch]:
        return make_consumer(
            self.log,
            self.catalog,
            self.state,
            self.warehouse,
            self.clock,
            keep=timedelta(hours=1),
            store=self.store,
            deliveries=self.deliveries,
            operations=self.operations,
        )

    @property
    def processor(self) -> BatchProcessor:
        return BatchProcessor(
            CONSUMER,
            self.catalog,
            self.state,
            self.warehouse,
            self.clock,
            deliveries=self.deliveries,
            profiles=self.resolver,
        )

    @property
    def companion(self) -> ProfileCompanion:
        return ProfileCompanion(self.catalog, self.state, self.operations, self.resolver, self.clock)

    @property
    def courier(self) -> Courier:
        return Courier(self.catalog, self.state, self.store, self.functions, self.clock)

    async def log_entries(self, after: int = 0) -> list[StoredEntry]:
        """Return all log entries after a position."""
        return await self.log.read(after, max_bytes=1 << 30, wait=timedelta(0))

    async def send(self, source: Connection, body: bytes, call: str = "batch") -> Receipt:
        """Accept a track call with the first write key of the source."""
        key = source.event_write_keys[0]
        return await self.intake.accept(track_call(call=call, body=body, authorization=f"Bearer {key}"))

    async def process_log(self) -> None:
        """Process every log entry after the position of the consumer, as the worker does."""
        after = await self.state.position(CONSUMER)
        if entries := await self.log_entries(after):
            await self.processor.handle(read_batch(entries), after=after)

    async def drain_lanes(self) -> None:
        """Run the courier and apply its results until nothing waits in lanes."""
        applier = ResultApplier(self.catalog, self.state, self.store, self.clock, profiles=self.resolver)
        stop = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(self.courier.run(stop))
            while await self.state.lanes():
                if not await applier.apply():
                    await asyncio.sleep(0.01)
            stop.set()

    async def documents(self) -> list[bytes]:
        """Return the stored events of the workspace in the order of acceptance. Their times of arrival are equal."""
        return await self.list_events(limit=1000)

    async def list_events(self, workspace: int | None = None, *, offset: int = 0, limit: int = 1000) -> list[bytes]:
        """Return stored events in the order of their arrival."""
        query = EventQuery(workspace=self.workspace if workspace is None else workspace, order="receivedAt")
        page = await self.warehouse.events(query, ascending=True, after=None, offset=offset, limit=limit)
        return list(page.documents)


@asynccontextmanager
async def open_harness(
    folder: Path, clock: MovableClock | None = None, database_url: str | None = None
) -> AsyncIterator[Harness]:
    """Open the stores in `folder`, or in the database at `database_url` if given. Opening them again is a restart."""
    clock, identifiers = clock or MovableClock(), Identifiers()
    async with (
        nullcontext() if database_url is None else open_connections(database_url, "harness") as shared,
        open_catalog(
            shared or migrated_url(folder / "catalog.db"), clock=clock, identifiers=identifiers, keyring=KEYRING
        ) as catalog,
        open_state(shared or migrated_url(folder / "state.db"), writes=True, clock=clock) as state,
        open_warehouse(shared or migrated_url(folder / "warehouse.db"), writes=True, clock=clock) as warehouse,
        open_lane_store(shared or migrated_url(folder / "courier.db")) as store,
        open_delivery_store(shared or migrated_url(folder / "delivery.db")) as deliveries,
        open_operations(
            shared or migrated_url(folder / "operations.db"), clock=clock, identifiers=identifiers
        ) as operations,
        open_runs(shared or migrated_url(folder / "runs.db"), clock=clock, identifiers=identifiers) as runs,
        Runner(javascript=1, python=1) as functions,
    ):
        workspace = (catalog.workspaces() or [await add_workspace(catalog)])[0]
        after = await state.position(CONSUMER)
        log = SqliteEventLog(folder / "log.db", clock, after=after, commit_in_thread=False)
        try:
            intake = Intake(catalog, log, clock, identifiers)
            yield Harness(
                folder,
                database_url,
                clock,
                catalog,
                log,
                state,
                warehouse,
                store,
                deliveries,
                operations,
                runs,
                intake,
                functions,
                workspace.id,
                ProfileResolver(catalog, clock),
            )
        finally:
            await log.close()


async def add_workspace(catalog: Catalog, name: str = "Shop") -> Workspace:
    """Add a workspace to the catalog."""
    async with catalog.change() as change:
        workspace = Workspace(id=change.new_id(), name=name, created_at=change.now)
        change.add_workspace(workspace)
    return workspace


async def add_source(
    catalog: Catalog,
    workspace: int,
    *,
    events: bool | None = True,
    users: tuple[bool, ...] = (True,),
) -> Connection:
    """Add a source with an Event pipeline, unless `events` is None, and User pipelines.

    Each value states whether its pipeline is enabled.
    """
    request = CreateConnection(name="Website", role="Source", connector="http")
    source = await create_connection(catalog, workspace, request)
    targets = ([] if events is None else [("Event", events)]) + [("User", enabled) for enabled in users]
    for target, enabled in targets:
        pipeline = CreatePipeline(connection=source.id, target=target, name=target, enabled=enabled)
        await create_pipeline(catalog, workspace, pipeline)
    found = catalog.connection(workspace, source.id)
    assert found is not None
    return found


def client_call(*, call: str, body: bytes, key: str) -> IncomingCall:
    """Make a call of the client API."""
    return IncomingCall("client", call, body, f"Bearer {key}")


def track_call(
    *,
    call: str,
    body: bytes,
    authorization: str | None = None,
    content_encoding: str | None = None,
    ip: str = "",
    user_agent: str = "",
) -> IncomingCall:
    """Make a call of the track API."""
    return IncomingCall("track", call, body, authorization, content_encoding, ip, user_agent)
