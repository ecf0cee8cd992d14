"""A courier as a model: what the asyncio part of delivery does around the lanes, with its effects as calls in virtual
time.

An object is one life of a process. Each effect, which is a read, a request, a response or a commit, is a point at which
it can crash.
"""

from collections.abc import Callable
from random import Random
from typing import Protocol

from msgspec.structs import replace

from headwater.connectors.contract import BatchLimits, EncodedEvent, FailureScope, RateLimit, SendResult, SinkPolicy
from headwater.delivery.backoff import MAX_REQUESTED_SECONDS
from headwater.delivery.items import Dead, LaneItem, LaneLimits
from headwater.delivery.lane import Batch, Lane
from headwater.delivery.rates import AccountRates
from tests.delivery.simulation.plan import MAX_EVENT_BYTES, DestinationPlan, Plan
from tests.delivery.simulation.receiver import DEADLINE_SECONDS
from tests.delivery.simulation.store import LEASE_SECONDS, Chunk, Commit, Delivery, Fenced, Store
from tests.delivery.simulation.world import Process, Violation, World

FLUSH_SECONDS = 0.020
FLUSH_ITEMS = 500
SYNC_SECONDS = 0.005
LOOK_SECONDS = 0.010
LOAD_SECONDS = 0.005
RENEW_SECONDS = 5.0
EXPIRY_LOOK_SECONDS = 30.0
MAX_LATE_SECONDS = DEADLINE_SECONDS + EXPIRY_LOOK_SECONDS + 1.0
"""Maximum delay of expiry: a request in flight, and the time between two looks."""
MAX_WAKES = 1_000
"""Of a lane in one second."""


class Surroundings(Protocol):
    """The rest of the simulation, for a courier."""

    world: World
    store: Store
    plan: Plan
    seed: int
    is_disabled: set[tuple[int, int]]
    version: int

    def effect(self, courier: "Courier") -> None: ...
    def send(self, courier: "Courier", destination: int, batch: Batch) -> None: ...
    def authorize(self, destination: int) -> None: ...
    def stopped(self, courier: "Courier") -> None: ...
    def chance(self) -> bool: ...


def make_policy(plan: DestinationPlan) -> SinkPolicy:
    """Return the policy of a destination."""
    each = RateLimit(count=1, seconds=10.0, window="Fixed" if plan.is_fixed else "Rolling")
    rates = [
        replace(each, count=plan.rate, burst=min(3, plan.rate)),
        replace(each, count=plan.event_rate, burst=3, unit="Event"),
        replace(each, count=plan.user_rate, burst=3, unit="Event", per="User"),
    ]
    return SinkPolicy(
        scope=plan.scope,
        order=plan.order,
        limits=BatchLimits(max_events=plan.max_events, max_bytes=plan.max_bytes),
        rates=tuple([rate for rate in rates if rate.count]),
        max_concurrency=plan.concurrency,
    )


class Destination:
    """The courier's state of one destination."""

    def __init__(self, lane: Lane, limits: LaneLimits) -> None:
        self.lane = lane
        self.limits = limits
        self.health = lane.health
        self.chunk = 0
        """The id of the last chunk that was read, and the next index of it."""
        self.index = 0
        self.finished: set[int] = set()
        """Finished items, whether their commit has ended or not."""
        self.known: dict[int, Delivery] = {}
        self.wakes_at: float | None = None
        self.largest = 0
        """Items of the largest offer."""
        self.wakes = 0
        self.counted_at = -1.0
        """The start of the second in which its wakes are counted."""
        self.not_before = 0.0
        """The time before which the destination asked for no request, on the courier's clock."""
        self.failures = 0
        self.resumed_at = 0.0
        self.is_renewing = False
        """Whether a user is about to renew rejected credentials."""
        self.under_way: dict[Batch, tuple[int, float]] = {}
        """Requests in flight, with the failures in a row before each was sent, and the time of that."""


class Courier(Process):
    """One life of a courier, which owns the queue."""

    def __init__(self, around: Surroundings, epoch: int) -> None:
        super().__init__()
        self._around = around
        self.world, self.store = around.world, around.store
        self.epoch = epoch
        self._clock_offset = self.world.wall_offset
        self.started_at = self.world.now
        self.pending = Commit({}, {}, {})
        self._flushes_at: float | None = None
        self._is_flushing = False
        accounts: dict[int, AccountRates] = {}
        self.destinations: list[Destination] = []
        for number, plan in enumerate(around.plan.destinations):
            account = accounts.setdefault(number if plan.account < 0 else plan.account, AccountRates())
            policy = make_policy(plan)
            limits = LaneLimits(
                max_items=plan.max_items,
                max_bytes=plan.max_window_bytes,
                max_cold_items=plan.max_cold,
                expiry_seconds=around.plan.expiry_seconds,
            )
            health = self.store.health[number]
            lane = Lane(
                policy,
                limits=limits,
                random=Random(f"{around.seed}/lane/{number}/{epoch}"),
                rates=account.rates(policy.rates),
                health=health,
            )
            destination = Destination(lane, limits)
            if health.paused_until is not None:
                destination.not_before = min(health.paused_until, self.clock() + MAX_REQUESTED_SECONDS)
            self.destinations.append(destination)

    def clock(self) -> float:
        return self.world.now + self._clock_offset

    def start(self) -> None:
        self._effect()
        for number in range(len(self.destinations)):
            self.pump(number)
        self._later(RENEW_SECONDS, self._renew)
        self._later(EXPIRY_LOOK_SECONDS, self._look_for_expired)

    def look(self, number: int) -> None:
        """Read new chunks soon."""
        self._later(LOOK_SECONDS, lambda: self.pump(number))

    def pump(self, number: int) -> None:
        """Do all that a destination can do now."""
        destination = self.destinations[number]
        lane = destination.lane
        for dead in lane.expire(self.clock()):
            self._bury(number, dead)
        self._read(number)
        if numbers := lane.reload():
            self._later(LOAD_SECONDS, lambda: self._load(number, numbers))
        while (batch := lane.next_batch(self.clock())) is not None:
            self._effect()
            self._check_sending(destination, batch)
            self._around.send(self, number, batch)
        self._check_memory(number)
        if lane.health is not destination.health:
            destination.health = self.pending.health[number] = lane.health
            self._flush_soon()
        self._wake(number, lane.wake_at())

    def respond(self, number: int, batch: Batch, result: SendResult) -> None:
        """Take the response to a request."""
        self._effect()
        destination = self.destinations[number]
        _, sent_at = destination.under_way.pop(batch)
        failure = result.failure
        if failure is None or failure.scope == "Batch":
            destination.failures = 0
        else:
            destination.failures += 1
            if sent_at >= destination.resumed_at:
                wait = min(failure.retry_after_seconds or 0.0, MAX_REQUESTED_SECONDS)
                destination.not_before = max(destination.not_before, self.clock() + wait)
        completion = destination.lane.complete(batch, result, self.clock())
        for item in completion.delivered:
            self._finish(number, item.number)
            self.pending.delivered[item.number] = destination.known.pop(item.number)
        for dead in completion.dead:
            self._bury(number, dead)
        if completion.delivered:
            self._flush_soon()
        is_rejected = result.failure is not None and result.failure.scope is FailureScope.CREDENTIALS
        if is_rejected and not destination.is_renewing:
            destination.is_renewing = True
            self._later(0.3, lambda: self._renew_credentials(number))
        self.pump(number)

    def disable(self, number: int, pipeline: int) -> None:
        """Forget the items of a pipeline that was disabled."""
        destination = self.destinations[number]
        destination.lane.remove([each for each, known in destination.known.items() if known.pipeline == pipeline])
        self.pump(number)

    def enable(self, number: int) -> None:
        """Read the queue from its start again. The lane ignores what it has."""
        self.destinations[number].chunk = self.destinations[number].index = 0
        self.pump(number)

    def _renew_credentials(self, number: int) -> None:
        """Resume after a user has renewed the credentials."""
        destination = self.destinations[number]
        destination.is_renewing = False
        self._around.authorize(number)
        destination.not_before = 0.0
        destination.failures = 0
        destination.resumed_at = self.world.now
        destination.lane.resume(self.clock())
        self.pump(number)

    # Reading

    def _read(self, number: int) -> None:
        destination = self.destinations[number]
        chunks = self.store.chunks[number]
        for chunk in chunks:
            if chunk.id < destination.chunk:
                continue
            if chunk.id > destination.chunk:
                destination.chunk, destination.index = chunk.id, 0
            while destination.index < len(chunk.items):
                if not (wanted := destination.lane.wanted()):
                    return
                if self._around.plan.destinations[number].has_whole_chunks:
                    wanted = len(chunk.items)
                deliveries = chunk.items[destination.index : destination.index + wanted]
                destination.largest = max(destination.largest, len(deliveries))
                self._effect()
                destination.index += len(deliveries)
                self._offer(number, chunk, deliveries)

    def _offer(self, number: int, chunk: Chunk, deliveries: list[Delivery]) -> None:
        destination = self.destinations[number]
        items = []
        for each in deliveries:
            if chunk.has_open(each) and each.number not in destination.finished and self._is_enabled(each):
                destination.known[each.number] = each
                items.append(self._prepare(each, chunk.enqueued_at))
        destination.lane.offer(items, self.clock())

    def _load(self, number: int, numbers: list[int]) -> None:
        """Read the documents of cold items again."""
        self._effect()
        destination = self.destinations[number]
        chunks = {chunk.id: chunk for chunk in self.store.chunks[number]}
        gone = []
        items = []
        for each in sorted(numbers):
            chunk = chunks.get(each >> 20)
            delivery = destination.known.get(each)
            if chunk is None or delivery is None or not self._is_enabled(delivery):
                gone.append(each)
            else:
                items.append(self._prepare(delivery, chunk.enqueued_at))
        destination.lane.remove(gone)
        destination.lane.offer(items, self.clock())
        self.pump(number)

    def _prepare(self, delivery: Delivery, enqueued_at: float) -> LaneItem:
        event = delivery.event
        plan = self._around.plan.destinations[delivery.destination]
        route = (event.route + self._around.version * delivery.pipeline) % plan.routes
        return LaneItem(
            number=delivery.number,
            pipeline=delivery.pipeline,
            key=delivery.key,
            order_keys=event.order_keys,
            enqueued_at=enqueued_at,
            encoded=EncodedEvent(id=delivery.key, body=bytes(event.size), route=str(route), user=event.user),
        )

    def _is_enabled(self, delivery: Delivery) -> bool:
        return (delivery.destination, delivery.pipeline) not in self._around.is_disabled

    # Finishing

    def _finish(self, number: int, item: int) -> None:
        destination = self.destinations[number]
        if item in destination.finished:
            raise Violation(f"item {item} of destination {number} is finished twice")
        destination.finished.add(item)

    def _bury(self, number: int, dead: Dead) -> None:
        self._finish(number, dead.number)
        delivery = self.destinations[number].known.pop(dead.number)
        self._check_dead(number, delivery, dead)
        self.pending.dead[dead.number] = delivery, dead
        self._flush_soon()

    def _look_for_expired(self) -> None:
        """Give up the items that were never offered to a lane."""
        for number, destination in enumerate(self.destinations):
            for chunk in self.store.chunks[number]:
                if chunk.enqueued_at + self._around.plan.expiry_seconds > self.clock():
                    continue
                kept = {item.number for batch in destination.under_way for item in batch.items}
                for each in chunk.open():
                    if each.number in destination.finished or each.number in kept:
                        continue
                    if each.number not in destination.known or not self._is_enabled(each):
                        destination.known[each.number] = each
                        self._bury(number, Dead(number=each.number, pipeline=each.pipeline, reason="Expired"))
        self._later(EXPIRY_LOOK_SECONDS, self._look_for_expired)

    def _flush_soon(self) -> None:
        pending = self.pending
        if len(pending.delivered) + len(pending.dead) >= FLUSH_ITEMS:
            self._flush()
        elif self._flushes_at is None:
            self._flushes_at = self.world.now + FLUSH_SECONDS
            self._later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flushes_at = None
        if self._is_flushing:
            return
        self._effect()
        self._is_flushing = True
        commit, self.pending = self.pending, Commit({}, {}, {})
        self.world.after(SYNC_SECONDS, lambda: self._sync(commit))

    def _sync(self, commit: Commit) -> None:
        """The end of a transaction. It ends also if the process stands still; if it crashed, by chance."""
        if not self.is_alive and self._around.chance():
            return
        try:
            if not self.store.is_full:
                self.store.commit(self.epoch, commit)
                self._later(0.0, self._flushed)
            else:
                self._later(1.0, lambda: self._flush_again(commit))
        except Fenced:
            self._later(0.0, self.stop)

    def _flushed(self) -> None:
        self._effect()
        self._is_flushing = False
        if self.pending.delivered or self.pending.dead or self.pending.health:
            self._flush_soon()

    def _flush_again(self, commit: Commit) -> None:
        self.pending = Commit(
            commit.delivered | self.pending.delivered,
            commit.dead | self.pending.dead,
            commit.health | self.pending.health,
        )
        self._is_flushing = False
        self._flush()

    def _renew(self) -> None:
        try:
            self.store.check_owner(self.epoch)
        except Fenced:
            self.stop()
            return
        self.store.lease_until = self.world.now + LEASE_SECONDS
        self._later(RENEW_SECONDS, self._renew)

    def stop(self) -> None:
        """End without another effect: another courier is the owner."""
        self.is_alive = False
        self._around.stopped(self)

    # Time

    def _effect(self) -> None:
        self._around.effect(self)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.world.after(seconds, call, self)

    def _wake(self, number: int, at: float | None) -> None:
        destination = self.destinations[number]
        if at is None:
            return
        due = max(at - self._clock_offset, self.world.now)
        if destination.wakes_at is None or due < destination.wakes_at or destination.wakes_at < self.world.now:
            destination.wakes_at = due
            # Rounding of sums of times must not wake it too early.
            self._later(due - self.world.now + 1e-6, lambda: self._woken(number, due))

    def _woken(self, number: int, due: float) -> None:
        destination = self.destinations[number]
        if destination.wakes_at == due:
            destination.wakes_at = None
        if self.world.now > destination.counted_at + 1.0:
            destination.counted_at, destination.wakes = self.world.now, 0
        destination.wakes += 1
        if destination.wakes > MAX_WAKES:
            raise Violation(f"the lane of destination {number} wakes again and again")
        self.pump(number)

    # Invariants

    def _check_sending(self, destination: Destination, batch: Batch) -> None:
        if self.clock() < destination.not_before - 1e-3:
            raise Violation("a request is sent before the time that the destination requested")
        if destination.failures >= 5 and any(before >= 5 for before, _ in destination.under_way.values()):
            raise Violation("more than one request probes a destination that fails")
        destination.under_way[batch] = destination.failures, self.world.now

    def _check_memory(self, number: int) -> None:
        destination = self.destinations[number]
        figures, limits = destination.lane.figures, destination.limits
        plan = self._around.plan.destinations[number]
        extra = destination.largest if plan.has_whole_chunks else 0
        extra_bytes = MAX_EVENT_BYTES * (1 + destination.largest)
        if figures.items > limits.max_items + extra or figures.bytes > limits.max_bytes + extra_bytes:
            raise Violation(f"a lane has more in memory than its limit: {figures}")
        if figures.cold > limits.max_cold_items + limits.max_items + 2 * extra:
            raise Violation(f"a lane has too many cold items: {figures}")
        if figures.in_flight > plan.concurrency + 1 or figures.batches > 2 * plan.concurrency + 1:
            raise Violation(f"a lane has too many requests: {figures}")

    def _check_dead(self, number: int, delivery: Delivery, dead: Dead) -> None:
        if not dead.reason:
            raise Violation(f"{delivery.key} is dead without a reason")
        if dead.reason == "Expired":
            chunks = [chunk for chunk in self.store.chunks[number] if chunk.id == dead.number >> 20]
            if not chunks:
                return
            age = self.clock() - chunks[0].enqueued_at
            if age < self._around.plan.expiry_seconds:
                raise Violation(f"{delivery.key} expired too early")
            is_undisturbed = all(fault.kind in ("Outage", "Edit", "WorkerCrash") for fault in self._around.plan.faults)
            if is_undisturbed and age > self._around.plan.expiry_seconds + MAX_LATE_SECONDS:
                raise Violation(f"{delivery.key} expired too late")
