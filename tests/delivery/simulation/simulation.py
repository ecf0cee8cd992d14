"""One run: events, a worker, couriers and destinations in virtual time, with the faults of a plan.

Each invariant is checked at the moment at which it could break, or at the end, when nothing has failed for long:

1. Each routed delivery is open, delivered or dead. In the end it is delivered or dead.
2. An item is sent after all earlier ones of its user are decided, or behind them in one request.
3. Events arrive twice only after a crash or a response that was lost, in bounded numbers, with the same key.
4. A lane has no more in memory than its limits.
5. The decisions of a lane do not depend on other destinations: two runs have the same trace.
6. Nothing is sent before the time that a destination requested, or beyond the rates. One request probes.
7. A destination that works again gets all that waits for it, in bounded time.
8. An item is decided once, and counts as delivered only if it has arrived.
9. Items expire at the end of the window, not before, and every dead item has a reason.
"""

from collections import defaultdict
from random import Random
from typing import Final

from headwater.connectors.contract import RateLimit
from headwater.delivery.lane import Batch
from tests.delivery.simulation.courier import RENEW_SECONDS, Courier, make_policy
from tests.delivery.simulation.plan import EVENTS_SECONDS, MAX_EVENT_BYTES, QUIET_AT, Fault, Plan
from tests.delivery.simulation.receiver import Receiver
from tests.delivery.simulation.store import Delivery, Event, Store
from tests.delivery.simulation.world import Crashed, Process, Violation, World

GATHER_SECONDS: Final = 0.1
RESTART_SECONDS: Final = 2.0
DRAINED_AT: Final = QUIET_AT + 2.5 * 3_600
"""Two pauses of an hour, and the time to send what waited."""


class Simulation:
    """One run."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.world = World()
        self.store = Store(len(plan.destinations), has_lease=plan.has_lease)
        self.is_disabled: set[tuple[int, int]] = set()
        self.version = 0
        self.traces: list[list[tuple[float, str]]] = [[] for _ in plan.destinations]
        """The requests of each destination: their times and keys."""
        self._random = Random(f"{seed}/run")
        self._effects = 0
        self._crash_effects = {int(fault.at) for fault in plan.faults if fault.kind == "CourierCrashAtEffect"}
        self._courier: Courier | None = None
        self._couriers: list[Courier] = []
        self._events = _draw_events(seed, plan)
        self._logged = 0
        """Events that the worker has read, up to its durable position."""
        self._receivers = [
            Receiver(destination, _outages(plan, number), Random(f"{seed}/receiver/{number}"))
            for number, destination in enumerate(plan.destinations)
        ]
        self._deliveries: dict[str, Delivery] = {}
        self._by_key: list[dict[int, list[Delivery]]] = [defaultdict(list) for _ in plan.destinations]
        """The deliveries of each destination and order key, in their order."""
        self._extra = [0 for _ in plan.destinations]
        """Arrivals that may be repetitions."""
        self._meters = _Meters(plan)
        self._worker = Process()

    def run(self) -> None:
        """Run until all is decided. Raises Violation."""
        world = self.world
        for fault in self.plan.faults:
            if fault.kind != "CourierCrashAtEffect":
                world.after(fault.at, lambda fault=fault: self._fault(fault))  # type: ignore[misc]
        world.after(QUIET_AT, self._quieten)
        world.after(GATHER_SECONDS, self._gather, self._worker)
        world.after(0.0, self._elect)
        world.run(DRAINED_AT, self._is_done)
        self._check_end()

    def _is_done(self) -> bool:
        return self.world.now > QUIET_AT and self._logged == len(self._events) and not self.store.open

    # The worker

    def _gather(self) -> None:
        """Process the events that have been accepted by now."""
        world, store = self.world, self.store
        new = [each for each in self._events[self._logged :] if each.at <= world.now]
        self.world.after(GATHER_SECONDS if new else self._until_next(), self._gather, self._worker)
        if not new or store.is_full:
            return
        wanted = [(number, self._route(number, new)) for number in range(len(self.plan.destinations))]
        store.append(new[-1].position, wanted, world.wall)
        if self._worker.frozen_until:  # it crashes between the two commits, and reads the events again
            self._worker.frozen_until = 0.0
            return
        self._logged += len(new)
        if self._courier is not None:
            for number in range(len(self.plan.destinations)):
                self._courier.look(number)

    def _until_next(self) -> float:
        if self._logged == len(self._events):
            return EVENTS_SECONDS
        return max(self._events[self._logged].at - self.world.now, 0.0) + GATHER_SECONDS

    def _route(self, number: int, events: list[Event]) -> list[Delivery]:
        deliveries = []
        for event in events:
            for pipeline in range(self.plan.destinations[number].pipelines):
                delivery = Delivery(number, pipeline, event)
                known = self._deliveries.setdefault(delivery.key, delivery)
                if known is delivery:
                    for key in event.order_keys:
                        self._by_key[number][key].append(delivery)
                deliveries.append(known)
        return deliveries

    # Couriers

    def _elect(self) -> None:
        """Let a courier become the owner, if there is none."""
        if (epoch := self.store.acquire(self, self.world.now)) is not None:
            self._courier = Courier(self, epoch)
            self._couriers.append(self._courier)
            self._count_repetitions()
            self.world.after(0.0, self._courier.start, self._courier)
        self.world.after(1.0 if self._courier is None else RENEW_SECONDS, self._elect)

    def _count_repetitions(self) -> None:
        """After the loss of a courier, all that was under way or not committed can arrive twice."""
        for number, destination in enumerate(self.plan.destinations):
            self._extra[number] += sum(each.taken > 0 for each in self._open(number))
            self._extra[number] += destination.concurrency * destination.max_events

    def _open(self, number: int) -> list[Delivery]:
        return [each for chunk in self.store.chunks[number] for each in chunk.open()]

    def effect(self, courier: Courier) -> None:
        self._effects += 1
        if self._effects in self._crash_effects:
            self._crash(courier)
            raise Crashed

    def _crash(self, courier: Courier) -> None:
        courier.is_alive = False
        if not self.plan.has_lease:
            self.store.holder = None  # the lock ends with the process
        if courier is self._courier:
            self._courier = None

    def stopped(self, courier: Courier) -> None:
        if courier is self._courier:
            self._courier = None

    def chance(self) -> bool:
        return self._random.random() < 0.5

    # Requests

    def send(self, courier: Courier, number: int, batch: Batch) -> None:
        world = self.world
        self.traces[number].append((round(world.now, 6), batch.key))
        self._check_order(courier, number, batch)
        self._meters.count(number, batch, courier)
        events = tuple([item.encoded for item in batch.items])
        reply = self._receivers[number].reply(events, world.now)
        delivered = {
            event.id for event, each in zip(events, reply.result.items, strict=True) if each.outcome == "Delivered"
        }

        def arrive() -> None:
            for event in reply.taken:
                self._arrive(number, event.id, is_lost=event.id not in delivered)

        def respond() -> None:
            courier.respond(number, batch, reply.result)

        world.after(reply.seconds / 2 if delivered else 0.0, arrive)
        world.after(reply.seconds, respond, courier)

    def _arrive(self, number: int, key: str, *, is_lost: bool) -> None:
        if (delivery := self._deliveries.get(key)) is None:
            raise Violation(f"an event arrives with the unknown key {key}")
        delivery.taken += 1
        self._extra[number] += is_lost or delivery.is_resent

    def authorize(self, destination: int) -> None:
        self._receivers[destination].is_authorized_since = self.world.now

    def _check_order(self, courier: Courier, number: int, batch: Batch) -> None:
        keys = [item.key for item in batch.items]
        if len({item.encoded.route for item in batch.items}) > 1:
            raise Violation("a request has events of several routes")
        policy = self.plan.destinations[number]
        if len(keys) > (1 if policy.scope == "Event" else policy.max_events):
            raise Violation("a request has too many events")
        if policy.scope == "User" and len({item.encoded.user or item.key for item in batch.items}) > 1:
            raise Violation("a request has events of several users")
        before: set[str] = set()
        finished = courier.destinations[number].finished
        for item in batch.items:
            if item.key not in self._deliveries:
                raise Violation(f"{item.key} is no key of a delivery")
            delivery = self._deliveries[item.key]
            if policy.order == "PerUser" and not delivery.is_resent:
                for each in self._undecided_before(number, delivery):
                    if each.key not in before and each.number not in finished and not self._is_apart(each):
                        raise Violation(f"{delivery.key} is sent although {each.key} is not decided")
            before.add(item.key)

    def _undecided_before(self, number: int, delivery: Delivery) -> list[Delivery]:
        found = []
        for key in delivery.event.order_keys:
            line = self._by_key[number][key]
            while line and line[0].state not in ("Open", "Unrouted") and line[0] is not delivery:
                line.pop(0)
            for each in line:
                if each.event.position >= delivery.event.position:
                    break
                if each.state == "Open":
                    found.append(each)
        return found

    def _is_apart(self, delivery: Delivery) -> bool:
        """Whether a delivery comes later than others by intention."""
        return delivery.is_resent or self.plan.has("Disable")

    # Faults

    def _fault(self, fault: Fault) -> None:
        courier = self._courier
        match fault.kind:
            case "CourierCrash" | "MachineCrash":
                if courier is not None:
                    self._crash(courier)
                if fault.kind == "MachineCrash":
                    self._worker.frozen_until = self.world.now + RESTART_SECONDS
            case "WorkerCrash":
                self._worker.frozen_until = self.world.now + RESTART_SECONDS
            case "CourierStall":
                if courier is not None:
                    courier.frozen_until = self.world.now + fault.seconds
            case "DiskFull":
                self.store.is_full = True
                self.world.after(fault.seconds, self._free_disk)
            case "ClockJump":
                self.world.wall_offset += fault.seconds
            case "Disable":
                self.is_disabled.add((fault.target, 0))
                if courier is not None:
                    courier.disable(fault.target, 0)
                self.world.after(fault.seconds, lambda: self._enable(fault.target))
            case "Edit":
                self.version += 1
            case "Resend":
                self._resend(fault.target)
            case "ByteBound":
                self.store.drop_oldest(fault.target)
            case _:
                pass  # outages are known to the receivers

    def _free_disk(self) -> None:
        self.store.is_full = False

    def _enable(self, destination: int) -> None:
        self.is_disabled.discard((destination, 0))
        if self._courier is not None:
            self._courier.enable(destination)

    def _resend(self, destination: int) -> None:
        dead = [
            each
            for each in self._deliveries.values()
            if each.destination == destination and each.state == "Dead" and each.dead and each.dead.number >= 0
        ]
        self.store.resend(destination, dead[: self._random.choice([1, 10, 1_000])], self.world.wall)
        if self._courier is not None:
            self._courier.look(destination)

    def _quieten(self) -> None:
        for receiver in self._receivers:
            receiver.is_quiet = True

    # The end

    def _check_end(self) -> None:
        if self._logged != len(self._events):
            raise Violation("the worker has not processed all events")
        for delivery in self._deliveries.values():
            if delivery.state not in ("Delivered", "Dead"):
                raise Violation(f"{delivery.key} is {delivery.state} in the end")
            if delivery.state == "Dead" and not (delivery.dead and delivery.dead.reason):
                raise Violation(f"{delivery.key} is dead without a reason")
        for number, extra in enumerate(self._extra):
            arrivals = [each.taken for each in self._deliveries.values() if each.destination == number]
            repetitions = sum(max(taken - 1, 0) for taken in arrivals)
            if repetitions > extra:
                raise Violation(f"{repetitions} events arrived again at destination {number}, {extra} are explained")


class _Meters:
    """Checks that requests are within the rates: over any time, what is sent is at most what the time allows, and a
    burst."""

    def __init__(self, plan: Plan) -> None:
        self._limits = [make_policy(destination).rates for destination in plan.destinations]
        self._accounts = [number if each.account < 0 else each.account for number, each in enumerate(plan.destinations)]
        self._largest = [each.max_events for each in plan.destinations]
        self._spent: dict[tuple[int, int, RateLimit, str], tuple[float, float]] = {}
        """A courier does not know what others have sent."""

    def count(self, number: int, batch: Batch, courier: Courier) -> None:
        for limit in self._limits[number]:
            if limit.per == "User":
                for user in {item.encoded.user for item in batch.items if item.encoded.user and batch.attempt == 1}:
                    self._count(number, limit, user, sum(item.encoded.user == user for item in batch.items), courier)
            else:
                self._count(number, limit, "", 1 if limit.unit == "Request" else len(batch.items), courier)

    def _count(self, number: int, limit: RateLimit, user: str, amount: int, courier: Courier) -> None:
        now, rate = courier.clock(), limit.count / limit.seconds
        key = courier.epoch, self._accounts[number], limit, user
        at, spent = self._spent.get(key, (0.0, 0.0))
        if limit.window == "Fixed":
            window = now // limit.seconds
            spent = max(spent - (window - at) * limit.count, 0.0) + amount
            self._spent[key] = window, spent
            most = float(limit.count)
        else:
            spent = max(spent - (now - at) * rate, 0.0) + amount
            self._spent[key] = now, spent
            most = float(limit.burst)
        if limit.unit == "Event" and not user:
            most = max(most, max(self._largest)) + max(self._largest)
        if spent > most + 0.01:
            raise Violation(f"{spent} of {limit} are spent")


def _draw_events(seed: int, plan: Plan) -> list[Event]:
    """Return events of users that log in and out, some of whom make most of them."""
    random = Random(f"{seed}/events")
    weights = [1 / (number + 1) for number in range(plan.users)]
    times = sorted(random.choice([0.0, random.uniform(0, EVENTS_SECONDS)]) for _ in range(plan.events))
    events = []
    for position, at in enumerate(times, 1):
        (user,) = random.choices(range(plan.users), weights)
        device = 1_000 + random.choice([user, user, random.randrange(plan.users)])
        keys = random.choice([(user, device), (user, device), (user,), (device,), (user, 2_000 + user, device), ()])
        name = f"user{user}" if keys and keys[0] == user else ""
        events.append(Event(position, at, keys, name, random.randrange(10, MAX_EVENT_BYTES), random.randrange(3)))
    return events


def _outages(plan: Plan, number: int) -> tuple[Fault, ...]:
    return tuple([fault for fault in plan.faults if fault.kind == "Outage" and fault.target == number])
