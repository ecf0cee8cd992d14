"""The stream of the log: created if it is missing, checked if it exists.

A stream that could lose acknowledged entries is rejected and not changed, because an operator configured it. Its size
follows the settings.
"""

import datetime
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from headwater.base.errors import Unavailable
from headwater.log.jetstream.message import message_sequence

MAX_REPLICAS: Final = 5
DUPLICATE_SECONDS: Final = 120.0
"""Time for which JetStream remembers a `Nats-Msg-Id`. It is far above the time of all retries."""
MIN_PAYLOAD: Final = 64 * 1024

_log = structlog.get_logger(__name__)


class Stream:
    """The stream, and the bucket with leases and cursors."""

    def __init__(self, name: str, *, max_bytes: int, replicas: int, finished: Callable[[], Awaitable[int]]) -> None:
        """`finished` returns the position up to which consumers have processed the log.

        A stream that was created again, or restored from an older copy, would assign numbers that consumers have passed
        already, and those messages would never be read. So its numbers continue after that position.
        """
        self.name = name
        self.subject = f"{name}.frames"
        self._bucket_name = f"{name}-consumers"
        self._max_bytes = max_bytes
        self._replicas = replicas
        self._finished = finished
        self._known: datetime.datetime | None = None
        self._bucket: KeyValue | None = None
        self._mean_bytes = 0.0
        self.highest = 0
        """The highest observed sequence number. Every later message must have a higher one."""

    @property
    def bucket(self) -> KeyValue:
        """The bucket with leases and cursors; set once `prepare` has succeeded."""
        assert self._bucket is not None
        return self._bucket

    async def prepare(self, jetstream: JetStreamContext) -> None:
        """Check the stream and the bucket, and create what is missing. Raises Unavailable with the reason."""
        try:
            info = await jetstream.stream_info(self.name)
        except NotFoundError:
            info = await self._create(jetstream)
        if reason := unsafe(info.config, self.subject, self._replicas):
            raise Unavailable(f"the stream {self.name} {reason}")
        if info.config.max_bytes != self._max_bytes:
            info = await jetstream.update_stream(info.config, max_bytes=self._max_bytes)
        if info.created != self._known or info.state.last_seq < self.highest:
            await self._continue_after_finished(jetstream, info)
            self._known = info.created
        else:
            self.highest = max(self.highest, info.state.last_seq)
        if not self._mean_bytes and info.state.messages:
            self._mean_bytes = info.state.bytes / info.state.messages
        self._bucket = await self._open_bucket(jetstream)

    def observe_acknowledged(self, sequence: int, size: int) -> None:
        """Update the statistics after a message of `size` bytes was acknowledged."""
        self.highest = max(self.highest, sequence)
        self.observe_size(size)

    def observe_size(self, size: int) -> None:
        """Update the mean size of messages, which have many entries in busy hours."""
        self._mean_bytes += (size - self._mean_bytes) / 100 if self._mean_bytes else size

    def estimate_bytes(self, messages: int) -> int:
        """Return the approximate size of this number of newest messages, by the mean of recent ones."""
        return int(messages * self._mean_bytes)

    async def _create(self, jetstream: JetStreamContext) -> StreamInfo:
        first = max(self.highest, message_sequence(await self._finished())) + 1
        config = StreamConfig(
            name=self.name,
            subjects=[self.subject],
            description="Headwater: calls that were accepted. Made and trimmed by Headwater.",
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            max_bytes=self._max_bytes,
            max_age=0,
            num_replicas=self._replicas,
            duplicate_window=DUPLICATE_SECONDS,
            first_seq=first,
        )
        info = await jetstream.add_stream(config)
        _log.info("the stream was created", stream=self.name, first=first)
        return info

    async def _continue_after_finished(self, jetstream: JetStreamContext, info: StreamInfo) -> None:
        """Continue the numbers after `finished`: purging up to there loses nothing, and sets the next number."""
        floor = message_sequence(await self._finished())
        if not info.state.messages:
            floor = max(floor, self.highest)
        if info.state.last_seq < floor:
            _log.warning("the stream is older than what was read from it", stream=self.name, continues_after=floor)
            await jetstream.purge_stream(self.name, seq=floor + 1)
        self.highest = max(info.state.last_seq, floor)

    async def _open_bucket(self, jetstream: JetStreamContext) -> KeyValue:
        try:
            return await jetstream.key_value(self._bucket_name)
        except (BucketNotFoundError, NotFoundError):
            config = KeyValueConfig(
                self._bucket_name,
                description="Headwater: leases and cursors of consumers",
                storage=StorageType.FILE,
                replicas=self._replicas,
                history=1,
            )
            return await jetstream.create_key_value(config)


def unsafe(config: StreamConfig, subject: str, replicas: int) -> str | None:
    """Return the reason why a stream of this configuration could lose entries; None if it cannot."""
    rules = (
        (config.storage == StorageType.FILE, "must be stored in files"),
        (config.retention == RetentionPolicy.LIMITS, "must have the retention policy limits"),
        (config.discard == DiscardPolicy.NEW, "must discard new messages, not old ones, when it is full"),
        (not config.max_age, "must not remove messages by age: Headwater does, once they are finished"),
        ((config.max_msgs_per_subject or -1) < 0, "must not limit the messages of a subject"),
        (not config.no_ack, "must acknowledge"),
        (not config.sealed, "must not be sealed"),
        (not config.deny_purge, "must allow to purge: what is finished is removed so"),
        (config.persist_mode in (None, "", "default"), "must not acknowledge before it has written"),
        (not config.mirror and not config.sources, "must not be a copy of another one"),
        (config.subjects == [subject], f"must have the one subject {subject}"),
        (
            (config.num_replicas or 1) >= replicas,
            f"has {config.num_replicas} replicas, and HEADWATER_NATS_REPLICAS asks for {replicas}",
        ),
    )
    return next((reason for holds, reason in rules if not holds), None)
