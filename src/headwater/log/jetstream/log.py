"""The event log on JetStream. It combines the other modules of this package."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamState
from nats.js.errors import NotFoundError

from headwater.base.clock import Clock
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.log.backpressure import BackPressure
from headwater.log.contract import Backlog, Lease, LogEntry, StoredEntry
from headwater.log.jetstream.connection import Connection, as_unavailable
from headwater.log.jetstream.consumers import Consumers
from headwater.log.jetstream.message import HEADERS_BYTES, message_sequence, stored_entries
from headwater.log.jetstream.publisher import Publisher
from headwater.log.jetstream.reader import Readers
from headwater.log.jetstream.stream import Stream

DEFAULT_STREAM: Final = "HEADWATER"
NEARLY_FULL: Final = 0.9
NEARLY_FULL_TARGET: Final = 0.8
"""Share of the maximum size down to which processed entries are removed early, once `NEARLY_FULL` is exceeded."""


class JetStreamEventLog:
    """An `EventLog` in a stream of NATS. Open it on a running event loop, and close it after use.

    It may be opened while NATS cannot be reached. Its methods then raise Unavailable.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        identifiers: Identifiers,
        *,
        finished: Callable[[], Awaitable[int]],
        max_bytes: int,
        replicas: int = 1,
        largest_body: int = 0,
        stream: str = DEFAULT_STREAM,
        back_pressure: BackPressure | None = None,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        """`finished` returns the position up to which consumers have processed the log. Assigned positions come after
        it.

        `largest_body` is the maximum size of the body of an entry, for a warning if the server's limit is smaller.
        """
        self._clock = clock
        self._max_bytes = max_bytes
        self._back_pressure = back_pressure
        self._stream = Stream(stream, max_bytes=max_bytes, replicas=replicas, finished=finished)
        self._connection = Connection(url, self._stream.prepare, largest_message=largest_body + HEADERS_BYTES)
        self._readers = Readers(self._connection, self._stream)
        self._consumers = Consumers(self._connection, self._stream, identifiers.nonce().hex())
        self._publisher = Publisher(self._connection, self._stream, identifiers, metrics, make_space=self._make_space)
        self._making_room = asyncio.Lock()
        self._closed = False

    async def append(self, entry: LogEntry) -> int:
        if self._back_pressure is not None:
            self._back_pressure.check()
        return await self._publisher.publish(entry)

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        return await self._readers.read(after, max_bytes=max_bytes, wait=wait.total_seconds())

    async def lease(self, consumer: str, *, may_lag: bool = False) -> Lease:
        return await self._consumers.lease(consumer, may_lag=may_lag)

    async def forget(self, consumer: str) -> None:
        await self._consumers.forget(consumer)

    async def cursors(self) -> dict[str, int]:
        return await self._consumers.cursors()

    async def last_position(self) -> int:
        jetstream = await self._connection.ready()
        async with as_unavailable():
            last = (await jetstream.stream_info(self._stream.name)).state.last_seq
            try:
                message = await jetstream.get_msg(self._stream.name, seq=last) if last else None
            except NotFoundError:
                message = None
        if message is None or message.data is None:
            return 0
        return stored_entries(last, message.data)[-1].last

    async def backlogs(self) -> dict[str, Backlog]:
        state = await self._state()
        lagging = await self._consumers.lagging()
        return {
            consumer: Backlog(self._bytes_after(position, state), consumer in lagging)
            for consumer, position in (await self.cursors()).items()
        }

    async def backlog_bytes(self) -> int:
        state = await self._state()
        return self._bytes_after(await self._consumers.slowest(), state)

    async def trim(self, *, older_than: timedelta) -> int:
        jetstream = await self._connection.ready()
        async with as_unavailable():
            return await self._remove_finished(jetstream, older_than)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._publisher.close()
        await self._consumers.close()
        await self._readers.close()
        await self._connection.close()

    async def _state(self) -> StreamState:
        jetstream = await self._connection.ready()
        async with as_unavailable():
            return (await jetstream.stream_info(self._stream.name)).state

    def _bytes_after(self, position: int, state: StreamState) -> int:
        """Return the approximate size of the messages after a position."""
        messages = min(state.messages, state.last_seq - message_sequence(position))
        return self._stream.estimate_bytes(max(0, messages))

    async def _make_space(self, jetstream: JetStreamContext) -> bool:
        """Remove processed messages early; return whether there may be space then."""
        async with self._making_room, as_unavailable():
            state = (await jetstream.stream_info(self._stream.name)).state
            if state.bytes < NEARLY_FULL * self._max_bytes:
                return True  # another caller has done it
            return await self._remove_finished(jetstream, None) > 0

    async def _remove_finished(self, jetstream: JetStreamContext, older_than: timedelta | None) -> int:
        """Remove processed messages that are older, or exceed the size limit; return their number."""
        slowest = await self._consumers.slowest()
        state = (await jetstream.stream_info(self._stream.name)).state
        # The newest message stays, as in every log.
        finished = min(message_sequence(slowest), state.last_seq - 1)
        if finished < state.first_seq or not state.messages:
            return 0
        last = 0 if older_than is None else await self._last_before(jetstream, self._clock.now() - older_than)
        if state.bytes > NEARLY_FULL * self._max_bytes:
            excess = state.bytes - NEARLY_FULL_TARGET * self._max_bytes
            last = max(last, state.first_seq + math.ceil(excess / (state.bytes / state.messages)))
        last = min(last, finished)
        if last == message_sequence(slowest) and not await self._is_all_finished(jetstream, slowest):
            last -= 1
        if last < state.first_seq:
            return 0
        await jetstream.purge_stream(self._stream.name, seq=last + 1)
        return last - state.first_seq + 1

    async def _is_all_finished(self, jetstream: JetStreamContext, position: int) -> bool:
        """Return whether the message at a position has no entries after it."""
        sequence = message_sequence(position)
        try:
            message = await jetstream.get_msg(self._stream.name, seq=sequence)
        except NotFoundError:
            return True
        return stored_entries(sequence, message.data or b"")[-1].last <= position

    async def _last_before(self, jetstream: JetStreamContext, moment: datetime) -> int:
        """Return the sequence number of the last message before a time. A consumer that starts there reports it."""
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_TIME,
            opt_start_time=moment,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=1.0,
        )
        info = await jetstream.add_consumer(self._stream.name, config)
        await jetstream.delete_consumer(self._stream.name, info.name)
        assert info.delivered is not None
        return info.delivered.stream_seq
