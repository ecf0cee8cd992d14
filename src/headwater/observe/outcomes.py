"""Carries the outcomes of deliveries from the process that delivers to the processes with watchers, on one machine.

A process with watchers binds a datagram socket for each workspace that they watch, and the publisher sends to the
sockets that it finds: nothing while nobody watches, and never the outcomes of a workspace to the watchers of another.
A socket whose queue is full loses outcomes, and receives their number with the next ones.

`headwater.observe.natsoutcomes` does the same between machines.
"""

import asyncio
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from headwater.base.outcomes import DeliveryOutcome, Outcomes

LOOK_SECONDS: Final = 0.25
"""Maximum age of the publisher's knowledge of the sockets."""
MAX_PACKET_BYTES: Final = 60_000
"""Maximum size of a datagram."""
PACKET_OUTCOMES: Final = 100
"""Number of outcomes in a packet, unless they are too large."""
MAX_READ_PACKETS: Final = 32
"""Maximum number of packets that are read without letting other tasks run."""

Receive = Callable[[Sequence[DeliveryOutcome], int], None]
"""Takes outcomes of one workspace, and the number of those that were lost before them."""

_log = structlog.get_logger(__name__)


class Packet(Struct, frozen=True, array_like=True):
    """Outcomes of one workspace on their way. Add fields at the end only, with a default."""

    outcomes: list[DeliveryOutcome]
    lost: int = 0
    """Number of outcomes that were lost before them."""


encode_packet: Final = msgspec.msgpack.Encoder().encode
decode_packet: Final = msgspec.msgpack.Decoder(Packet).decode


class OutcomeFeed:
    """Passes the outcomes of workspaces to receivers. This one has no outcomes to pass."""

    async def subscribe(self, workspace: int, receive: Receive) -> None:
        """Pass the outcomes of a workspace from now on."""

    def unsubscribe(self, workspace: int, receive: Receive) -> None:
        """Pass no more outcomes. Does nothing for a receiver that is not there."""

    async def close(self) -> None:
        """End all subscriptions."""


class Receivers:
    """The receivers of each workspace."""

    def __init__(self) -> None:
        self._receivers: dict[int, list[Receive]] = {}

    def __iter__(self) -> Iterator[int]:
        return iter([*self._receivers])

    def add(self, workspace: int, receive: Receive) -> bool:
        """Add a receiver; return whether it is the first of the workspace."""
        present = self._receivers.setdefault(workspace, [])
        present.append(receive)
        return len(present) == 1

    def remove(self, workspace: int, receive: Receive) -> bool:
        """Remove a receiver; return whether it was the last one of the workspace."""
        present = self._receivers.get(workspace, [])
        if receive not in present:
            return False
        present.remove(receive)
        if not present:
            del self._receivers[workspace]
        return not present

    def receive(self, workspace: int, data: bytes) -> None:
        """Pass on a packet. One that cannot be read is ignored."""
        try:
            packet = decode_packet(data)
        except msgspec.DecodeError:
            _log.warning("outcomes of deliveries cannot be read", workspace=workspace)
            return
        for receive in [*self._receivers.get(workspace, ())]:
            receive(packet.outcomes, packet.lost)


class LocalOutcomeFeed(OutcomeFeed):
    """Receives outcomes from a process of this machine. Used in one event loop."""

    def __init__(self, folder: Path, name: str) -> None:
        """`folder` is shared with the publisher, and `name` is that of this process."""
        self._folder = folder
        self._name = name
        self._receivers = Receivers()
        self._sockets: dict[int, socket.socket] = {}

    async def subscribe(self, workspace: int, receive: Receive) -> None:
        if self._receivers.add(workspace, receive):
            self._bind(workspace)

    def unsubscribe(self, workspace: int, receive: Receive) -> None:
        if self._receivers.remove(workspace, receive):
            self._unbind(workspace)

    async def close(self) -> None:
        for workspace in [*self._sockets]:
            self._unbind(workspace)

    def _bind(self, workspace: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(workspace)
        path.unlink(missing_ok=True)  # of a process of this name that was killed
        bound = self._sockets[workspace] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bound.setblocking(False)
        bound.bind(str(path))
        asyncio.get_running_loop().add_reader(bound.fileno(), self._read, workspace, bound)

    def _unbind(self, workspace: int) -> None:
        bound = self._sockets.pop(workspace, None)
        if bound is not None:
            asyncio.get_running_loop().remove_reader(bound.fileno())
            bound.close()
            self._path(workspace).unlink(missing_ok=True)

    def _read(self, workspace: int, bound: socket.socket) -> None:
        for _ in range(MAX_READ_PACKETS):
            try:
                data = bound.recv(MAX_PACKET_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            self._receivers.receive(workspace, data)

    def _path(self, workspace: int) -> Path:
        return self._folder / f"{workspace}.{self._name}"


class LocalOutcomes(Outcomes):
    """Publishes to the processes of this machine. Used in one thread."""

    def __init__(self, folder: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._paths: dict[int, list[str]] = {}
        """The sockets by workspace."""
        self._lost: Counter[str] = Counter()
        """Number of lost outcomes by socket."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def is_watched(self, workspace: int) -> bool:
        self._look()
        return workspace in self._paths

    def publish(self, outcomes: Sequence[DeliveryOutcome]) -> None:
        self._look()
        if not self._paths:
            return
        for workspace, some in group(outcomes, self._paths).items():
            for path in self._paths[workspace]:
                self._send(path, some)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _look(self) -> None:
        now = self._monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self._paths = {}
        with suppress(OSError):  # without the folder nobody watches
            for name in os.listdir(self._folder):
                workspace, _, process = name.partition(".")
                if workspace.isdecimal() and process:
                    self._paths.setdefault(int(workspace), []).append(str(self._folder / name))
        known = {path for paths in self._paths.values() for path in paths}
        for path in self._lost.keys() - known:
            del self._lost[path]

    def _send(self, path: str, outcomes: Sequence[DeliveryOutcome]) -> None:
        for data, count in packets(outcomes, self._lost.pop(path, 0)):
            if data is not None:
                try:
                    self._socket.sendto(data, path)
                    continue
                except OSError:  # its queue is full, or its process has ended
                    pass
            self._lost[path] += count


def group(outcomes: Iterable[DeliveryOutcome], watched: Iterable[int]) -> dict[int, list[DeliveryOutcome]]:
    """Return the outcomes of watched workspaces, by workspace."""
    wanted = frozenset(watched)
    found: defaultdict[int, list[DeliveryOutcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.workspace in wanted:
            found[outcome.workspace].append(outcome)
    return found


def packets(outcomes: Sequence[DeliveryOutcome], lost: int = 0) -> Iterator[tuple[bytes | None, int]]:
    """Yield packets, each with the number of outcomes that are lost if it does not arrive; None for an outcome that is
    too large. `lost` is the number of outcomes that were lost before."""
    for start in range(0, len(outcomes), PACKET_OUTCOMES):
        yield from _packets(outcomes[start : start + PACKET_OUTCOMES], lost if start == 0 else 0)


def _packets(some: Sequence[DeliveryOutcome], lost: int) -> Iterator[tuple[bytes | None, int]]:
    data = encode_packet(Packet(list(some), lost))
    if len(data) <= MAX_PACKET_BYTES:
        yield data, len(some) + lost
    elif len(some) == 1:
        yield None, 1 + lost
    else:
        middle = len(some) // 2
        yield from _packets(some[:middle], lost)
        yield from _packets(some[middle:], 0)


@asynccontextmanager
async def open_outcomes(folder: Path, nats_url: str | None) -> AsyncIterator[Outcomes]:
    """Open the publisher of a process: for the processes with the same `folder`, or with the same NATS server."""
    if nats_url is None:
        local = LocalOutcomes(folder)
        try:
            yield local
        finally:
            local.close()
        return
    from headwater.observe.natsoutcomes import open_nats_outcomes  # importing its library takes time and memory

    async with open_nats_outcomes(nats_url) as outcomes:
        yield outcomes


@asynccontextmanager
async def open_outcome_feed(folder: Path, name: str, nats_url: str | None) -> AsyncIterator[OutcomeFeed]:
    """Open the feed of the process `name`, which gets what the publishers of `open_outcomes` publish."""
    if nats_url is None:
        feed: OutcomeFeed = LocalOutcomeFeed(folder, name)
    else:
        from headwater.observe.natsoutcomes import NatsOutcomeFeed  # importing its library takes time and memory

        feed = NatsOutcomeFeed(nats_url)
    try:
        yield feed
    finally:
        await feed.close()
