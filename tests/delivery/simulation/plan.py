"""The plan of a run, drawn from its seed before anything happens.

A plan is a value: it is printed as JSON when a run fails, and it shrinks by leaving out faults and destinations. All
other random choices of a run come from generators that are named by the seed and their purpose, so that a smaller plan
changes as little as possible.
"""

from random import Random
from typing import Final, Literal

import msgspec

FaultKind = Literal[
    "CourierCrash",
    "CourierCrashAtEffect",
    "CourierStall",
    "WorkerCrash",
    "MachineCrash",
    "DiskFull",
    "ClockJump",
    "Outage",
    "Disable",
    "Edit",
    "Resend",
    "ByteBound",
]

Behaviour = Literal[
    "Healthy",
    "Slow",
    "Flaky",
    "Throttling",
    "Items",
    "Ambiguous",
    "Half",
    "Garbage",
    "Poison",
    "Large",
    "Hanging",
]

Outage = Literal["Connect", "Timeout", "Unavailable", "TooMany", "Credentials", "Closed"]

BEHAVIOURS: Final[tuple[Behaviour, ...]] = Behaviour.__args__  # type: ignore[attr-defined]
OUTAGES: Final[tuple[Outage, ...]] = Outage.__args__  # type: ignore[attr-defined]

EVENTS_SECONDS: Final = 300.0
"""Duration of the source of events."""
MAX_EVENT_BYTES: Final = 900
QUIET_AT: Final = 1_000.0
"""Time from which nothing fails any more."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fault at a time, or at the effect of that number. `target` is a destination, a courier or a pipeline."""

    kind: FaultKind
    at: float
    seconds: float = 0.0
    target: int = 0
    outage: Outage = "Unavailable"
    retry_after: float | None = None


class DestinationPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A destination: its behaviour and its policy."""

    behaviour: Behaviour
    share: float = 0.5
    """The share of requests that misbehave."""
    scope: Literal["Event", "User", "Any"] = "Any"
    order: Literal["PerUser", "None"] = "PerUser"
    max_events: int = 10
    max_bytes: int | None = None
    concurrency: int = 4
    rate: int = 0
    """Requests in ten seconds; 0 means no limit."""
    event_rate: int = 0
    user_rate: int = 0
    is_fixed: bool = False
    routes: int = 1
    pipelines: int = 1
    max_items: int = 1_000
    max_window_bytes: int = 4 << 20
    max_cold: int = 100_000
    has_whole_chunks: bool = False
    """Whether the rest of a chunk is offered as a whole, even if the lane wants less."""
    account: int = -1
    """The destination with whose account it shares rates; -1 means that it has its own."""


class Plan(msgspec.Struct, frozen=True):
    events: int
    users: int
    couriers: int
    expiry_seconds: float
    has_lease: bool
    """Whether a lost courier keeps its lease until that ends, instead of a lock that ends with the process."""
    destinations: tuple[DestinationPlan, ...]
    faults: tuple[Fault, ...]

    def has(self, *kinds: FaultKind) -> bool:
        return any(fault.kind in kinds for fault in self.faults)


def draw(seed: int) -> Plan:
    """Return the plan of a seed."""
    random = Random(f"{seed}/plan")
    destinations = tuple(_destination(random, number) for number in range(random.choice([1, 1, 2, 3, 5])))
    couriers = random.choice([1, 1, 2, 3])
    return Plan(
        events=random.choice([20, 60, 120]),
        users=random.choice([1, 3, 12]),
        couriers=couriers,
        expiry_seconds=random.choice([600.0, 3_600.0, 86_400.0]),
        has_lease=couriers > 1 and random.random() < 0.7,
        destinations=destinations,
        faults=tuple(_fault(random, len(destinations), couriers) for _ in range(random.choice([0, 1, 2, 4, 7]))),
    )


def _destination(random: Random, number: int) -> DestinationPlan:
    is_small = random.random() < 0.4
    return DestinationPlan(
        behaviour=random.choice(BEHAVIOURS),
        share=random.choice([0.05, 0.3, 0.8]),
        scope=random.choice(["Event", "User", "Any", "Any"]),
        order="None" if random.random() < 0.15 else "PerUser",
        max_events=random.choice([2, 5, 10, 50]),
        max_bytes=random.choice([None, 1_000, 4_000]),
        concurrency=random.choice([1, 2, 4, 16]),
        rate=random.choice([0, 0, 0, 5, 30]),
        event_rate=random.choice([0, 0, 0, 20, 100]),
        user_rate=random.choice([0, 0, 0, 5]),
        is_fixed=random.random() < 0.5,
        routes=random.choice([1, 1, 3]),
        pipelines=random.choice([1, 1, 2]),
        max_items=random.choice([4, 10, 30]) if is_small else 1_000,
        max_window_bytes=random.choice([2_000, 4 << 20]) if is_small else 4 << 20,
        max_cold=random.choice([3, 20, 100_000]) if is_small else 100_000,
        has_whole_chunks=random.random() < 0.5,
        account=0 if number and random.random() < 0.2 else -1,
    )


_FAULTS: Final[tuple[FaultKind, ...]] = (
    *(FaultKind.__args__),  # type: ignore[attr-defined]
    *("Outage", "Outage", "Outage", "CourierCrashAtEffect", "CourierCrashAtEffect"),
)


def _fault(random: Random, destinations: int, couriers: int) -> Fault:
    kind = random.choice(_FAULTS)
    at = round(random.uniform(0, QUIET_AT * 0.7), 3)
    target = random.randrange(destinations)
    match kind:
        case "CourierCrashAtEffect":
            return Fault(kind, random.randrange(2, 400))
        case "CourierStall":
            return Fault(kind, at, random.choice([1.0, 10.0, 40.0, 120.0]), random.randrange(couriers))
        case "DiskFull":
            return Fault(kind, at, random.choice([1.0, 30.0]))
        case "ClockJump":
            return Fault(kind, at, random.choice([-3_600.0, -5.0, 5.0, 3_600.0]))
        case "Outage":
            wait = random.choice([None, None, 0.0, -3.0, 2.0, 90.0, 1e9])
            seconds = random.choice([0.2, 5.0, 60.0, 600.0])
            return Fault(kind, at, seconds, target, random.choice(OUTAGES), wait)
        case "Disable":
            return Fault(kind, at, random.choice([1.0, 60.0]), target)
        case _:
            return Fault(kind, at, 0.0, target)
