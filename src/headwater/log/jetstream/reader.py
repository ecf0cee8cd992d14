"""Reads the stream in order, from any sequence number.

A pull consumer of the stream's own making, which nobody but this process knows, delivers without acknowledgements: how
far we are is not its business. Whenever anything is odd (the connection was lost, a message is missing, the caller goes
back), it is left behind and another one begins where the caller is.
"""

import asyncio
import json
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header
from nats.js.errors import NotFoundError

from headwater.log.contract import StoredEntry
from headwater.log.jetstream.connection import REQUEST_SECONDS, Connection, as_unavailable
from headwater.log.jetstream.message import decode_frame, position_of
from headwater.log.jetstream.stream import Stream

PULL_BYTES: Final = 4 * 1024 * 1024
"""How much is asked for at once, and so how much may wait here to be read."""
PULL_MESSAGES: Final = 10_000
PULL_SECONDS: Final = 5
IDLE_SECONDS: Final = 30.0
"""After so long without a request JetStream forgets a consumer."""


class Reader:
    """One reading position in the stream. Calls wait for one another."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._consumer: _Consumer | None = None
        self._one_at_a_time = asyncio.Lock()

    async def read(self, after: int, *, max_bytes: int, wait: float) -> list[StoredEntry]:
        """The frames after sequence number `after`; see `EventLog.read`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        entries: list[StoredEntry] = []
        async with self._one_at_a_time, as_unavailable():
            while max_bytes > 0:
                consumer = await self._consumer_after(after)
                waiting = 0.0 if entries else deadline - loop.time()
                message = await consumer.next(max(waiting, REQUEST_SECONDS if consumer.more else 0.0))
                if message is not None:
                    after = message.metadata.sequence.stream
                    entries.append(StoredEntry(position_of(after), decode_frame(message.data)))
                    max_bytes -= entries[-1].entry.size
                elif entries or loop.time() > deadline + 2 * REQUEST_SECONDS or not await consumer.is_behind():
                    break
        return entries

    async def close(self) -> None:
        """Forget the consumer."""
        if self._consumer is not None:
            await self._consumer.close()

    async def _consumer_after(self, after: int) -> "_Consumer":
        if self._consumer is not None and self._consumer.goes_on(after):
            return self._consumer
        await self.close()
        self._consumer = None
        jetstream = await self._connection.ready()
        self._consumer = consumer = _Consumer(self._connection, jetstream, self._stream.name, after)
        await consumer.open()
        return consumer


class _Consumer:
    """A consumer of JetStream, with the messages that it has delivered so far."""

    def __init__(self, connection: Connection, jetstream: JetStreamContext, stream: str, after: int) -> None:
        self._connection = connection
        self._jetstream = jetstream
        self._client = connection.client
        self._losses = connection.losses
        self._stream = stream
        self._after = after
        self._delivered = 0
        self._broken = False
        self._messages: asyncio.Queue[Msg] = asyncio.Queue()  # bounded by what is asked for
        self._pull_ends: float | None = None
        self._subscription: Subscription | None = None
        self._inbox = self._client.new_inbox()
        self._name = ""
        self._next_subject = ""
        self.more = False
        """Whether there are messages that are bound to arrive."""

    async def open(self) -> None:
        """Make it, at the server."""
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

    def goes_on(self, after: int) -> bool:
        """Whether the next message is the first after `after`."""
        return not self._broken and self._after == after and self._losses == self._connection.losses

    async def next(self, seconds: float) -> Msg | None:
        """The next message; None when there is none within the time, or the consumer is to be left behind."""
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
        """Ask the server whether there is a message that was not taken yet, or whether another consumer is needed."""
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
        """Hear no more of it; the server forgets it by itself."""
        if self._subscription is not None and not self._client.is_closed:
            await self._subscription.unsubscribe()

    async def _arrived(self, deadline: float) -> Msg | None:
        """What has arrived, or arrives until the deadline: a message, or the end of a request."""
        if not self._messages.empty():
            return self._messages.get_nowait()
        now = asyncio.get_running_loop().time()
        if self._pull_ends is None:
            await self._pull(now)
        elif self._pull_ends + REQUEST_SECONDS < now:  # and no word of it: the request was lost
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
        self._after = numbers.sequence.stream
        self.more = numbers.num_pending > 0
        return message

    async def _pull(self, now: float) -> None:
        largest = 2 * self._connection.max_payload  # or a message could be too large for every request
        request = {"batch": PULL_MESSAGES, "max_bytes": max(PULL_BYTES, largest), "expires": PULL_SECONDS * 10**9}
        self._pull_ends = now + PULL_SECONDS
        await self._client.publish(self._next_subject, json.dumps(request).encode(), reply=self._inbox)


def _is_usual_end(headers: dict[str, str]) -> bool:
    """Whether a request ended because it had waited for long enough, or had brought as many bytes as it asked for."""
    return headers[Header.STATUS] == "408" or "MaxBytes" in headers.get(Header.DESCRIPTION, "")
