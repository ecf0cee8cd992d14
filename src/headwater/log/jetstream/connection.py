"""A connection to NATS that reconnects until it is closed, and reports whether it is ready.

Messages that are sent while it is down fail. It is ready if NATS responds and `prepare` succeeds, which runs again
every second.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from headwater.base.errors import Unavailable

CHECK_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 2.0
"""Time limit of NATS's response to a request."""
READY_SECONDS: Final = 4.0
"""Time limit of waiting for a connection that is down. A server that restarts is usually back sooner."""
RECONNECT_SECONDS: Final = 0.2
PING_SECONDS: Final = 2
"""Interval of pings to a silent server. After two pings without a response the connection is closed."""

_log = structlog.get_logger(__name__)


class Connection:
    """A connection with one task. Open it on a running event loop, and close it after use."""

    def __init__(
        self, url: str, prepare: Callable[[JetStreamContext], Awaitable[None]], *, largest_message: int
    ) -> None:
        """`url` may list several servers, separated by commas. `prepare` raises Unavailable if the server is not
        usable."""
        self._largest_message = largest_message
        self._servers = [server.strip() for server in url.split(",")]
        self._prepare = prepare
        self._ready = asyncio.Event()
        self._look = asyncio.Event()
        self._reason = "NATS cannot be reached"
        self._jetstream: JetStreamContext | None = None
        self._is_closing = False
        self.client = Client()
        self.max_payload = 0
        """Maximum size of a message in bytes, from the server; 0 before the first connection."""
        self.losses = 0
        """Number of lost connections. A loss also loses the requests in progress."""
        self._keeper = asyncio.create_task(self._keep(), name="nats-connection")

    async def ready(self) -> JetStreamContext:
        """Return JetStream once the connection is ready. Raises Unavailable with the reason if that takes too long."""
        if not self._ready.is_set():
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await self._ready.wait()
            except TimeoutError:
                raise Unavailable(f"the event log is not available: {self._reason}") from None
        assert self._jetstream is not None
        return self._jetstream

    def doubt(self) -> None:
        """Stop using the connection until all checks have succeeded again."""
        self._ready.clear()
        self._look.set()

    async def close(self) -> None:
        """Close the connection without waiting for requests in progress."""
        self._is_closing = True  # nats-py may swallow a cancellation: its timeouts are those of Python 3.11
        self._keeper.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeper

    async def _keep(self) -> None:
        while not self._is_closing:
            self.client = client = Client()
            try:
                await client.connect(
                    self._servers,
                    name="headwater",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # an int by its annotation only
                    connect_timeout=2,
                    ping_interval=PING_SECONDS,
                    pending_size=0,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_loss,
                    reconnected_cb=self._on_return,
                )
                self._jetstream = client.jetstream(timeout=REQUEST_SECONDS)
                while not (client.is_closed or self._is_closing):
                    await self._check(client)
                    self._look.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CHECK_SECONDS):
                            await self._look.wait()
            except (nats.errors.Error, OSError, TimeoutError) as error:
                await self._on_error(error)
            except Exception:
                _log.exception("the connection to NATS failed")
            finally:
                self._ready.clear()
                await client.close()
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self, client: Client) -> None:
        assert self._jetstream is not None
        if not client.is_connected:
            return
        losses = self.losses
        try:
            self.max_payload = client.max_payload
            await self._prepare(self._jetstream)
        except Unavailable as error:
            self._not_ready(error.message)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self._not_ready(_words(error))
        else:
            if losses == self.losses and not self._ready.is_set():
                _log.info("the event log is available", nats=str(client.connected_server_version))
                if self.max_payload < self._largest_message:
                    _log.warning(
                        "max_payload of NATS is low: large calls are compressed, and rejected if still too large",
                        max_payload=self.max_payload,
                        wanted=self._largest_message,
                    )
                self._ready.set()

    def _not_ready(self, reason: str) -> None:
        if self._ready.is_set() or reason != self._reason:
            _log.warning("the event log is not available", reason=reason)
        self._ready.clear()
        self._reason = reason

    async def _on_error(self, error: Exception) -> None:
        if not self._ready.is_set():
            self._not_ready(f"NATS cannot be reached ({_words(error)})")

    async def _on_loss(self) -> None:
        self.losses += 1
        if not self._is_closing:
            self._not_ready("the connection to NATS was lost")
        self._look.set()

    async def _on_return(self) -> None:
        self._look.set()


@asynccontextmanager
async def as_unavailable() -> AsyncIterator[None]:
    """Raise Unavailable for errors of NATS and for rejected requests."""
    try:
        yield
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise Unavailable(f"the event log is not available: {_words(error)}") from error


def _words(error: Exception) -> str:
    return getattr(error, "description", None) or str(error) or type(error).__name__
