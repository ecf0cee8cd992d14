"""Reads the stream in order, from any position.

Each reader creates a private pull consumer without acknowledgements, because positions are kept elsewhere. After any
irregularity (a lost connection, a missing message, a caller that goes back) the reader abandons it and creates another
one at the caller's position.
"""

import asyncio
import json
from collections import deque
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header
from nats.js.errors import NotFoundError

from headwater.log.contract import StoredEntry
from headwater.log.jetstream.connection import REQUEST_SECONDS, Connection, as_unavailable
from headwater.log.jetstream.message import message_sequence, stored_entries
from headwater.log.jetstream.stream import Stream

PULL_BYTES: Final = 4 * 1024 * 1024
"""Size of one request, which bounds the messages that wait here to be read."""
PULL_MESSAGES: Final = 10_000
PULL_SECONDS: Final = 5
IDLE_SECONDS: Final = 30.0
"""Time without a request after which JetStream deletes a consumer."""
MAX_READERS: Final = 4


class Readers:
    """Readers for several callers at different positions, such as a consumer and a tail, which do not delay one
    another.

    Above `MAX_READERS` callers, some wait.
    """

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._readers: list[Reader] = []

    async def read(self, after: int, *, max_bytes: int, wait: float) -> list[StoredEntry]:
        """See `EventLog.read`."""
        return await self._reader(after).read(after, max_bytes=max_bytes, wait=wait)

    async def close(self) -> None:
        """Abandon the consumers."""
        for reader in self._readers:
            await reader.close()

    def _reader(self, after: int) -> "Reader":
        """Return an idle reader, preferably one that is at this position already."""
        idle = [reader for reader in self._readers if not reader.is_busy]
        for reader in idle:
            if reader.position == after:
                return reader
        if len(self._readers) < MAX_READERS:
            self._readers.append(Reader(self._connection, self._stream))
            return self._readers[-1]
        return min(idle or self._readers, key=lambda reader: reader.used_at)


class Reader:
    """One reading position in the stream. Its calls run one after another."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._consumer: _Consumer | None = None
        self._one_at_a_time = asyncio.Lock()
        self._left: deque[StoredEntry] = deque()
        """Entries of the last message that were not returned yet."""
        self.position = 0
        """The position after which it continues without another consumer."""
        self.used_at = 0.0

    @property
    def is_busy(self) -> bool:
        """True while a call is in progress."""
        return self._one_at_a_time.locked()

    async def read(self, after: int, *, max_bytes: int, wait: float) -> list[StoredEntry]:
        """See `EventLog.read`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        entries: list[StoredEntry] = []
        async with self._one_at_a_time, as_unavailable():
            while max_bytes > 0:
                consumer = await self._consumer_after(after)
                if self._left:
                    entries.append(self._left.popleft())
                    self.position = after = entries[-1].last
                    max_bytes -= entries[-1].entry.size
                    continue
                waiting = 0.0 if entries else deadline - loop.time()
                message = await consumer.next(max(waiting, REQUEST_SECONDS if consumer.more else 0.0))
                if message is not None:
                    self._left.extend(self._after(message, after))
                elif entries or loop.time() > deadline + 2 * REQUEST_SECONDS or not await consumer.is_behind():
                    break
            self.used_at = loop.time()
        return entries

    async def close(self) -> None:
        """Abandon the consumer."""
        if self._consumer is not None:
            await self._consumer.close()

    def _after(self, message: Msg, after: int) -> list[StoredEntry]:
        """Return the entries of a message after a position. The first has the number of bytes that were missed before
        it."""
        self._stream.observe_size(len(message.data))
        sequence = message.metadata.sequence.stream
        entries = [stored for stored in stored_entries(sequence, message.data) if stored.position > after]
        missed = sequence - message_sequence(after) - 1 if after else 0
        if entries and missed > 0:
            entries[0] = msgspec.structs.replace(entries[0], missed_bytes=missed * len(message.data))
        return entries

    async def _consumer_after(self, after: int) -> "_Consumer":
        if self._consumer is not None and self.position == after and self._consumer.is_usable():
            return self._consumer
        await self.close()
        self._consumer = None
        self._left.clear()
        jetstream = await self._connection.ready()
        # The message at this position comes again: it may hold entries after it.
        self._consumer = consumer = _Consumer(
            self._connection, jetstream, self._stream.name, message_sequence(after) - 1
        )
        await consumer.open()
        self.position = after
        return consumer


class _Consumer:
    """A consumer of JetStream, with the messages that it has delivered so far."""

    def __init__(self, connection: Connection, jetstream: JetStreamContext, stream: str, after: int) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._client = connection.client
        self._losses = connection.losses
        self._stream = stream
        self._after = max(0, after)
        self._delivered = 0
        self._broken = False
        self._messages: asyncio.Queue[Msg] = asyncio.Queue()  # the size of requests bounds it
        self._pull_ends: float | None = None
        self._subscription: Subscription | None = None
        self._inbox = self._client.new_inbox()
        self._name = ""
        self._next_subject = ""
        self.more = False
        """True if there are messages that will arrive."""

    async def open(self) -> None:
        """Create the consumer on the server."""
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._after + 1,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=IDLE_SECONDS,
        )
        info = await self._jetstream.add_consumer(self._stream, config)
        self._name = info.name
        self.more = bool(info.num_pending)
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{info.name}"
        self._subscription = await self._client.subscribe(self._inbox, cb=self._messages.put)

    def is_usable(self) -> bool:
        """Return whether the next message will be the one after the last."""
        return not self._broken and self._losses == self._connection.losses

    async def next(self, seconds: float) -> Msg | None:
        """Return the next message; None if none arrives in time, or the consumer must be abandoned."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._broken:
            message = await self._arrived(deadline)
            if message is None:
                return None
            if message.headers is None or Header.STATUS not in message.headers:
                return self._taken(message)
            self._pull_ends = None
            self._broken = not _is_usual_end(message.headers)
        return None

    async def is_behind(self) -> bool:
        """Ask the server whether there is a message that was not read yet, or another consumer is needed."""
        if self.more:  # and yet it did not arrive
            self._broken = True
        if self._broken:
            return True
        try:
            info = await self._jetstream.consumer_info(self._stream, self._name)
        except NotFoundError:
            self._broken = True
            return True
        delivered = info.delivered.consumer_seq if info.delivered else 0
        self.more = bool(info.num_pending) or delivered > self._delivered
        return self.more

    async def close(self) -> None:
        """Stop receiving. The server deletes the consumer by itself."""
        if self._subscription is not None and not self._client.is_closed:
            await self._subscription.unsubscribe()

    async def _arrived(self, deadline: float) -> Msg | None:
        """Return a message or the end of a request that has arrived, or arrives until the deadline."""
        if not self._messages.empty():
            return self._messages.get_nowait()
        now = asyncio.get_running_loop().time()
        if self._pull_ends is None:
            await self._pull(now)
        elif self._pull_ends + REQUEST_SECONDS < now:  # no response at all: the request was lost
            self._broken = True
            return None
        try:
            async with asyncio.timeout_at(deadline):
                return await self._messages.get()
        except TimeoutError:
            return None

    def _taken(self, message: Msg) -> Msg | None:
        numbers = message.metadata
        if numbers.sequence.consumer != self._delivered + 1:
            self._broken = True
            return None
        self._delivered += 1
        self.more = numbers.num_pending > 0
        return message

    async def _pull(self, now: float) -> None:
        largest = 2 * self._connection.max_payload  # otherwise a message could be too large for every request
        request = {"batch": PULL_MESSAGES, "max_bytes": max(PULL_BYTES, largest), "expires": PULL_SECONDS * 10**9}
        self._pull_ends = now + PULL_SECONDS
        await self._client.publish(self._next_subject, json.dumps(request).encode(), reply=self._inbox)


def _is_usual_end(headers: dict[str, str]) -> bool:
    """Return whether a request ended regularly: its time is over, or all its bytes have arrived."""
    return headers[Header.STATUS] == "408" or "MaxBytes" in headers.get(Header.DESCRIPTION, "")
