"""Opens the configured event log, a SQLite file in the data directory or a NATS stream, and what reading it needs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.base.clock import Clock
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.events.context import Locate
from headwater.log import BackPressure, EventLog, SqliteEventLog
from headwater.processing import CONSUMER
from headwater.server.settings import Settings
from headwater.state import StateStore


def open_configured_locator(settings: Settings) -> Locate | None:
    """Return the function that looks up locations of addresses; None without a database of them."""
    if settings.maxmind_db is None:
        return None
    from headwater.server.geolocation import open_locator  # importing its library takes time and memory

    return open_locator(settings.maxmind_db)


@asynccontextmanager
async def open_event_log(
    settings: Settings,
    state: StateStore,
    clock: Clock,
    identifiers: Identifiers,
    *,
    back_pressure: BackPressure | None = None,
    metrics: Metrics = NO_METRICS,
) -> AsyncIterator[EventLog]:
    """Open the event log, and close it at the end of the block. Its positions continue after that of the state
    store."""
    log: EventLog
    if settings.nats_url is None:
        log = SqliteEventLog(
            settings.log_path,
            clock,
            after=await state.position(CONSUMER),
            max_bytes=settings.log_max_bytes,
            back_pressure=back_pressure,
            metrics=metrics,
        )
    else:
        from headwater.log.jetstream import JetStreamEventLog  # importing its library takes time and memory

        log = JetStreamEventLog(
            settings.nats_url,
            clock,
            identifiers,
            finished=lambda: state.position(CONSUMER),
            max_bytes=settings.log_max_bytes,
            replicas=settings.nats_replicas,
            largest_body=settings.max_call_bytes,
            back_pressure=back_pressure,
            metrics=metrics,
        )
    try:
        yield log
    finally:
        await log.close()
