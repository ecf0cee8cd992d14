"""Starts Envoy, the backends, the worker, the courier and the scheduler, restarts those that end or are stuck, and
stops them in order.

It has no connections, requests or databases, and imports none of the libraries for them: a bug there can end a child,
but not the system. A stop drains: Envoy accepts no more calls and completes those in progress, then the backends end,
then the worker, the courier and the scheduler. If the supervisor is killed, the kernel ends the children.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from headwater.base.waiting import wait
from headwater.server import banner, certificate, environment, gateway, preflight
from headwater.server.errors import StartupError
from headwater.server.forking import ForkServer, RunningForkServer
from headwater.server.probe import request
from headwater.server.processes import Child, Program, start
from headwater.server.scrape import metrics_port
from headwater.server.settings import Settings, renamed_variables, unknown_variables

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

INITIAL_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 5.0
STABLE_SECONDS = 10.0
"""A child that ran this long is restarted without the delay of earlier failures."""

READY_TIMEOUT_SECONDS = 60.0
READY_POLL_SECONDS = 0.02
GATEWAY_STOP_SECONDS = 2.0
STOP_SECONDS = 15.0
"""Time limit of the end of a backend, the worker, the courier and the scheduler. It is above the grace period of their
own work."""

WORKER_MALLOC = {"MALLOC_TRIM_THRESHOLD_": "1048576"}
"""Makes the worker, the courier and run processes return memory after each batch. Otherwise glibc keeps up to forty
megabytes."""


FORKED = ("backend", "worker", "courier", "scheduler", "run_process")
"""Modules of the processes that the fork server forks, and of those that the scheduler's own one forks."""

Start = Callable[[Program], Awaitable[Child]]


def serve(settings: Settings, fork_server: RunningForkServer | None = None) -> None:
    """Run the system until SIGINT, SIGTERM or SIGHUP. Raises StartupError if it cannot start.

    Without `fork_server` it starts one.
    """
    os.umask(0o077)
    for name, similar in unknown_variables(os.environ).items():
        _log(settings).warning("an environment variable is not a setting", variable=name, did_you_mean=similar)
    for name, present in renamed_variables(os.environ).items():
        _log(settings).warning("an environment variable has an earlier name", variable=name, use=present)
    preflight.check_kernel()
    preflight.raise_file_limit()
    preflight.check_location_database(settings)
    preflight.check_certificate(settings)
    preflight.check_sandboxes(settings)
    lock = preflight.claim_data_dir(settings)
    try:
        preflight.check_files(settings)
        if preflight.split_state(settings):
            _log(settings).info("the operational tables of warehouse.db are in state.db", path=str(settings.state_path))
        with preflight.run_dir(settings) as settings:
            asyncio.run(_Supervisor(settings, fork_server).run())
    finally:
        os.close(lock)


def forked_modules(settings: Settings) -> list[str]:
    """Return the modules that the fork server imports: those of the processes, and of the database and the log that
    they use."""
    driver = "sqlite" if settings.database_url is None else "postgresql"
    names = [f"headwater.server.{name}" for name in FORKED]
    names.append(f"headwater.warehouse.drivers.{driver}")
    names.append("aiosqlite" if settings.database_url is None else "asyncpg")
    if settings.nats_url is not None:
        names.append("headwater.log.jetstream")
    return names


class _Service:
    """Keeps a program running."""

    def __init__(self, program: Program, start: Start, settings: Settings, ready: asyncio.Event) -> None:
        self._program = program
        self._start = start
        self._settings = settings
        self._ready = ready
        self._stopping = asyncio.Event()
        self._child: Child | None = None

    async def run(self) -> None:
        """Run until `stop`. Raises StartupError if the program ends before the system was ready for the first time."""
        delay = INITIAL_DELAY_SECONDS
        loop = asyncio.get_running_loop()
        try:
            while not self._stopping.is_set():
                child = await self._start_unless_stopped()
                if child is None:
                    return
                self._child = child
                if self._stopping.is_set():  # `stop` was called during the start
                    self.kill()
                began = loop.time()
                status = await child.wait_or_kill(self._log_stuck)
                if self._stopping.is_set():
                    return
                ending = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                if not self._ready.is_set():
                    words = f": {child.last_line}" if child.last_line else ""
                    raise StartupError(f"{self._program.name} {ending} before the system was ready{words}")
                if loop.time() - began > STABLE_SECONDS:
                    delay = INITIAL_DELAY_SECONDS
                _log(self._settings).error(
                    "a process ended and will be restarted", child=self._program.name, ending=ending, delay_s=delay
                )
                await wait(self._stopping, delay)
                delay = min(2 * delay, MAX_DELAY_SECONDS)
        finally:
            self.kill()
            if self._child is not None:
                await self._child.wait()

    async def _start_unless_stopped(self) -> Child | None:
        """Start the program. Return None if `stop` was called before it has started."""
        starting = asyncio.ensure_future(self._start(self._program))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return starting.result() if starting.done() else None
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.wait((starting, stopping))

    def _log_stuck(self, seconds: float) -> None:
        _log(self._settings).error("a process is stuck and is killed", child=self._program.name, silent_s=seconds)

    @property
    def has_started(self) -> bool:
        """Whether the program has completed its start-up, or has started if it sends no heartbeat."""
        return self._child is not None and self._child.has_started

    @property
    def progressed_at(self) -> float:
        """The time of the latest sign that a start-up goes on which takes long."""
        return float("-inf") if self._child is None else self._child.progressed_at

    async def stop(self, timeout_seconds: float) -> None:
        self._stopping.set()
        if self._child is not None:
            await self._child.stop(timeout_seconds)

    def kill(self) -> None:
        self._stopping.set()
        if self._child is not None:
            self._child.signal(signal.SIGKILL)


class _Supervisor:
    def __init__(self, settings: Settings, fork_server: RunningForkServer | None) -> None:
        self._settings = settings
        self._running_fork_server = fork_server
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._first_start = not settings.api_key_path.exists()

    async def run(self) -> None:
        await preflight.check_port(self._settings)
        self._forks = ForkServer(self._running_fork_server)
        # The backends take longest to be ready, so they start first.
        backend = environment.backend(os.environ, self._settings)
        worker = environment.worker(os.environ, self._settings) | WORKER_MALLOC
        courier = environment.courier(os.environ, self._settings) | WORKER_MALLOC
        scheduler = environment.scheduler(os.environ, self._settings) | WORKER_MALLOC
        fork_server = self._python(
            "fork server",
            "forkserver",
            *forked_modules(self._settings),
            variables=environment.fork_server(os.environ),
        )
        self._fork_server = self._service(fork_server, self._forks.launch)
        self._backends = [
            self._service(self._python(name, "backend", name, variables=backend), self._forks.start)
            for name in self._settings.backend_names
        ]
        self._gateway = self._service(gateway.program(self._settings), start)
        self._worker = self._service(self._python("worker", "worker", variables=worker), self._forks.start)
        self._courier = self._service(self._python("courier", "courier", variables=courier), self._forks.start)
        self._scheduler = self._service(self._python("scheduler", "scheduler", variables=scheduler), self._forks.start)
        self._services = (
            self._fork_server,
            *self._backends,
            self._gateway,
            self._worker,
            self._courier,
            self._scheduler,
        )

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            async with (
                metrics_port(self._settings, (*self._settings.backend_names, "worker", "courier", "scheduler")),
                asyncio.TaskGroup() as group,
            ):
                for service in self._services:
                    group.create_task(service.run())
                announcement = group.create_task(self._announce())
                connections = group.create_task(gateway.follow_connections(self._settings))
                changes = group.create_task(certificate.follow(self._settings, lambda: _log(self._settings)))
                await self._stop.wait()
                announcement.cancel()
                connections.cancel()
                changes.cancel()
                await self._stop_in_order()
        except* StartupError as failures:
            raise failures.exceptions[0] from None

    def _service(self, program: Program, start: Start) -> _Service:
        return _Service(program, start, self._settings, self._ready)

    def _python(self, name: str, module: str, *arguments: str, variables: Mapping[str, str]) -> Program:
        command = (sys.executable, "-m", f"headwater.server.{module}", *arguments)
        return Program(name, command, variables, patience_seconds=self._settings.watchdog_seconds or None)

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        for service in self._services:
            service.kill()

    async def _announce(self) -> None:
        began = asyncio.get_running_loop().time()
        is_watched = self._settings.watchdog_seconds > 0  # otherwise a process may be stopped in a debugger
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS if is_watched else None) as limit:
                while not all(backend.has_started for backend in self._backends) or not await self._is_ready():
                    progressed_at = max(service.progressed_at for service in self._services)
                    if is_watched:
                        limit.reschedule(max(began, progressed_at) + READY_TIMEOUT_SECONDS)
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError:
            raise StartupError(f"the system was not ready within {READY_TIMEOUT_SECONDS:.0f} seconds") from None
        self._ready.set()
        with contextlib.suppress(OSError):  # standard output is closed
            sys.stdout.write(banner.text(self._settings, first_start=self._first_start))
            sys.stdout.flush()

    async def _is_ready(self) -> bool:
        try:
            if await gateway.healthy_backends(self._settings) < self._settings.backends:
                return False
            address, is_encrypted = (
                (self._settings.local_host, self._settings.port),
                self._settings.tls_cert is not None,
            )
            status, _ = await request("GET", "/healthz", address, tls=is_encrypted)
        except OSError:
            return False
        return status == 200

    async def _stop_in_order(self) -> None:
        await gateway.drain(self._settings)
        await self._gateway.stop(GATEWAY_STOP_SECONDS)
        await asyncio.gather(*(backend.stop(STOP_SECONDS) for backend in self._backends))
        last = (self._worker, self._courier, self._scheduler)
        await asyncio.gather(*(service.stop(STOP_SECONDS) for service in last))
        await self._fork_server.stop(STOP_SECONDS)


@cache
def _log(settings: Settings) -> "FilteringBoundLogger":
    """Set up logging at the first line, because structlog would take a third of this process's memory."""
    from headwater.server.logging import configure, logger

    configure("supervisor", settings.log_level, settings.log_format)
    return logger()
