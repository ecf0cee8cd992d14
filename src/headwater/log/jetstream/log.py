"""The log on JetStream: appends, and what of the contract is put together from the modules beside this one."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, PubAck
from nats.js.errors import APIError, NotFoundError

from headwater.base.clock import Clock
from headwater.base.errors import TooManyRequests, Unavailable
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.log.backpressure import BackPressure
from headwater.log.contract import Lease, LogEntry, StoredEntry
from headwater.log.jetstream.connection import Connection, as_unavailable
from headwater.log.jetstream.consumers import Consumers
from headwater.log.jetstream.message import HEADERS_BYTES, decode_frame, encode_frame, position_of, sequence_of
from headwater.log.jetstream.reader import Reader
from headwater.log.jetstream.stream import Stream

DEFAULT_STREAM: Final = "HEADWATER"
APPEND_SECONDS: Final = 5.0
"""How long a frame may take to be acknowledged, with everything that is tried again: longer than a connection that is
down is waited for, which tells its reason."""
ACK_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.1
MAX_IN_FLIGHT: Final = 256
"""Messages that wait for their acknowledgement; more would be no faster."""
MAX_PENDING_BYTES: Final = 32 * 1024 * 1024
"""How much may wait to be written before callers are told to come back later."""
FULL: Final = frozenset((10077, 10047, 10023))
"""Error codes of JetStream: the stream, the account or the server has no room for another message."""
NEARLY_FULL: Final = 0.9
ROOMY: Final = 0.8
"""Beyond the first part of its bound finished frames leave the log early, until it is down to the second."""


class JetStreamEventLog:
    """An `EventLog` in a stream of NATS. Open it on a running event loop; close it when done.

    It may be opened while NATS is away: then everything is Unavailable, until it is there.
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
        """`finished` tells the position up to which consumers have finished: new positions come after it.

        `largest_body` is that of a frame, for a warning where the server takes no messages so large.
        """
        self._clock = clock
        self._identifiers = identifiers
        self._max_bytes = max_bytes
        self._back_pressure = back_pressure
        self._metrics = metrics
        self._stream = Stream(stream, max_bytes=max_bytes, replicas=replicas, finished=finished)
        self._connection = Connection(url, self._stream.prepare, largest_message=largest_body + HEADERS_BYTES)
        self._reader = Reader(self._connection, self._stream)
        self._consumers = Consumers(self._connection, self._stream, identifiers.nonce().hex())
        self._window = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._making_room = asyncio.Lock()
        self._pending_bytes = 0
        self._nothing_pending = asyncio.Event()
        self._nothing_pending.set()
        self._closed = False

    async def append(self, entry: LogEntry) -> int:
        if self._closed:
            raise Unavailable("the event log is closed")
        if self._back_pressure is not None:
            self._back_pressure.check()
        if self._pending_bytes and self._pending_bytes + entry.size > MAX_PENDING_BYTES:
            raise TooManyRequests("too many events wait to be written")
        self._pending_bytes += entry.size
        self._nothing_pending.clear()
        try:
            async with asyncio.timeout(APPEND_SECONDS), self._window:
                began = time.perf_counter()
                sequence = await self._publish(entry)
                self._metrics.log_committed(1, time.perf_counter() - began)
                return position_of(sequence)
        except TimeoutError:
            raise Unavailable(f"the event log did not acknowledge within {APPEND_SECONDS:.0f} seconds") from None
        finally:
            self._pending_bytes -= entry.size
            if not self._pending_bytes:
                self._nothing_pending.set()

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        return await self._reader.read(sequence_of(after), max_bytes=max_bytes, wait=wait.total_seconds())

    async def lease(self, consumer: str) -> Lease:
        return await self._consumers.lease(consumer)

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
        return position_of(last) + decode_frame(message.data).events - 1

    async def backlog_bytes(self) -> int:
        jetstream = await self._connection.ready()
        finished = min((await self.cursors()).values(), default=0)
        async with as_unavailable():
            state = (await jetstream.stream_info(self._stream.name)).state
        unfinished = min(state.messages, state.last_seq - sequence_of(finished))
        return self._stream.bytes_of(max(0, unfinished))

    async def trim(self, *, older_than: timedelta) -> int:
        jetstream = await self._connection.ready()
        async with as_unavailable():
            return await self._remove_finished(jetstream, older_than)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._nothing_pending.wait()
        await self._consumers.close()
        await self._reader.close()
        await self._connection.close()

    async def _publish(self, entry: LogEntry) -> int:
        """Publish until it is acknowledged, and return the sequence number."""
        headers = {"Nats-Msg-Id": self._identifiers.nonce().hex()}
        jetstream = await self._connection.ready()
        message = encode_frame(entry, self._connection.max_payload)
        before = self._stream.highest
        has_made_room = False
        while True:
            try:
                acknowledged = await jetstream.publish(
                    self._stream.subject, message, timeout=ACK_SECONDS, stream=self._stream.name, headers=dict(headers)
                )
            except APIError as refusal:  # a word from the server: it is not stored
                if refusal.err_code in FULL and not has_made_room and await self._make_room(jetstream):
                    has_made_room = True
                    continue
                raise Unavailable(f"the event log cannot be written: {refusal.description}") from refusal
            except (nats.errors.Error, OSError):  # it may be stored or not
                await asyncio.sleep(RETRY_SECONDS)
                jetstream = await self._connection.ready()
            else:
                return self._checked(acknowledged, before, len(message))

    def _checked(self, acknowledged: PubAck, before: int, size: int) -> int:
        """The sequence number, unless it is one that consumers may have behind them: then the frame would be lost."""
        if acknowledged.seq <= before and not acknowledged.duplicate:
            self._connection.doubt()
            raise Unavailable("the event log was made anew while it was written to")
        self._stream.note(acknowledged.seq, size)
        return acknowledged.seq

    async def _make_room(self, jetstream: JetStreamContext) -> bool:
        """Remove finished frames before their time; whether there may be room now."""
        async with self._making_room, as_unavailable():
            state = (await jetstream.stream_info(self._stream.name)).state
            if state.bytes < NEARLY_FULL * self._max_bytes:
                return True  # another caller has made it
            return await self._remove_finished(jetstream, None) > 0

    async def _remove_finished(self, jetstream: JetStreamContext, older_than: timedelta | None) -> int:
        """Remove what is finished and older, or in the way; return how many messages that were."""
        cursors = await self.cursors()
        state = (await jetstream.stream_info(self._stream.name)).state
        # The newest stays, as in every log.
        finished = min(sequence_of(min(cursors.values(), default=0)), state.last_seq - 1)
        if finished < state.first_seq or not state.messages:
            return 0
        last = 0 if older_than is None else await self._last_before(jetstream, self._clock.now() - older_than)
        if state.bytes > NEARLY_FULL * self._max_bytes:
            excess = state.bytes - ROOMY * self._max_bytes
            last = max(last, state.first_seq + math.ceil(excess / (state.bytes / state.messages)))
        last = min(last, finished)
        if last < state.first_seq:
            return 0
        await jetstream.purge_stream(self._stream.name, seq=last + 1)
        return last - state.first_seq + 1

    async def _last_before(self, jetstream: JetStreamContext, moment: datetime) -> int:
        """The sequence number of the last message before a moment: a consumer that began there would say so."""
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
