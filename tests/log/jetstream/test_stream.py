"""The stream: its creation, unsafe configurations, and the continuation of its numbers."""

from typing import Any

import nats
import pytest
from nats.js.api import DiscardPolicy, PersistMode, RetentionPolicy, StorageType, StreamConfig

from headwater.base.errors import Unavailable
from headwater.log import LogEntry
from headwater.log.jetstream import connection
from headwater.log.jetstream.stream import unsafe
from tests.log.conftest import SMALL
from tests.log.jetstream.conftest import OpenJetStream, read_rejection
from tests.nats import NatsServer

SAFE: dict[str, Any] = {
    "name": "S",
    "subjects": ["S.frames"],
    "storage": StorageType.FILE,
    "retention": RetentionPolicy.LIMITS,
    "discard": DiscardPolicy.NEW,
    "max_age": 0.0,
    "num_replicas": 1,
}


def test_a_safe_stream_is_taken() -> None:
    assert unsafe(StreamConfig(**SAFE), "S.frames", 1) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"storage": StorageType.MEMORY}, "must be stored in files"),
        ({"retention": RetentionPolicy.WORK_QUEUE}, "must have the retention policy limits"),
        ({"discard": DiscardPolicy.OLD}, "must discard new messages"),
        ({"max_age": 3600.0}, "must not remove messages by age"),
        ({"max_msgs_per_subject": 1000}, "must not limit the messages of a subject"),
        ({"no_ack": True}, "must acknowledge"),
        ({"sealed": True}, "must not be sealed"),
        ({"deny_purge": True}, "must allow to purge"),
        ({"persist_mode": PersistMode.ASYNC}, "must not acknowledge before it has written"),
        ({"subjects": ["S.frames", "other"]}, "must have the one subject S.frames"),
    ],
)
def test_a_stream_that_could_lose_entries_is_rejected(changed: dict[str, Any], reason: str) -> None:
    assert reason in str(unsafe(StreamConfig(**{**SAFE, **changed}), "S.frames", 1))


def test_fewer_replicas_than_configured_are_rejected() -> None:
    assert "has 1 replicas" in str(unsafe(StreamConfig(**SAFE), "S.frames", 3))
    assert unsafe(StreamConfig(**{**SAFE, "num_replicas": 5}), "S.frames", 3) is None


async def test_makes_the_stream_as_it_must_be(nats_server: NatsServer, open_jetstream: OpenJetStream) -> None:
    name = nats_server.stream()
    await open_jetstream(nats_server, stream=name).append(LogEntry(1, b"", b"x"))
    client = await nats.connect(nats_server.url)
    info = await client.jetstream().stream_info(name)
    await client.close()
    assert unsafe(info.config, f"{name}.frames", 1) is None
    assert info.config.max_bytes == SMALL


async def test_an_unsafe_stream_is_unavailable_until_it_was_changed(
    nats_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CHECK_SECONDS", 0.05)
    name = nats_server.stream()
    client = await nats.connect(nats_server.url)
    jetstream = client.jetstream()
    config = StreamConfig(**{**SAFE, "name": name, "subjects": [f"{name}.frames"], "discard": DiscardPolicy.OLD})
    await jetstream.add_stream(config)
    log = open_jetstream(nats_server, stream=name)
    monkeypatch.setattr(connection, "READY_SECONDS", 0.3)
    rejection = await read_rejection(lambda: log.append(LogEntry(1, b"", b"x")))
    assert f"the stream {name} must discard new messages" in rejection
    monkeypatch.undo()
    await jetstream.update_stream(config, discard=DiscardPolicy.NEW)
    await log.append(LogEntry(1, b"", b"x"))
    await client.close()


async def test_the_size_of_the_stream_follows_the_settings(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    name = nats_server.stream()
    for max_bytes in (SMALL, 2 * SMALL, SMALL):
        log = open_jetstream(nats_server, stream=name, max_bytes=max_bytes)
        await log.append(LogEntry(1, b"", b"x"))
        await log.close()
        client = await nats.connect(nats_server.url)
        assert (await client.jetstream().stream_info(name)).config.max_bytes == max_bytes
        await client.close()


async def test_a_new_stream_goes_on_after_what_was_finished(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    """After a change from SQLite to NATS, consumers would treat lower positions as old ones."""
    log = open_jetstream(nats_server, stream=nats_server.stream(), finished=lambda: 5_000_000)
    assert await log.append(LogEntry(1, b"", b"x")) > 5_000_000


async def test_a_stream_that_is_older_than_what_was_read_goes_on_after_it(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    name = nats_server.stream()
    old = open_jetstream(nats_server, stream=name)
    position = await old.append(LogEntry(1, b"", b"old"))
    await old.close()
    log = open_jetstream(nats_server, stream=name, finished=lambda: position + 1_000_000)
    assert await log.append(LogEntry(1, b"", b"new")) > position + 1_000_000


async def test_a_stream_that_is_deleted_while_open_is_created_again_with_higher_positions(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    name = nats_server.stream()
    log = open_jetstream(nats_server, stream=name)
    before = [await log.append(LogEntry(1, b"", b"x")) for _ in range(3)]
    client = await nats.connect(nats_server.url)
    await client.jetstream().delete_stream(name)
    assert await log.append(LogEntry(1, b"", b"y")) > before[-1]
    await client.close()


async def test_a_stream_that_is_recreated_while_open_is_not_written_at_old_positions(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    name = nats_server.stream()
    finished = 0
    log = open_jetstream(nats_server, stream=name, finished=lambda: finished)
    for _ in range(3):
        finished = await log.append(LogEntry(1, b"", b"x"))
    client = await nats.connect(nats_server.url)
    jetstream = client.jetstream()
    config = (await jetstream.stream_info(name)).config
    await jetstream.delete_stream(name)
    await jetstream.add_stream(config, first_seq=1)
    with pytest.raises(Unavailable, match="was replaced"):
        await log.append(LogEntry(1, b"", b"y"))
    assert await log.append(LogEntry(1, b"", b"y")) > finished
    await client.close()
