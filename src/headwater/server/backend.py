"""A backend process: serves every RPC on a unix socket. `python -m headwater.server.backend NAME` starts it.

Here are the parts put together and the server's limits; what the RPCs do is in `headwater.api` and below.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headwater.api import ERROR_BODIES, LENIENT_SERVICES, ErrorInterceptor, Services, ingest_router, register
from headwater.api.ingest_http import HttpServer
from headwater.base.clock import SystemClock
from headwater.base.computing import open_computing
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog, open_catalog
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.environment import ConnectorEnvironment
from headwater.events import Limits
from headwater.intake import Intake, RateLimit, RateLimiter
from headwater.log import BackPressure
from headwater.management.bootstrap import bootstrap
from headwater.management.quotas import Quotas
from headwater.management.secrets import unreadable
from headwater.server import child, gateway
from headwater.server.descriptors import service_names
from headwater.server.eventlog import open_event_log
from headwater.server.logging import logger
from headwater.server.secrets import check_shared_database, keyring, write_once
from headwater.server.settings import Settings
from headwater.server.units import Rate
from headwater.state import open_state
from headwater.state.lanestore import open_lane_store
from headwater.storage.database import sqlite_url
from headwater.transforms.functions import Runner
from headwater.warehouse import open_warehouse

GRACE_SECONDS = 10.0
"""How long calls that have begun may go on once the process was asked to stop."""

REFRESH_SECONDS = 0.5
"""How often a backend looks for changes that others made to the catalog: what was revoked stops within a second."""

MAX_WAITING_TRIALS = 4
"""How many trials of functions of one workspace may wait, while one runs."""

COMPUTING_MODULES = ("headwater.api.register",)
"""What the processes that compute import before their first computation."""

MAX_METADATA_BYTES = 64 << 10
"""Bytes in the metadata of a call."""

_OPTIONS = (
    # The gateway lets in headers of 32 KiB and adds its own; gRPC's default of 16 KiB would make the rest a 429.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # Envoy keeps its connection for as long as it lives; without traffic it may ping as often as every ten seconds.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)


def _options(settings: Settings) -> tuple[tuple[str, int], ...]:
    # What is sent has no limit: a list is as long as it is, and a limit would make it a 429 for ever.
    return (*_OPTIONS, ("grpc.max_receive_message_length", 2 * settings.max_body_bytes))


async def run(name: str, settings: Settings, stop: asyncio.Event) -> None:
    """Serve as one of `settings.backend_names` until `stop` is set, then answer the calls that have begun."""
    async with AsyncExitStack() as stack:
        metrics = NO_METRICS
        if settings.metrics_port is not None:
            from headwater.server.metrics import BackendMetrics, serve_metrics  # its library takes time and memory

            metrics = await stack.enter_async_context(serve_metrics(BackendMetrics(), settings.metrics_socket(name)))
        services = await stack.enter_async_context(open_backend(name, settings, metrics))
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
        names = service_names((gateway.configuration_dir() / "descriptors.pb").read_bytes())
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        server.add_insecure_port(f"unix:{settings.backend_socket(name)}")
        await server.start()
        await ingest_server.start(settings.ingest_socket(name))
        tasks.create_task(_keep_fresh(services.catalog, stop))
        await stack.enter_async_context(child.heartbeat())
        for service in ("", *names):
            await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
        await stop.wait()
        await healthy.enter_graceful_shutdown()
        await asyncio.gather(server.stop(GRACE_SECONDS), ingest_server.stop(GRACE_SECONDS))


@asynccontextmanager
async def open_backend(name: str, settings: Settings, metrics: Metrics) -> AsyncIterator[Services]:
    """What the servicers of the backend of this name need, opened; closed again when the server has stopped."""
    clock, identifiers = SystemClock(), Identifiers()
    catalog_url = settings.database_url or sqlite_url(settings.catalog_path)
    await check_shared_database(settings, partial(open_catalog, catalog_url, clock=clock, identifiers=identifiers))
    async with (
        open_catalog(
            catalog_url,
            clock=clock,
            identifiers=identifiers,
            keyring=keyring(settings),
            is_shared=settings.backends > 1 or settings.nats_url is not None,
        ) as catalog,
        open_state(
            settings.database_url or sqlite_url(settings.state_path),
            writes=False,
            clock=clock,
            scratch=settings.deduplication_scratch(name),
        ) as state,
        open_warehouse(
            settings.database_url or sqlite_url(settings.warehouse_path), writes=False, clock=clock
        ) as warehouse,
        open_lane_store(settings.database_url or sqlite_url(settings.courier_path)) as lanes,
        Runner(
            javascript=2,
            python=4,
            per_owner=1,
            max_waiting=MAX_WAITING_TRIALS,
            require_confinement=settings.sandbox == "require",
        ) as functions,
        open_computing(modules=COMPUTING_MODULES) as computing,
    ):
        await bootstrap(catalog, api_key=_first_api_key(settings, catalog, identifiers))
        _warn_of_locked_settings(catalog)
        pressure = BackPressure(settings.log_max_lag_bytes)
        async with (
            open_event_log(settings, state, clock, identifiers, back_pressure=pressure, metrics=metrics) as log,
            pressure.track(log),
        ):
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
                computing,
                quotas=_quotas(settings),
                environment=ConnectorEnvironment(
                    addresses=AddressPolicy.parse(settings.allow_private_destinations), clock=clock
                ),
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
    """The key to register, if any: the configured one, or at the first start one that is written down before.

    A start that died between writing and registering finds its key in the file.
    """
    if settings.api_key is not None or catalog.workspaces():
        return settings.api_key
    if not settings.api_key_path.exists():
        write_once(settings.api_key_path, identifiers.api_key())
    return settings.api_key_path.read_text().strip()


def _warn_of_locked_settings(catalog: Catalog) -> None:
    """A lost key is no reason to turn events away: all else works, and settings can be given anew."""
    if locked := unreadable(catalog):
        logger().error(
            "the settings of some connections cannot be read: the key that encrypted them is not given",
            connections=[connection.id for connection in locked],
            variables="HEADWATER_SECRET_KEY, HEADWATER_OLD_SECRET_KEYS",
        )


async def _keep_fresh(catalog: Catalog, stop: asyncio.Event) -> None:
    """Learn what other processes changed, until `stop` is set."""
    while not stop.is_set():
        try:
            await catalog.refresh()
        except Unavailable as error:  # what is known goes on being served; the next look may succeed
            logger().warning("the catalog cannot be refreshed", reason=error.message)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), REFRESH_SECONDS)


if __name__ == "__main__":
    _, name = sys.argv
    child.run(name, partial(run, name), loop_factory=uvloop.new_event_loop)
