"""A backend process: serves all RPCs on a unix socket. Start it with `python -m headwater.server.backend NAME`.

This module opens the stores, wires them together and sets the limits of the server. `headwater.api` and the packages
below it implement the RPCs.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from headwater.api import ERROR_BODIES, LENIENT_SERVICES, ErrorInterceptor, Services, ingest_router, register
from headwater.api.ingest_http import HttpServer
from headwater.api.peers import Peers
from headwater.base import computing
from headwater.base.clock import SystemClock
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.waiting import wait
from headwater.catalog import Catalog, open_catalog
from headwater.events import Limits
from headwater.intake import Intake, RateLimit, RateLimiter
from headwater.log import BackPressure
from headwater.management.bootstrap import bootstrap
from headwater.management.quotas import Quotas
from headwater.management.secrets import unreadable
from headwater.observe.outcomes import open_outcome_feed
from headwater.observe.watching import make_observers
from headwater.server import child, forkserver, gateway
from headwater.server.connectors import connector_environment
from headwater.server.descriptors import service_names
from headwater.server.eventlog import open_configured_locator, open_event_log
from headwater.server.locations import open_locations
from headwater.server.logging import logger
from headwater.server.processes import die_with_parent
from headwater.server.reflection import enable_reflection
from headwater.server.secrets import check_shared_database, keyring, write_once
from headwater.server.settings import Settings
from headwater.server.tracing import traced
from headwater.server.units import Rate
from headwater.state import open_state
from headwater.state.deliveries import open_delivery_store
from headwater.state.lanestore import open_lane_store
from headwater.state.operations import open_operations
from headwater.state.runs import open_runs
from headwater.transforms.functions import Runner
from headwater.warehouse import open_warehouse

GRACE_SECONDS = 10.0
"""Time that calls in progress have to complete after the process was asked to stop."""

REFRESH_SECONDS = 0.5
"""Interval at which a backend reads changes of the catalog by other processes. Revoked keys stop working in a
second."""

DRAINING_SECONDS = 0.25
"""Interval at which a backend looks whether the system stops."""

MAX_WAITING_TRIALS = 4
"""Maximum number of function trials of one workspace that wait while one runs."""

COMPUTING_MODULES = ("headwater.api.register",)
"""Modules that computing processes import before their first computation."""

_KEY_VARIABLES = "HEADWATER_SECRET_KEY, HEADWATER_OLD_SECRET_KEYS"

MAX_METADATA_BYTES = 64 << 10
"""Maximum size of the metadata of a call."""

_OPTIONS = (
    # The gateway accepts headers of 32 KiB and adds its own. Above gRPC's default of 16 KiB, calls would fail with 429.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # Envoy keeps its connection open. Without traffic it may ping every ten seconds.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)


def _options(settings: Settings) -> tuple[tuple[str, int], ...]:
    # Responses have no limit, because lists have any length and a limit would make their calls fail with 429 for ever.
    return (*_OPTIONS, ("grpc.max_receive_message_length", 2 * settings.max_body_bytes))


async def run(name: str, settings: Settings, stop: asyncio.Event, *, fork_server: socket.socket | None = None) -> None:
    """Serve as one of `settings.backend_names` until `stop` is set, then complete the calls in progress.

    `fork_server` forks the computing processes.
    """
    async with AsyncExitStack() as stack:
        metrics: Metrics = NO_METRICS
        if settings.metrics_port is not None:
            from headwater.server.metrics import (
                BackendMetrics,
                serve_metrics,
            )  # importing its library takes time and memory

            metrics = await stack.enter_async_context(serve_metrics(BackendMetrics(), settings.metrics_socket(name)))
        metrics = await stack.enter_async_context(traced(metrics, settings, name))
        services = await stack.enter_async_context(open_backend(name, settings, metrics, fork_server))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        management = RateLimiter(
            SystemClock(),
            key=_rate_limit(settings.rate_limit_management),
            processes=settings.backends,
            unit="calls",
        )
        errors = ErrorInterceptor(ERROR_BODIES, metrics, LENIENT_SERVICES, management)
        server = grpc.aio.server(interceptors=[errors], options=_options(settings))
        register(server, services)
        ingest_server = HttpServer(ingest_router(services, metrics), max_body_bytes=settings.max_body_bytes)
        names = service_names(services.descriptors)
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        enable_reflection(server, [*names, health.SERVICE_NAME])
        server.add_insecure_port(f"unix:{settings.backend_socket(name)}")
        await server.start()
        await ingest_server.start(settings.ingest_socket(name))
        tasks.create_task(_keep_fresh(services.catalog, stop))
        tasks.create_task(_end_watchers(services, settings, stop))
        await stack.enter_async_context(child.heartbeat())
        for service in ("", *names):
            await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
        await stop.wait()
        await healthy.enter_graceful_shutdown()
        await asyncio.gather(server.stop(GRACE_SECONDS), ingest_server.stop(GRACE_SECONDS))


@asynccontextmanager
async def open_backend(
    name: str, settings: Settings, metrics: Metrics, fork_server: socket.socket | None = None
) -> AsyncIterator[Services]:
    """Open the dependencies of the servicers, and close them after the server has stopped."""
    clock, identifiers = SystemClock(), Identifiers()
    await check_shared_database(settings, partial(open_catalog, clock=clock, identifiers=identifiers))
    async with (
        open_locations(settings, name) as locations,
        open_catalog(
            locations.catalog,
            clock=clock,
            identifiers=identifiers,
            keyring=keyring(settings),
            is_shared=settings.backends > 1 or settings.nats_url is not None,
        ) as catalog,
        open_state(
            locations.state,
            writes=False,
            clock=clock,
            scratch=settings.deduplication_scratch(name),
        ) as state,
        open_warehouse(locations.warehouse, writes=False, clock=clock) as warehouse,
        open_lane_store(locations.courier) as lanes,
        open_delivery_store(locations.delivery, max_bytes=settings.delivery_max_bytes) as deliveries,
        open_operations(locations.operations, clock=clock, identifiers=identifiers) as operations,
        open_runs(locations.runs, clock=clock, identifiers=identifiers) as runs,
        Runner(
            javascript=2,
            python=4,
            per_owner=1,
            max_waiting=MAX_WAITING_TRIALS,
            require_confinement=settings.sandbox == "require",
        ) as functions,
        computing.open_computing(modules=COMPUTING_MODULES, fork_server=fork_server) as computations,
    ):
        await bootstrap(catalog, api_key=_first_api_key(settings, catalog, identifiers))
        await _warn_of_locked_settings(catalog)
        pressure = BackPressure(settings.log_max_lag_bytes)
        async with (
            open_event_log(settings, state, clock, identifiers, back_pressure=pressure, metrics=metrics) as log,
            pressure.track(log),
            open_outcome_feed(settings.outcomes_dir, name, settings.nats_url) as feed,
            AsyncExitStack() as stack,
        ):
            observers = make_observers(
                log, identifiers, feed, open_configured_locator(settings), processes=settings.backends
            )
            stack.push_async_callback(observers.close)
            sockets = {each: settings.backend_socket(each) for each in settings.backend_names}
            peers = Peers(settings.backend_names, name, sockets)
            stack.push_async_callback(peers.close)
            limits = Limits(
                event_bytes=settings.max_event_bytes,
                batch_bytes=settings.max_batch_bytes,
                client_bytes=settings.max_client_bytes,
            )
            limiter = RateLimiter(
                clock,
                workspace=_rate_limit(settings.rate_limit_workspace),
                key=_rate_limit(settings.rate_limit_key),
                processes=settings.backends,
            )
            intake = Intake(catalog, log, clock, identifiers, metrics, limits, limiter)
            yield Services(
                catalog,
                intake,
                state,
                warehouse,
                functions,
                log,
                lanes,
                clock,
                deliveries,
                operations,
                runs,
                computations,
                quotas=_quotas(settings),
                environment=connector_environment(settings, clock),
                allowed_redirect_uris=settings.oauth_redirect_uris,
                observers=observers,
                peers=peers,
                descriptors=(gateway.configuration_dir() / "descriptors.pb").read_bytes(),
            )


def _quotas(settings: Settings) -> Quotas:
    return Quotas(
        connections=settings.max_connections,
        pipelines=settings.max_pipelines,
        api_keys=settings.max_keys,
        definition_bytes=settings.max_definition_bytes,
        connection_definition_bytes=settings.max_connection_definition_bytes,
    )


def _rate_limit(rate: Rate | None) -> RateLimit | None:
    return None if rate is None else RateLimit(rate.per_second, rate.burst)


def _first_api_key(settings: Settings, catalog: Catalog, identifiers: Identifiers) -> str | None:
    """Return the API key to register, if any: the configured key, or at the first start a generated key.

    A generated key is written to its file first. A start that was interrupted after that finds it there.
    """
    if settings.api_key is not None or catalog.workspaces():
        return settings.api_key
    if not settings.api_key_path.exists():
        write_once(settings.api_key_path, identifiers.api_key())
    return settings.api_key_path.read_text().strip()


async def _warn_of_locked_settings(catalog: Catalog) -> None:
    """Log the connections whose settings, and the OAuth accounts whose tokens, cannot be decrypted.

    The server starts anyway, because all else works.
    """
    if locked := unreadable(catalog):
        logger().error(
            "the settings of some connections cannot be decrypted: their key is missing",
            connections=[connection.id for connection in locked],
            variables=_KEY_VARIABLES,
        )
    if accounts := await catalog.oauth_accounts.unreadable():
        logger().error(
            "the tokens of some OAuth accounts cannot be decrypted: their key is missing",
            accounts=accounts,
            variables=_KEY_VARIABLES,
        )


async def _end_watchers(services: Services, settings: Settings, stop: asyncio.Event) -> None:
    """End the streams of watchers when the process or the whole system stops."""
    while not (stop.is_set() or settings.draining_file.exists()):
        await wait(stop, DRAINING_SECONDS)
    if services.observers is not None:
        services.observers.watchers.end()


async def _keep_fresh(catalog: Catalog, stop: asyncio.Event) -> None:
    """Refresh the catalog regularly until `stop` is set."""
    while not stop.is_set():
        try:
            await catalog.refresh()
        except Unavailable as error:  # the catalog in memory remains usable, and the next refresh may succeed
            logger().warning("the catalog cannot be refreshed", reason=error.message)
        await wait(stop, REFRESH_SECONDS)


def prepare() -> socket.socket:
    """Fork the process that forks computing processes; return its socket. It has the modules, and no secrets if this
    process has none yet."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    if os.fork() == 0:
        die_with_parent(parent)
        os.dup2(theirs.fileno(), 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        forkserver.set_title([sys.executable, "-m", computing.__name__])
        forkserver.end(computing.serve, socket.socket(fileno=0))
    theirs.close()
    return ours


def main(name: str, fork_server: socket.socket | None = None) -> None:
    """Run the process."""
    child.run(name, partial(run, name, fork_server=fork_server), loop_factory=uvloop.new_event_loop)


if __name__ == "__main__":
    main(sys.argv[1])
