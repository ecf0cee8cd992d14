"""Figures of the connectors of vendors, against the servers of `tests/connectors/vendors`.

| figure | how |
| --- | --- |
| processor time of an event | from the stored document to the request, with a mapping, in full batches |
| events/s, requests/s | a backlog to the vendor's server in another process, without rate limits |
| users/s, processor time of a user | created at the vendor's server in another process, without rate limits |
| share of the vendor's limit | a backlog in virtual time, with the rates of the policy |
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from headwater.base.clock import SystemClock
from headwater.connectors.contract import Attempt, EventSink, UserWrite
from headwater.connectors.registry import CONNECTORS
from headwater.delivery import sender
from headwater.delivery.preparing import MappingTransformation, Preparer, Rejected, SourceEvent
from headwater.events.event import encode_event
from headwater.schemas import EVENT_SCHEMA
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.amplitude.test_vendor import TestEvents as Amplitude
from tests.connectors.conformance.vendor import VendorEventsConformance, plain_schema, prefilled
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.google_analytics.test_vendor import TestEvents as GoogleAnalytics
from tests.connectors.klaviyo.test_vendor import TestEvents as Klaviyo
from tests.connectors.klaviyo.test_vendor import TestUserSink as KlaviyoUsers
from tests.connectors.mixpanel.test_vendor import TestEvents as Mixpanel
from tests.connectors.posthog.test_vendor import TestEvents as PostHog
from tests.connectors.salesforce.test_vendor import TestUserSink as SalesforceUsers
from tests.connectors.vendors.server import CALM, VendorServer

VENDORS: Final[dict[str, type[VendorEventsConformance]]] = {
    "amplitude": Amplitude,
    "google-analytics": GoogleAnalytics,
    "klaviyo": Klaviyo,
    "mixpanel": Mixpanel,
    "posthog": PostHog,
}
USER_VENDORS: Final[dict[str, type[VendorUserSinkConformance]]] = {
    "klaviyo": KlaviyoUsers,
    "salesforce": SalesforceUsers,
}
CODES: Final = tuple(sorted({*VENDORS, *USER_VENDORS}))
Suite = VendorEventsConformance | VendorUserSinkConformance
CPU_EVENTS: Final = 4_000
BACKLOG_EVENTS: Final = 20_000
USERS: Final = 2_000
WINDOWS: Final = 4
"""Windows of the vendor's longest limit in which its use is measured."""
MAX_SHARE_EVENTS: Final = 200_000
"""Events of such a measurement. Higher limits are not reached."""


def destinations(folder: Path, seconds: float, codes: Sequence[str] = ()) -> None:
    """Connectors of vendors: processor time of an event, events/s, users/s, share of the vendor's limit."""
    for code in codes or CODES:
        if code in USER_VENDORS:
            _write_users(USER_VENDORS[code]())
        if code not in VENDORS:
            continue
        suite = VENDORS[code]()
        spent = asyncio.run(_prepare(suite))
        print(f"  {code}: processor time of an event {1e6 * spent:.0f} µs (goal 60)", flush=True)
        _throughput(suite, folder / code)
        _share(suite, folder / f"{code}-share")


async def _prepare(suite: VendorEventsConformance) -> float:
    """Return the processor time of one event, from its document to the request."""
    sink, clock = suite.sink(), SystemClock()
    type_ = await suite.event_type()
    mapping = None
    if type_.schema is not None:
        expressions = prefilled(type_.schema) | suite.MAPPING
        mapping = CompiledMapping(expressions, EVENT_SCHEMA, plain_schema(type_.schema, expressions))
    preparer = Preparer(7, type_.id, sink, MappingTransformation(mapping), clock)
    documents = [
        encode_event(msgspec.structs.replace(suite.event(number, f"user-{number % USERS}", clock), connection_id=1))
        for number in range(1, CPU_EVENTS + 1)
    ]
    size = min(sink.policy.limits.max_events, 500)
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for start in range(0, len(documents), size):
            events = await preparer.prepare([SourceEvent(document) for document in documents[start : start + size]])
            encoded = [each for each in events if not isinstance(each, Rejected)]
            assert len(encoded) == len(events), events
            step = sink.policy.limits.max_events
            for first in range(0, len(encoded), step):
                sink.request(encoded[first : first + step], Attempt(key="0" * 32, number=1, at=clock.now()))
        best = min(best, (time.process_time() - began) / len(documents))
    return best


def _write_users(suite: VendorUserSinkConformance) -> None:
    """Create users as fast as the connector can, in batches of its limit."""
    with _serving(suite) as (server, pipe):

        async def run() -> None:
            async with suite.connect(server, SystemClock()) as vendor:
                sink = vendor.sink()
                await sink.writable_schema()
                users = [
                    UserWrite(id="", attributes=suite.attributes(number, 1), key=f"{number:032x}")
                    for number in range(USERS)
                ]
                size = sink.write_limits.max_events
                began, spent = time.perf_counter(), time.process_time()
                for first in range(0, USERS, size):
                    results = await sink.write_users(users[first : first + size])
                    assert all(result.id for result in results), results
                seconds, spent = time.perf_counter() - began, time.process_time() - spent
                pipe.send("requests")
                print(
                    f"  {suite.CODE}: {USERS / seconds:,.0f} users/s in {pipe.recv()} requests   "
                    f"{1e6 * spent / USERS:.0f} µs of processor time for each, with HTTP",
                    flush=True,
                )

        asyncio.run(run())


def _throughput(suite: VendorEventsConformance, folder: Path) -> None:
    """Send a backlog as fast as the connector can."""
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, _serving(suite) as (server, pipe):
        _change_policy(patch, suite, rates=())

        async def run() -> None:
            async with suite.installation(folder, server, SystemClock(), runs=False) as installation:
                await suite.append_backlog(installation, BACKLOG_EVENTS, USERS)
                began, spent = time.perf_counter(), time.process_time()
                async with installation.dispatching():
                    await installation.wait_until_empty(0.02)
                seconds, spent = time.perf_counter() - began, time.process_time() - spent
                assert not await installation.dead_letters()
                pipe.send("requests")
                requests = pipe.recv()
                print(
                    f"  {suite.CODE}: {BACKLOG_EVENTS / seconds:,.0f} events/s, {requests / seconds:,.0f} requests/s   "
                    f"{1e6 * spent / BACKLOG_EVENTS:.0f} µs of processor time for each, with the queue and HTTP",
                    flush=True,
                )

        asyncio.run(run())


def _share(suite: VendorEventsConformance, folder: Path) -> None:
    """Send a backlog with the rates of the policy, in batches of few events, to the vendor's fixed windows."""
    folder.mkdir(parents=True)
    policy = suite.sink().policy
    if not policy.rates:
        return
    longest = max(rate.seconds for rate in policy.rates)
    size = min(policy.limits.max_events, 2)
    slowest = min(
        rate.count / rate.seconds * (1 if rate.unit == "Event" else size) for rate in policy.rates if rate.counts(size)
    )
    events = int(slowest * longest * (WINDOWS + 2))
    if events > MAX_SHARE_EVENTS:
        print(f"  {suite.CODE}: its limit of {slowest:,.0f} events/s is above what one sender reaches", flush=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        _change_policy(patch, suite, limits=msgspec.structs.replace(policy.limits, max_events=size))

        async def main(installation: Any, server: VendorServer) -> None:
            await suite.append_backlog(installation, events, events)
            async with installation.dispatching():
                await installation.wait_until_empty()
            assert server.violations == [], server.violations[:3]
            shares = server.shares()
            text = "   ".join(f"{name}: {share:.3f}" for name, share in shares.items())
            print(
                f"  {suite.CODE}: share of the vendor's limit {max(shares.values()):.3f} (goal 0.95)   {text}",
                flush=True,
            )

        suite.run(patch, folder, CALM, main)


def _change_policy(patch: pytest.MonkeyPatch, suite: VendorEventsConformance, **changes: Any) -> None:
    """Let the sinks of the connector have another policy."""
    connector = CONNECTORS[suite.CODE]
    make = connector.engine.event_sink
    assert make is not None

    def make_changed(settings: Any, context: Any) -> EventSink:
        sink: Any = make(settings, context)
        sink.policy = msgspec.structs.replace(sink.policy, **changes)
        changed: EventSink = sink
        return changed

    engine = msgspec.structs.replace(connector.engine, event_sink=make_changed)
    patch.setattr(sender, "CONNECTORS", {**CONNECTORS, suite.CODE: msgspec.structs.replace(connector, engine=engine)})


@contextmanager
def _serving(suite: Suite) -> "Iterator[tuple[VendorServer, Pipe]]":
    """Run the vendor's server in another process. The server that is returned only has its port."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=_serve, args=(suite.CODE, other), daemon=True)
    process.start()
    server = suite.make_server(CALM, time.monotonic)
    server.port = pipe.recv()
    try:
        yield server, pipe
    finally:
        pipe.send("stop")
        process.join(10)


def _serve(code: str, pipe: Pipe) -> None:
    async def run() -> None:
        suite: Suite = USER_VENDORS[code]() if code in USER_VENDORS else VENDORS[code]()
        server = suite.make_server(CALM, time.monotonic)
        server.is_unlimited = True
        async with server.running():
            pipe.send(server.port)
            while await asyncio.to_thread(pipe.recv) == "requests":
                pipe.send(len(server.requests))

    asyncio.run(run())
