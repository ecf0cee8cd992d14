"""Runs the sessions of one destination, one after another: a change of its settings or pipelines begins another."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import structlog
from msgspec import Struct

from headwater.base.clock import Clock
from headwater.base.errors import HeadwaterError, Unavailable
from headwater.base.waiting import wait
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.connectors.contract import EventSink
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.delivery.chunks import ChunkCache
from headwater.delivery.health import stored_health
from headwater.delivery.items import HEALTHY, MAX_MESSAGE_CHARACTERS, Health, HealthState, LaneLimits
from headwater.delivery.lane import Lane
from headwater.delivery.preparing import Preparer, compile_preparer
from headwater.delivery.rates import AccountRates
from headwater.delivery.session import Session, SessionHooks
from headwater.delivery.shares import identify_account
from headwater.events.record import RecordReader
from headwater.state.deliveries import DeliveryStore, LaneHealth
from headwater.transforms.functions import Runner

RETRY_SECONDS: Final = 5.0
"""Wait after a session that failed, the first time; each further wait doubles."""
MAX_RETRY_SECONDS: Final = 60.0
OPEN_SECONDS: Final = 60.0
"""Time limit of what a session needs before it begins: the event types of its destination."""
MAX_CONNECTIONS: Final = 64
"""Open connections of one destination. Its lane uses fewer if the policy says so."""

_log = structlog.get_logger(__name__)


class Destination(Struct, frozen=True):
    """A destination connection, with its Event pipelines. Another session begins when it changes."""

    connection: Connection
    pipelines: tuple[Pipeline, ...]

    @property
    def id(self) -> int:
        return self.connection.id


class Resources(Struct, frozen=True):
    """The dependencies that senders share."""

    store: DeliveryStore
    environment: ConnectorEnvironment
    functions: Runner
    clock: Clock
    catalog: Catalog
    """Decrypts settings, and has the access tokens of OAuth accounts."""
    account_rates: Callable[[str], AccountRates]
    """Returns the rates of an account by its identity."""
    ended: Callable[[Session], None]
    """Takes an ended session, whose progress is to be committed."""
    store_health: Callable[[LaneHealth], None]
    """Takes the health of a destination of which no session can begin, to be committed."""
    settle: Callable[[Session], Awaitable[None]]
    """Waits until the progress of an ended session is committed."""
    hooks: Callable[[Destination], SessionHooks]
    expiry_seconds: float
    cache: ChunkCache


class Sender:
    """Sends to one destination until it is stopped. Errors stay inside: they are logged, and it tries again."""

    def __init__(
        self, destination: Destination, resources: Resources, health: Health = HEALTHY, last_success_at: int = 0
    ) -> None:
        """`health` and `last_success_at` are stored, and those of the last run."""
        self._destination = destination
        self._resources = resources
        self._health = self._stored_health = health
        self._last_success_at = last_success_at
        self._session: Session | None = None
        self._ended: Session | None = None
        self._newest = 0
        self._changed = asyncio.Event()
        self._stopping = False
        self._has_opened = False
        """Whether the latest session began."""

    @property
    def session(self) -> Session | None:
        """Return the present session; None while there is none."""
        return self._session

    @property
    def stored_health(self) -> Health:
        """Return the health that is stored, or about to be."""
        session = self._session or self._ended
        return self._stored_health if session is None else session.stored_health

    @property
    def last_success_at(self) -> int:
        """Return the time of the last success, in microseconds since the epoch; 0 if there was none."""
        session = self._session or self._ended
        return self._last_success_at if session is None else session.last_success_at

    @property
    def idle_seconds(self) -> float:
        """Return the time since the sender had something to do; 0 while it has."""
        if self._session is None or not self._session.is_idle:
            return 0.0
        return time.monotonic() - self._session.last_active

    def notify(self, newest: int) -> None:
        """Take the id of a new chunk of this destination."""
        self._newest = max(self._newest, newest)
        if self._session is not None:
            self._session.notify(newest)

    def replace(self, destination: Destination) -> None:
        """Take a change of the destination. The present session ends, and another begins."""
        if destination == self._destination:
            return
        old, new = self._destination.connection, destination.connection
        if (old.sealed_settings, old.oauth_account) != (new.sealed_settings, new.oauth_account):
            self._health = HEALTHY  # a user has changed what may have been the cause
            if self._session is not None:
                self._session.resume()
        self._destination = destination
        self._end_session()

    def stop(self) -> None:
        """End the sender after the requests in flight."""
        self._stopping = True
        self._end_session()

    async def run(self) -> None:
        """Run sessions until `stop` is called."""
        pause = 0.0
        while not self._stopping:
            self._changed.clear()
            self._has_opened = False
            began, failure = time.monotonic(), ""
            try:
                await self._run_session(self._destination)
                continue
            except HeadwaterError as error:
                _log.warning("a destination waits", destination=self._destination.id, reason=error.message)
                failure = error.message
            except Exception:
                # An error of one destination must not end the process, which all destinations need.
                _log.exception("a destination failed and will be retried", destination=self._destination.id)
            has_worked = time.monotonic() - began > OPEN_SECONDS + MAX_RETRY_SECONDS
            pause = RETRY_SECONDS if has_worked or not pause else min(2 * pause, MAX_RETRY_SECONDS)
            if failure and not self._has_opened and not self._changed.is_set():
                self._report(failure, pause)
            await wait(self._changed, pause)

    def _report(self, failure: str, pause: float) -> None:
        """Store why no session can begin: without a session, nobody else states that the events wait."""
        if self._health.state is HealthState.REFUSING:
            return  # it has the reason, and a pause of its own
        now = self._resources.clock.now().timestamp()
        self._health = self._stored_health = Health(
            state=HealthState.OPEN,
            failures=self._health.failures + 1,
            failing_since=self._health.failing_since or now,
            paused_until=now + pause,
            reason="Unavailable",
            message=failure[:MAX_MESSAGE_CHARACTERS],
        )
        connection = self._destination.connection
        self._resources.store_health(
            stored_health(self._health, connection.id, connection.workspace, self._last_success_at)
        )

    def _end_session(self) -> None:
        self._changed.set()
        if self._session is not None:
            self._session.stop()

    async def _run_session(self, destination: Destination) -> None:
        if self._ended is not None:  # its unfinished items are read again, and those that it has finished are not
            await self._resources.settle(self._ended)
            self._stored_health, self._last_success_at = self._ended.stored_health, self._ended.last_success_at
            self._ended = None
        async with self._open_session(destination) as session:
            if self._changed.is_set():
                return
            self._session, self._has_opened = session, True
            session.notify(self._newest)
            try:
                await session.run()
            finally:
                self._health = session.lane.health
                self._session, self._ended = None, session
                self._resources.ended(session)

    @asynccontextmanager
    async def _open_session(self, destination: Destination) -> AsyncIterator[Session]:
        resources, connection = self._resources, destination.connection
        settings = resources.catalog.decrypt_settings(connection)
        connector = CONNECTORS[connection.connector]
        make_sink = connector.engine.event_sink
        if make_sink is None:
            raise Unavailable(f"connector {connector.code} sends no events")
        opening = resources.environment.context(
            connector.code,
            connection.id,
            settings,
            resources.catalog.access_token(connection, resources.environment),
            max_connections=MAX_CONNECTIONS,
            workspace=connection.workspace,
        )
        async with opening as context:
            sink = make_sink(settings, context)
            try:
                async with asyncio.timeout(OPEN_SECONDS):
                    preparers = await _compile(destination, sink, resources)
            except TimeoutError:
                raise Unavailable(f"connector {connector.code} does not return its event types") from None
            paths = {path for each in preparers.values() if each is not None for path in each.in_paths}
            limits = LaneLimits.of(sink.policy, expiry_seconds=resources.expiry_seconds)
            account = resources.account_rates(identify_account(connection, settings))
            rates = account.rates(sink.policy.rates, max_events=sink.policy.limits.max_events)
            yield Session(
                destination=connection.id,
                workspace=connection.workspace,
                sink=sink,
                preparers=preparers,
                lane=Lane(sink.policy, limits=limits, random=Random(), rates=rates, health=self._health),
                store=resources.store,
                clock=resources.clock,
                hooks=resources.hooks(destination),
                cache=resources.cache,
                records=await asyncio.to_thread(RecordReader, paths),
                stored_health=self._stored_health,
                last_success_at=self._last_success_at,
            )


async def _compile(destination: Destination, sink: EventSink, resources: Resources) -> Mapping[int, Preparer | None]:
    """Return the preparers of the pipelines; None for a disabled one."""
    event_types = await sink.event_types()
    return {
        pipeline.id: await compile_preparer(pipeline, sink, event_types, resources.functions, resources.clock)
        if pipeline.enabled
        else None
        for pipeline in destination.pipelines
    }
