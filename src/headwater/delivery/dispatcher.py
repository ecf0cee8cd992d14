"""Runs the senders of all destinations, and commits their progress.

One dispatcher is active in an installation. It commits the progress of all destinations in one transaction, at most
every 20 ms, so that the cost of a commit does not grow with the number of destinations.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, DestinationStatus, Metrics
from headwater.base.outcomes import NO_OUTCOMES, Outcomes
from headwater.catalog import Catalog
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.delivery.chunks import ChunkCache
from headwater.delivery.health import restored_health
from headwater.delivery.items import HEALTHY, Health
from headwater.delivery.progress import Progress
from headwater.delivery.reporting import Reporter
from headwater.delivery.sender import Destination, Resources, Sender
from headwater.delivery.session import Session, SessionHooks
from headwater.delivery.shares import CourierShares
from headwater.state import PipelineCounts
from headwater.state.deliveries import CourierReplaced, DeliveryStore, Expired, LaneHealth, LaneSummary
from headwater.state.deliveries.records import EXPIRED, NO_SPACE
from headwater.state.rateshares import RateShares
from headwater.transforms.functions import Runner

MAX_CACHED_BYTES: Final = 48 << 20
"""Size of the documents of chunks that are kept in memory for all destinations together. Those of other chunks are read
again when needed."""
FLUSH_SECONDS: Final = 0.02
"""Minimum time between two commits."""
WATCH_SECONDS: Final = 1.0
"""Time limit of one wait for new chunks."""
REFRESH_SECONDS: Final = 0.5
"""Interval at which changes of the catalog are taken in, erased deliveries are noticed, and rates are shared."""
CLEAN_SECONDS: Final = 10.0
"""Interval at which deliveries are given up that have expired, or for which there is no space."""
IDLE_SECONDS: Final = 60.0
"""Time after which a sender without work ends, and its connections are closed."""
REPORT_SECONDS: Final = 1.0
"""Interval at which the counts of pipelines are stored."""
STATUS_SECONDS: Final = 10.0
"""Interval at which the metrics of queues are set."""
RETRY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 11.0
"""Time limit of the senders' end, above that of their requests. Requests that are still in flight are sent again after
the next start."""
MAX_FLUSH_SECONDS: Final = 2.0
"""Time limit of the last commit. With `STOP_SECONDS` it is below the 15 seconds that the process has to end."""

_log = structlog.get_logger(__name__)


class RecordCounts(Protocol):
    """Stores counts of pipelines at a time in microseconds since the epoch. Raises Unavailable."""

    async def __call__(self, counts: PipelineCounts, /, *, now: int) -> None: ...


class Dispatcher:
    """Delivers the events of all destinations."""

    def __init__(
        self,
        catalog: Catalog,
        store: DeliveryStore,
        functions: Runner,
        environment: ConnectorEnvironment,
        clock: Clock,
        *,
        expiry: timedelta,
        metrics: Metrics = NO_METRICS,
        outcomes: Outcomes = NO_OUTCOMES,
        record_counts: RecordCounts | None = None,
        rate_shares: RateShares | None = None,
    ) -> None:
        """`expiry` is the time after which an event that could not be delivered is given up. `record_counts` stores the
        counts of pipelines, and `rate_shares` has the limits that runs use; None if there are no runs."""
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._expiry = expiry
        self._metrics = metrics
        self._reporter = Reporter(metrics, outcomes, clock)
        self._shares = CourierShares(rate_shares, clock)
        self._record_counts = record_counts
        self._resources = Resources(
            store=store,
            environment=environment,
            functions=functions,
            clock=clock,
            catalog=catalog,
            account_rates=self._shares.account,
            ended=self._take_ended,
            store_health=self._take_health,
            settle=self._settle,
            hooks=self._hooks,
            expiry_seconds=expiry.total_seconds() + 2 * CLEAN_SECONDS,  # the store gives up whole chunks before
            cache=ChunkCache(MAX_CACHED_BYTES),
        )
        self._epoch = 0
        self._seen = 0
        """The id of the newest chunk that was announced to its sender."""
        self._destinations: dict[int, Destination] = {}
        self._newest: dict[int, int] = {}
        """The newest chunk of each destination that has some."""
        self._senders: dict[int, tuple[Sender, asyncio.Task[None]]] = {}
        self._health: dict[int, tuple[Health, int]] = {}
        """The stored health of destinations, and the times of their last successes, when their senders began."""
        self._version = 0
        """The version of the catalog that was taken in."""
        self._ended: list[Session] = []
        """Ended sessions whose progress is not taken."""
        self._unopened: dict[int, LaneHealth] = {}
        """The health of destinations of which no session can begin, until it is committed."""
        self._taken: list[tuple[Session, Progress]] = []
        """Progress that is not known to be committed. Committing it twice changes nothing."""
        self._progressed = asyncio.Event()
        self._flushed = asyncio.Condition()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set. Raises Unavailable; the caller runs it again."""
        self._ended.clear()  # another courier may have sent what these did not commit
        self._epoch = await self._store.claim()
        self._shares.begin(self._epoch)
        with suppress(Unavailable):  # destinations without limits need no shares
            await self._shares.look()
        self._health = {
            destination: (restored_health(stored), stored.last_success_at)
            for destination, stored in (await self._store.health()).items()
        }
        self._seen = await self._store.newest_chunk()
        self._newest = {each.destination: each.newest_chunk for each in await self._store.summaries()}
        await self._flush()  # that of the last run, before its items are read again
        try:
            async with asyncio.TaskGroup() as tasks:
                flushing = tasks.create_task(_persist(self._flush_regularly))
                working = [
                    tasks.create_task(_persist(work))
                    for work in (
                        self._watch,
                        self._refresh_regularly,
                        self._share_regularly,
                        self._clean_regularly,
                        self._report_regularly,
                    )
                ]
                await stop.wait()
                for task in working:
                    task.cancel()
                await self._stop_senders()
                flushing.cancel()
            async with asyncio.timeout(MAX_FLUSH_SECONDS):
                await self._flush()
                await self._record()
        except TimeoutError:
            raise Unavailable("the progress of deliveries cannot be stored at present") from None
        except ExceptionGroup as group:
            raise _first_error(group) from group
        finally:
            for _, task in self._senders.values():
                task.cancel()
            await asyncio.gather(*(task for _, task in self._senders.values()), return_exceptions=True)
            self._senders.clear()
            await self._shares.release()

    # Destinations

    async def _watch(self) -> None:
        """Announce chunks to their senders as soon as they are appended.

        A re-send often follows a change of its pipeline immediately, so changes are taken in before.
        """
        while True:
            newest = await self._store.wait_for_chunk(self._seen, timeout_seconds=WATCH_SECONDS)
            while self._seen < newest:
                heads = await self._store.heads(self._seen)
                await self._catalog.refresh()
                if self._catalog.version != self._version:
                    self._take_changes()
                if not heads:
                    self._seen = newest
                for head in heads:
                    self._newest[head.destination] = self._seen = head.id
                for destination in {head.destination for head in heads}:
                    self._announce(destination)

    def _announce(self, destination: int) -> None:
        newest, known = self._newest[destination], self._destinations.get(destination)
        if known is None:
            return
        if destination not in self._senders:
            sender = Sender(known, self._resources, *self._health.get(destination, (HEALTHY, 0)))
            self._senders[destination] = sender, asyncio.create_task(sender.run())
        self._senders[destination][0].notify(newest)

    async def _refresh_regularly(self) -> None:
        while True:
            await self._store.check(self._epoch)
            await self._catalog.refresh()
            self._take_changes()
            await asyncio.sleep(REFRESH_SECONDS)

    async def _share_regularly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._shares.look()

    def _take_changes(self) -> None:
        """Begin, replace and end senders after changes of the catalog."""
        self._version = self._catalog.version
        self._destinations = {each.id: each for each in find_destinations(self._catalog)}
        for id_, (sender, task) in list(self._senders.items()):
            if task.done():
                self._health[id_] = sender.stored_health, sender.last_success_at
                del self._senders[id_]
            elif (destination := self._destinations.get(id_)) is None:
                sender.stop()
            else:
                sender.replace(destination)
                if sender.idle_seconds > IDLE_SECONDS:
                    sender.stop()
                    self._newest.pop(id_, None)
        for id_ in self._newest.keys() & self._destinations.keys() - self._senders.keys():
            self._announce(id_)

    async def _stop_senders(self) -> None:
        for sender, _ in self._senders.values():
            sender.stop()
        running = [task for _, task in self._senders.values()]
        if running:
            await asyncio.wait(running, timeout=STOP_SECONDS)

    # Progress

    def _hooks(self, destination: Destination) -> SessionHooks:
        connection = destination.connection
        return SessionHooks(
            progressed=self._progressed.set,
            sent=partial(self._reporter.sent, connection.id, connection.workspace),
            given_up=self._reporter.given_up,
        )

    def _take_ended(self, session: Session) -> None:
        self._ended.append(session)
        self._progressed.set()

    def _take_health(self, health: LaneHealth) -> None:
        self._unopened[health.destination] = health
        self._progressed.set()

    async def _settle(self, session: Session) -> None:
        async with self._flushed:
            await self._flushed.wait_for(lambda: session.uncommitted == 0)

    async def _flush_regularly(self) -> None:
        while True:
            if not self._taken:
                await self._progressed.wait()
            self._progressed.clear()
            began = time.monotonic()
            await self._flush()
            await asyncio.sleep(max(0.0, began + FLUSH_SECONDS - time.monotonic()))

    async def _flush(self) -> None:
        """Commit the progress of all sessions.

        Raises Unavailable; the next call commits it. While the database is unavailable, senders stop after a while.
        """
        sessions = [sender.session for sender, _ in self._senders.values() if sender.session is not None]
        sessions += self._ended
        self._taken += [(session, progress) for session in sessions if not (progress := session.take()).is_empty]
        self._ended.clear()
        unopened = dict(self._unopened)
        if self._taken or unopened:
            await self._commit([progress for _, progress in self._taken], unopened)
        for destination, health in unopened.items():
            if self._unopened[destination] is health:
                del self._unopened[destination]
        for session, progress in self._taken:
            session.committed(progress)
        self._taken.clear()
        async with self._flushed:
            self._flushed.notify_all()

    async def _commit(self, taken: Sequence[Progress], unopened: Mapping[int, LaneHealth]) -> None:
        """Commit progress; later progress of a chunk includes the earlier one."""
        chunks = {chunk.chunk: chunk for progress in taken for chunk in progress.chunks}
        dead = [letter for progress in taken for letter in progress.dead]
        health = dict(unopened)  # a session that has begun since knows better
        health.update((each.destination, each) for progress in taken if (each := progress.health) is not None)
        now = microseconds(self._clock.now())
        await self._store.commit(self._epoch, list(chunks.values()), dead=dead, health=list(health.values()), now=now)

    # Cleaning

    async def _clean_regularly(self) -> None:
        while True:
            await self._clean()
            await asyncio.sleep(CLEAN_SECONDS)

    async def _clean(self) -> None:
        now = self._clock.now()
        stamp = microseconds(now)
        before = microseconds(now - self._expiry)
        while (expired := await self._store.expire(self._epoch, before=before, now=stamp)).chunks:
            self._give_up(expired, EXPIRED)
        self._give_up(await self._store.make_space(now=stamp), NO_SPACE)

    # Reporting

    async def _report_regularly(self) -> None:
        next_status = 0.0
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self._record()
            if time.monotonic() >= next_status:
                await self._report_status()
                next_status = time.monotonic() + STATUS_SECONDS

    async def _record(self) -> None:
        """Store the counts of pipelines. They are for people, so an outage of their database stops nothing."""
        if self._record_counts is None or not (counts := self._reporter.take_counts()):
            return
        try:
            await self._record_counts(counts, now=microseconds(self._clock.now()))
        except Unavailable as error:
            _log.warning("counts of pipelines are lost", reason=error.message)

    async def _report_status(self) -> None:
        """Set the metrics of each destination's queue."""
        now = microseconds(self._clock.now())
        self._metrics.destinations_present(self._destinations.keys())
        for summary in await self._store.summaries():
            sender, _ = self._senders.get(summary.destination, (None, None))
            self._metrics.destination_status(summary.destination, _status(summary, sender, now))

    def _give_up(self, expired: Expired, reason: str) -> None:
        """Report deliveries that the store has given up, and tell their sessions."""
        self._reporter.expired(expired.items, reason)
        for chunk in expired.chunks:
            sender = self._senders.get(chunk.destination)
            if sender is not None and (session := sender[0].session) is not None:
                session.forget(chunk.id)


async def _persist(work: Callable[[], Awaitable[None]]) -> None:
    """Do endless work, again after each outage: it may not end the requests in flight."""
    while True:
        try:
            await work()
        except CourierReplaced:
            raise
        except Unavailable as error:
            _log.warning("the courier's deliveries wait for a database", reason=error.message)
            await asyncio.sleep(RETRY_SECONDS)


def find_destinations(catalog: Catalog) -> Iterator[Destination]:
    """Yield the destinations: connections of connectors that send events. One without a pipeline may have deliveries of
    its last one, which are finished."""
    for workspace in catalog.workspaces():
        for connection in catalog.connections(workspace.id):
            connector = CONNECTORS.get(connection.connector)  # None for one that only a later release has
            if connection.role != "Destination" or connector is None or connector.engine.event_sink is None:
                continue
            yield Destination(connection, tuple(each for each in connection.pipelines if each.target == "Event"))


def _status(summary: LaneSummary, sender: Sender | None, now: int) -> DestinationStatus:
    waiting_since = summary.oldest_at
    status = DestinationStatus(
        open_events=summary.open_items,
        open_bytes=summary.open_bytes,
        oldest_open_seconds=0.0 if waiting_since is None else max(0, now - waiting_since) / 1e6,
        dead_letters=summary.dead_items,
        dead_bytes=summary.dead_bytes,
    )
    if sender is None:
        return status
    session = sender.session
    if session is None:
        return msgspec.structs.replace(status, paused=sender.stored_health.paused_until is not None)
    figures = session.lane.figures
    return msgspec.structs.replace(
        status,
        concurrency=figures.concurrency,
        in_progress=figures.in_flight,
        blocked_keys=figures.delayed,
        paused=session.lane.health.paused_until is not None,
    )


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return an error of the group that is not an outage, because it is a bug; otherwise the first."""
    errors = list(group.exceptions)
    return next((error for error in errors if not isinstance(error, Unavailable)), errors[0])
