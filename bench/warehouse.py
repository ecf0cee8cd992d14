"""The default warehouse alone: the cost of storing an event, and the time of queries.

HEADWATER_BENCH_WAREHOUSE sets the numbers of events (default 300,000 and 1,000,000; the goals are for 5,000,000).
Documents have 900 bytes; half of the events come from a few of 100,000 users; clocks of clients differ by a minute.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final
from uuid import UUID

import msgspec

from headwater.base.clock import SystemClock, from_microseconds
from headwater.filters import Condition, Filter, check_filter
from headwater.schemas import EVENT_SCHEMA
from headwater.storage.database import sqlite_url
from headwater.warehouse import EventQuery, StoredEvent, Warehouse, open_warehouse

SIZES: Final = tuple(map(int, os.environ.get("HEADWATER_BENCH_WAREHOUSE", "300000,1000000").split(",")))
BATCH: Final = 4_200
USERS: Final = 100_000
FEW_USERS: Final = 1_000
DAYS: Final = 14
_START: Final = 1_795_000_000_000_000
_NAMES: Final = [
    f"{verb} {noun}"
    for verb in ("Viewed", "Added", "Removed", "Bought")
    for noun in ("Product", "Cart", "List", "Offer", "Order")
]
_AGENTS: Final = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
    for version in range(110, 131)
]


def events(number: int, first: int, total: int) -> Iterator[StoredEvent]:
    """Yield `number` events from position `first` on, of `total` in all."""
    random = Random(first)
    span = DAYS * 86_400_000_000
    for position in range(first, first + number):
        received = _START + span * position // total
        timestamp = received - random.randrange(60_000_000)
        user = random.randrange(FEW_USERS) if random.random() < 0.5 else random.randrange(USERS)
        page = random.randrange(5_000)
        product = random.randrange(2_000)
        kind = random.choices(("track", "page", "identify"), (70, 25, 5))[0]
        name = random.choice(_NAMES) if kind == "track" else None
        anonymous = str(UUID(int=Random(user).getrandbits(128), version=4))
        document = {
            "connectionId": 1_234_567,
            "messageId": str(UUID(int=random.getrandbits(128), version=4)),
            "type": kind,
            "userId": f"user-{user}",
            "anonymousId": anonymous,
            **({} if name is None else {"event": name}),
            "context": {
                "app": {"name": "shop", "version": "3.2.1"},
                "ip": f"203.0.{random.randrange(256)}.{random.randrange(256)}",
                "library": {"name": "analytics.js", "version": "2.1.0"},
                "locale": "en-US",
                "page": {
                    "path": f"/products/{page}",
                    "referrer": f"https://www.google.com/search?q=product+{random.randrange(10_000)}",
                    "title": f"Product {page} in our shop",
                    "url": f"https://shop.example/products/{page}?session={random.getrandbits(40):x}",
                },
                "userAgent": random.choice(_AGENTS),
            },
            "properties": {
                "orderId": f"order-{random.randrange(10_000_000)}",
                "total": round(random.random() * 200, 2),
                "currency": "EUR",
                "products": [{"sku": f"sku-{product}", "price": 64.5, "quantity": random.randrange(1, 5)}],
            },
            "traits": {},
            "timestamp": _time(timestamp),
            "originalTimestamp": _time(timestamp),
            "sentAt": _time(received),
            "receivedAt": _time(received),
        }
        yield StoredEvent(
            position, 1, 1_234_567, 1, timestamp, received, kind, name, f"user-{user}", anonymous,
            msgspec.json.encode(document),
        )  # fmt: skip


def _time(stored: int) -> str:
    return from_microseconds(stored).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def warehouse(folder: Path, seconds: float) -> None:
    """Store events and query them in a process that does nothing else."""
    for size in SIZES:
        place = folder / str(size)
        place.mkdir(parents=True)
        asyncio.run(_measure(place, size))


async def _measure(folder: Path, size: int) -> None:
    path = folder / "warehouse.db"
    async with open_warehouse(sqlite_url(path), writes=True, clock=SystemClock()) as opened:
        spent, wall, written, bytes_ = 0.0, 0.0, _written(), 0
        for first in range(1, size + 1, BATCH):
            batch = list(events(min(BATCH, size + 1 - first), first, size))
            bytes_ += sum(len(event.document) for event in batch)
            began, cpu = time.perf_counter(), time.process_time()
            await opened.load(batch, through=batch[-1].position)
            wall += time.perf_counter() - began
            spent += time.process_time() - cpu
        written = _written() - written
    print(
        f"  {size:,} events of {bytes_ / size:.0f} B: stored with {1e6 * spent / size:.2f} µs of processor time, "
        f"{1e6 * wall / size:.2f} µs, {written / size:.0f} B written each; {path.stat().st_size / size:.0f} B on disk",
        flush=True,
    )
    await _query(path, size)


async def _query(path: Path, size: int) -> None:
    last = _START + DAYS * 86_400_000_000
    total = check_filter(
        Filter("and", (Condition("properties.total", "is greater than", ("198",)),)),
        EVENT_SCHEMA, role="Source", target="Event",
    )  # fmt: skip
    middle = last - 7 * 86_400_000_000

    def page(**members: object) -> Callable[[Warehouse], Awaitable[object]]:
        query = EventQuery(workspace=1, **members)  # type: ignore[arg-type]
        return lambda opened: opened.events(query, ascending=False, after=None, offset=0, limit=100)

    def counts(**members: object) -> Callable[[Warehouse], Awaitable[object]]:
        query = EventQuery(workspace=1, **members)  # type: ignore[arg-type]
        return lambda opened: opened.counts(query, by=["event"], interval="day", limit=1_000)

    queries = {
        "newest 100": page(),
        "newest 100 by arrival": page(order="receivedAt"),
        "100 of the middle": page(until=middle),
        "by user, one of few": page(user_id="user-7"),
        "by user, one of many": page(user_id="user-77777"),
        "by event name": page(event="Bought Order"),
        "filter on a property": page(filter=total),
        "name by day": counts(),
        "name by day, a part of an hour": counts(since=middle - 1, until=last - 1),
        "name by day of a user": counts(user_id="user-77777"),
    }
    for name, query in queries.items():
        times, spent, lag = [], [], 0.0
        for _ in range(6):
            async with open_warehouse(sqlite_url(path), writes=False, clock=SystemClock()) as opened:
                await opened.loaded()
                watch = asyncio.create_task(_watch())
                began, cpu = time.perf_counter(), time.process_time()
                await query(opened)
                times.append(time.perf_counter() - began)
                spent.append(time.process_time() - cpu)
                watch.cancel()
                lag = max(lag, await watch)
        wall, cpu = (1000 * statistics.median(each) for each in (times, spent))
        print(f"  {wall:8.1f} ms, {cpu:6.1f} of the processor   {name}   (loop waited {1000 * lag:.1f} ms)", flush=True)


async def _watch() -> float:
    """Return the longest time by which a timer came late, in seconds."""
    worst = 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - began - 0.001)
    except asyncio.CancelledError:
        return worst


def _written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    return 0
