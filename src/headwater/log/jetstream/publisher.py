"""Publishes entries: those that arrive while others are being written share one message, and so one sync.

A server that syncs each message before it acknowledges it takes some two thousand messages a second, however small they
are. So only `MAX_IN_FLIGHT` messages are sent at a time, and entries that arrive meanwhile form the next one. If none
is in flight, an entry is sent immediately.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import nats.errors
from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import Metrics
from headwater.log.contract import MAX_ENTRY_EVENTS, LogEntry
from headwater.log.jetstream.connection import Connection
from headwater.log.jetstream.message import (
    HEADERS_BYTES,
    MAX_GROUP_ENTRIES,
    encode_entries,
    first_position,
    group_bytes,
)
from headwater.log.jetstream.stream import Stream

APPEND_SECONDS: Final = 5.0
"""Time limit of the acknowledgement of an entry, with all retries.

It is above `READY_SECONDS`, after which an append fails with the reason of a missing connection.
"""
ACK_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.1
MAX_IN_FLIGHT: Final = 8
"""Maximum number of unacknowledged messages. It keeps the server busy while the next ones travel."""
MAX_GROUP_BYTES: Final = 256 * 1024
"""Maximum size of a message with several entries. A larger entry has its own message."""
MAX_PENDING_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of entries that wait to be written. Above it, callers are rejected for a while."""
FULL: Final = frozenset((10077, 10047, 10023))
"""JetStream's error codes for a stream, an account or a server that is full."""


class Publisher:
    """Publishes the entries of one process. Used in one event loop."""

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        identifiers: Identifiers,
        metrics: Metrics,
        *,
        make_space: Callable[[JetStreamContext], Awaitable[bool]],
    ) -> None:
        """`make_space` is called when the stream is full, and returns whether to retry."""
        self._connection = connection
        self._stream = stream
        self._identifiers = identifiers
        self._metrics = metrics
        self._make_space = make_space
        self._waiting: deque[_Append] = deque()
        self._pending_bytes = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def publish(self, entry: LogEntry) -> int:
        """Return the position of the entry once it is acknowledged. See `EventLog.append`."""
        if self._is_closed:
            raise Unavailable("the event log is closed")
        if self._pending_bytes and self._pending_bytes + entry.size > MAX_PENDING_BYTES:
            raise TooManyRequests("too many events wait to be written")
        append = _Append(entry, asyncio.get_running_loop().create_future())
        self._waiting.append(append)
        self._pending_bytes += entry.size
        self._send_next()
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                return await append.position
        except TimeoutError:
            raise Unavailable(f"the event log did not acknowledge within {APPEND_SECONDS:.0f} seconds") from None

    async def close(self) -> None:
        """Reject further entries, and wait until all accepted entries are written or have failed."""
        self._is_closed = True
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _send_next(self) -> None:
        if self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            task = asyncio.create_task(self._send(), name="log-publish")
            self._in_flight.add(task)
            task.add_done_callback(self._on_sent)

    def _on_sent(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._send_next()

    async def _send(self) -> None:
        """Publish the next group, and complete its appends."""
        group = self._take_group()
        if not group:
            return
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                began = time.perf_counter()
                sequence = await self._publish_until_acknowledged([append.entry for append in group])
                self._metrics.log_committed(len(group), time.perf_counter() - began)
        except TimeoutError:
            self._fail(group, Unavailable(f"the event log did not acknowledge within {APPEND_SECONDS:.0f} seconds"))
        except Exception as error:
            self._fail(group, error)
        else:
            position = first_position(sequence)
            for append in group:
                if not append.position.done():
                    append.position.set_result(position)
                position += append.entry.events
        finally:
            self._pending_bytes -= sum(append.entry.size for append in group)

    def _take_group(self) -> list["_Append"]:
        """Return the entries that share the next message, without those whose callers have given up."""
        limit = min(MAX_GROUP_BYTES, self._connection.max_payload - HEADERS_BYTES)
        group: list[_Append] = []
        size = events = 0
        while self._waiting and len(group) < MAX_GROUP_ENTRIES:
            entry = self._waiting[0].entry
            if self._waiting[0].position.done():
                self._waiting.popleft()
                self._pending_bytes -= entry.size
                continue
            size += group_bytes(entry)
            events += entry.events
            if group and (size > limit or events > MAX_ENTRY_EVENTS):
                break
            group.append(self._waiting.popleft())
        return group

    def _fail(self, group: list["_Append"], error: Exception) -> None:
        for append in group:
            if not append.position.done():
                append.position.set_exception(error)
                append.position.exception()  # mark as retrieved, because its caller may have given up

    async def _publish_until_acknowledged(self, entries: list[LogEntry]) -> int:
        """Publish one message until it is acknowledged, and return its sequence number."""
        headers = {"Nats-Msg-Id": self._identifiers.nonce().hex()}
        jetstream = await self._connection.ready()
        message = encode_entries(entries, self._connection.max_payload)
        before = self._stream.highest
        has_made_space = False
        while True:
            try:
                acknowledged = await jetstream.publish(
                    self._stream.subject, message, timeout=ACK_SECONDS, stream=self._stream.name, headers=dict(headers)
                )
            except APIError as rejection:  # the server has responded: it is not stored
                if rejection.err_code in FULL and not has_made_space and await self._make_space(jetstream):
                    has_made_space = True
                    continue
                raise Unavailable(f"the event log cannot be written: {rejection.description}") from rejection
            except (nats.errors.Error, OSError):  # it may be stored or not
                await asyncio.sleep(RETRY_SECONDS)
                jetstream = await self._connection.ready()
            else:
                return self._checked(acknowledged, before, len(message))

    def _checked(self, acknowledged: PubAck, before: int, size: int) -> int:
        """Return the sequence number. Raises Unavailable if consumers may have passed it, because nobody would read the
        message."""
        if acknowledged.seq <= before and not acknowledged.duplicate:
            self._connection.doubt()
            raise Unavailable("the stream of the event log was replaced while it was written to")
        self._stream.observe_acknowledged(acknowledged.seq, size)
        return acknowledged.seq


class _Append(Struct, eq=False):
    """One caller's entry."""

    entry: LogEntry
    position: asyncio.Future[int]
    """The position of the entry. It is cancelled when the caller has given up."""
