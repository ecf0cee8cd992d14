"""The delivery queue as the simulation needs it: chunks, finished items, dead letters and health, with an owner.

A transaction is applied as a whole, when its fsync ends. One that is under way when its process crashes is lost or kept
by chance.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from headwater.delivery.items import HEALTHY, Dead, Health
from tests.delivery.simulation.world import Violation

LEASE_SECONDS = 15.0


class Event(msgspec.Struct, frozen=True):
    position: int
    at: float
    order_keys: tuple[int, ...]
    user: str
    size: int
    route: int


class Delivery:
    """One event for one pipeline of a destination. `number` is that of its present place in the queue."""

    __slots__ = ("dead", "destination", "event", "is_resent", "key", "number", "pipeline", "sent", "state", "taken")

    def __init__(self, destination: int, pipeline: int, event: Event) -> None:
        self.destination = destination
        self.pipeline = pipeline
        self.event = event
        self.key = f"{destination}-{pipeline}-{event.position}"
        self.number = -1
        self.state: Literal["Unrouted", "Open", "Delivered", "Dead"] = "Unrouted"
        self.dead: Dead | None = None
        self.is_resent = False
        self.sent = 0
        self.taken = 0


class Chunk(msgspec.Struct, eq=False):
    id: int
    destination: int
    enqueued_at: float
    items: list[Delivery]

    def open(self) -> list[Delivery]:
        """Return the items that are not decided. One that is sent again is in another chunk."""
        return [each for each in self.items if self.has_open(each)]

    def has_open(self, delivery: Delivery) -> bool:
        return delivery.state == "Open" and delivery.number >> 20 == self.id


class Commit(msgspec.Struct, eq=False):
    """The content of a transaction of a courier."""

    delivered: dict[int, Delivery]
    dead: dict[int, tuple[Delivery, Dead]]
    health: dict[int, Health]


class Fenced(Exception):
    """Another courier has become the owner."""


class Store:
    """The durable state."""

    def __init__(self, destinations: int, *, has_lease: bool) -> None:
        self._has_lease = has_lease
        self.epoch = 0
        self.holder: object = None
        self.lease_until = 0.0
        self.position = 0
        self.chunks: list[list[Chunk]] = [[] for _ in range(destinations)]
        self.health = [HEALTHY] * destinations
        self.is_full = False
        self.open = 0
        self._last_chunk = 0

    def acquire(self, holder: object, now: float) -> int | None:
        """Make `holder` the owner if there is none. Returns its epoch."""
        if self.holder is not None and (not self._has_lease or self.lease_until > now):
            return None
        self.epoch += 1
        self.holder = holder
        self.lease_until = now + LEASE_SECONDS
        return self.epoch

    def append(self, last_position: int, wanted: Iterable[tuple[int, list[Delivery]]], at: float) -> None:
        """Append what a batch of the log leads to, except events that were appended before."""
        for destination, deliveries in wanted:
            new = [each for each in deliveries if each.event.position > self.position]
            for each in new:
                if each.state != "Unrouted":
                    raise Violation(f"{each.key} is appended twice")
            self.add(destination, new, at)
        self.position = max(self.position, last_position)

    def add(self, destination: int, deliveries: list[Delivery], at: float) -> None:
        """Add a chunk at the end of the queue of a destination."""
        if not deliveries:
            return
        self._last_chunk += 1
        for index, each in enumerate(deliveries):
            each.number = self._last_chunk << 20 | index
            each.state = "Open"
        self.open += len(deliveries)
        self.chunks[destination].append(Chunk(self._last_chunk, destination, at, deliveries))

    def commit(self, epoch: int, commit: Commit) -> None:
        """Store what a courier has finished."""
        self.check_owner(epoch)
        for number, delivery in commit.delivered.items():
            if delivery.number == number and delivery.dead is not _DROPPED:
                self._decide(delivery, "Delivered")
                if not delivery.taken:
                    raise Violation(f"{delivery.key} counts as delivered but has never arrived")
        for number, (delivery, dead) in commit.dead.items():
            if delivery.number == number and delivery.dead is not _DROPPED:
                self._decide(delivery, "Dead")
                delivery.dead = dead
        for destination, health in commit.health.items():
            self.health[destination] = health
        for chunks in self.chunks:
            while chunks and not any(map(chunks[0].has_open, chunks[0].items)):
                chunks.pop(0)

    def check_owner(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise Fenced

    def drop_oldest(self, destination: int) -> None:
        """Make the oldest chunk a dead range, for space."""
        if self.chunks[destination]:
            for each in self.chunks[destination].pop(0).open():
                self._decide(each, "Dead")
                each.dead = _DROPPED

    def resend(self, destination: int, dead: list[Delivery], at: float) -> None:
        """Put dead letters at the end of the queue."""
        for each in dead:
            each.is_resent = True
            each.dead = None
        self.add(destination, dead, at)

    def _decide(self, delivery: Delivery, state: Literal["Delivered", "Dead"]) -> None:
        if delivery.state != "Open":
            raise Violation(f"{delivery.key} is {delivery.state} and becomes {state}")
        delivery.state = state
        self.open -= 1


_DROPPED = Dead(number=-1, pipeline=0, reason="NoSpace")
