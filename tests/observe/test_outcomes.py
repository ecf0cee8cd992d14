"""Outcomes of deliveries between processes: only what is watched travels, and losses are counted."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from headwater.base.outcomes import NO_OUTCOMES, DeliveryOutcome, Outcomes
from headwater.observe import natsoutcomes, outcomes
from headwater.observe.live import Selection
from headwater.observe.outcomes import (
    LocalOutcomeFeed,
    LocalOutcomes,
    OutcomeFeed,
    decode_packet,
    open_outcome_feed,
    open_outcomes,
    packets,
)
from headwater.observe.watching import Watcher
from tests.nats import NatsServer


def outcome(workspace: int = 1, id_: str = "m", *, destination: int = 7, message: str = "") -> DeliveryOutcome:
    return DeliveryOutcome(workspace, destination, 8, 9, id_, "Passed", 1_700_000_000_000_000, message=message)


class Recorder:
    """A receiver that keeps everything."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.lost = 0

    def receive(self, outcomes: Sequence[DeliveryOutcome], lost: int) -> None:
        self.ids += [each.message_id for each in outcomes]
        self.lost += lost


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(params=["local", "nats"])
def url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "local":
        return None
    server: NatsServer = request.getfixturevalue("nats_server")
    return server.url


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    server = NatsServer()
    yield server
    server.close()


@asynccontextmanager
async def opened(folder: Path, url: str | None, feeds: int = 1) -> AsyncIterator[tuple[Outcomes, list[OutcomeFeed]]]:
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(open_outcomes(folder, url))
        yield (
            publisher,
            [await stack.enter_async_context(open_outcome_feed(folder, f"backend-{n}", url)) for n in range(feeds)],
        )


async def test_nothing_is_wanted_while_nobody_watches(tmp_path: Path, url: str | None) -> None:
    async with opened(tmp_path / "outcomes", url) as (publisher, _):
        assert not publisher.is_watched(1)
        publisher.publish([outcome()])
    assert not NO_OUTCOMES.is_watched(1)
    NO_OUTCOMES.publish([outcome()])


async def test_each_watching_process_gets_the_outcomes_of_its_workspaces(tmp_path: Path, url: str | None) -> None:
    async with opened(tmp_path, url, feeds=3) as (publisher, (first, second, third)):
        receivers = [Recorder() for _ in range(4)]
        await first.subscribe(1, receivers[0].receive)
        await first.subscribe(1, receivers[1].receive)
        await second.subscribe(1, receivers[2].receive)
        await third.subscribe(2, receivers[3].receive)
        await until(lambda: publisher.is_watched(1) and publisher.is_watched(2))
        publisher.publish([outcome(1, "a"), outcome(2, "b"), outcome(3, "c"), outcome(1, "d")])
        await until(lambda: all(each.ids for each in receivers))
        assert [each.ids for each in receivers] == [["a", "d"]] * 3 + [["b"]]
        assert sum(each.lost for each in receivers) == 0


async def test_nothing_comes_after_the_last_receiver_has_left(
    tmp_path: Path, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(natsoutcomes, "FORGET_SECONDS", 0.3)
    monkeypatch.setattr(natsoutcomes, "REPEAT_SECONDS", 0.05)
    async with opened(tmp_path, url) as (publisher, (feed,)):
        receiver = Recorder()
        await feed.subscribe(1, receiver.receive)
        await until(lambda: publisher.is_watched(1))
        feed.unsubscribe(1, receiver.receive)
        feed.unsubscribe(1, receiver.receive)
        await until(lambda: not publisher.is_watched(1))
        publisher.publish([outcome()])
        await asyncio.sleep(0)
        assert receiver.ids == []
    assert os.listdir(tmp_path) == []


async def test_many_outcomes_arrive_in_order(tmp_path: Path, url: str | None) -> None:
    ids = [str(number) for number in range(1_000)]
    async with opened(tmp_path, url) as (publisher, (feed,)):
        receiver = Recorder()
        await feed.subscribe(1, receiver.receive)
        await until(lambda: publisher.is_watched(1))
        for start in range(0, 1_000, 100):
            publisher.publish([outcome(1, id_) for id_ in ids[start : start + 100]])
            await asyncio.sleep(0.01)
        await until(lambda: len(receiver.ids) + receiver.lost == 1_000)
        assert receiver.ids == ids


def test_packets_are_small_and_have_everything() -> None:
    large = [outcome(1, str(number), message="x" * 5_000) for number in range(30)]
    found = list(packets([outcome(1, "first"), *large, outcome(1, "last", message="y" * 100_000)], lost=4))
    assert [data for data, _ in found[:-1] if data is None or len(data) > outcomes.MAX_PACKET_BYTES] == []
    assert found[-1] == (None, 1)
    read = [decode_packet(data) for data, _ in found if data is not None]
    assert [each.message_id for packet in read for each in packet.outcomes] == ["first", *map(str, range(30))]
    assert [packet.lost for packet in read] == [4] + [0] * (len(read) - 1)
    assert sum(count for _, count in found) == 32 + 4


async def test_a_receiver_that_does_not_read_gets_the_number_of_its_losses(tmp_path: Path) -> None:
    publisher, feed, receiver = LocalOutcomes(tmp_path), LocalOutcomeFeed(tmp_path, "backend"), Recorder()
    await feed.subscribe(1, receiver.receive)
    for number in range(2_000):  # the event loop does not run meanwhile
        publisher.publish([outcome(1, str(number))])
    await until(lambda: bool(receiver.ids))
    publisher.publish([outcome(1, "last")])
    await until(lambda: receiver.ids[-1] == "last")
    assert 0 < receiver.lost < 2_000
    assert len(receiver.ids) + receiver.lost == 2_001
    await feed.close()
    publisher.close()


async def test_the_socket_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(tmp_path / "1.backend"))
    left.close()
    publisher, feed, receiver = LocalOutcomes(tmp_path), LocalOutcomeFeed(tmp_path, "backend"), Recorder()
    publisher.publish([outcome(1, "nobody")])
    await feed.subscribe(1, receiver.receive)
    publisher.publish([outcome(1, "somebody")])
    await until(lambda: bool(receiver.ids))
    assert (receiver.ids, receiver.lost) == (["somebody"], 1)
    await feed.close()
    publisher.close()


async def test_what_is_no_packet_is_ignored(tmp_path: Path) -> None:
    feed, receiver = LocalOutcomeFeed(tmp_path, "backend"), Recorder()
    await feed.subscribe(1, receiver.receive)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"\xc1", str(tmp_path / "1.backend"))
        sender.sendto(b"", str(tmp_path / "1.backend"))
    publisher = LocalOutcomes(tmp_path)
    publisher.publish([outcome()])
    await until(lambda: bool(receiver.ids))
    await feed.close()
    publisher.close()


async def test_a_watcher_of_a_destination_gets_its_outcomes_alone() -> None:
    watcher = Watcher(Selection(1), 7)
    watcher.put_outcomes([outcome(destination=6), outcome(destination=7)], 2)
    watched = await watcher.next(1)
    assert ([each.destination for each in watched.outcomes], watched.omitted_outcomes) == ([7], 2)


async def test_nats_that_is_down_holds_up_nobody(tmp_path: Path, own_server: NatsServer) -> None:
    own_server.stop()
    async with opened(tmp_path, own_server.url) as (publisher, (feed,)):
        receiver = Recorder()
        await feed.subscribe(1, receiver.receive)
        publisher.publish([outcome()])
        own_server.start()
        await until(lambda: publisher.is_watched(1))
        publisher.publish([outcome(1, "later")])
        await until(lambda: bool(receiver.ids))
        assert receiver.ids == ["later"]


@pytest.fixture
def own_server() -> Iterator[NatsServer]:
    server = NatsServer()
    yield server
    server.close()
