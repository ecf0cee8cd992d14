"""Figures of the connectors of vendors, against the servers of `tests/connectors/vendors`.

| figure | how |
| --- | --- |
| processor time of an event | from the stored document to the request, with a mapping, in full batches |
| processor time of a user | from the attributes to the result, in full calls, without that of the vendor's server |
| events/s, requests/s | a backlog to the vendor's server in another process, without rate limits |
| share of the vendor's limit | a backlog, or users, in virtual time with the rates of the sink |
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
from headwater.connectors.contract import (
    AccessToken,
    Attempt,
    EventSink,
    HttpRequest,
    HttpResponse,
    SinkPolicy,
    UserWrite,
)
from headwater.connectors.registry import CONNECTORS
from headwater.delivery import sender
from headwater.delivery.preparing import MappingTransformation, Preparer, Rejected, SourceEvent
from headwater.delivery.rates import AccountRates
from headwater.events.event import encode_event
from headwater.management.pipelines import suggested_mapping
from headwater.schemas import EVENT_SCHEMA
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.amplitude.test_vendor import TestEvents as Amplitude
from tests.connectors.braze.test_vendor import TestEvents as Braze
from tests.connectors.braze.test_vendor import TestUserSink as BrazeUsers
from tests.connectors.brevo.test_vendor import TestEvents as Brevo
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.vendor import VendorEventsConformance, plain_schema
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.customerio.test_vendor import TestEvents as CustomerIo
from tests.connectors.customerio.test_vendor import TestUserSink as CustomerIoUsers
from tests.connectors.google_analytics.test_vendor import TestEvents as GoogleAnalytics
from tests.connectors.hubspot.test_vendor import TestEvents as HubSpot
from tests.connectors.hubspot.test_vendor import TestUserSink as HubSpotUsers
from tests.connectors.klaviyo.test_vendor import TestEvents as Klaviyo
from tests.connectors.klaviyo.test_vendor import TestUserSink as KlaviyoUsers
from tests.connectors.mailchimp.test_vendor import TestUserSink as MailchimpUsers
from tests.connectors.mailerlite.test_vendor import TestUserSink as MailerLiteUsers
from tests.connectors.meta_conversions.test_vendor import TestEvents as MetaConversions
from tests.connectors.mixpanel.test_vendor import TestEvents as Mixpanel
from tests.connectors.mixpanel.test_vendor import TestUserSink as MixpanelUsers
from tests.connectors.posthog.test_vendor import TestEvents as PostHog
from tests.connectors.salesforce.test_vendor import TestUserSink as SalesforceUsers
from tests.connectors.slack.test_vendor import TestEvents as Slack
from tests.connectors.stripe.test_vendor import TestUserSink as StripeUsers
from tests.connectors.vendors.server import CALM, VendorServer
from tests.virtualtime import VirtualClock, run_in_virtual_time

VENDORS: Final[dict[str, type[VendorEventsConformance]]] = {
    "amplitude": Amplitude,
    "braze": Braze,
    "brevo": Brevo,
    "customerio": CustomerIo,
    "google-analytics": GoogleAnalytics,
    "hubspot": HubSpot,
    "klaviyo": Klaviyo,
    "meta-conversions": MetaConversions,
    "mixpanel": Mixpanel,
    "posthog": PostHog,
    "slack": Slack,
}
USER_VENDORS: Final[dict[str, type[VendorUserSinkConformance]]] = {
    "braze": BrazeUsers,
    "customerio": CustomerIoUsers,
    "hubspot": HubSpotUsers,
    "klaviyo": KlaviyoUsers,
    "mailchimp": MailchimpUsers,
    "mailerlite": MailerLiteUsers,
    "mixpanel": MixpanelUsers,
    "salesforce": SalesforceUsers,
    "stripe": StripeUsers,
}
CODES: Final = tuple(sorted({*VENDORS, *USER_VENDORS}))
CPU_EVENTS: Final = 4_000
CPU_USERS: Final = 2_000
BACKLOG_EVENTS: Final = 20_000
USERS: Final = 2_000
WINDOWS: Final = 4
"""Windows of the vendor's longest limit in which its use is measured."""
MAX_SHARE_EVENTS: Final = 200_000
"""Events of such a measurement. Higher limits, which one sender does not reach, are divided with the vendor's."""
MAX_SHARE_REQUESTS_SECOND: Final = 500
"""Requests with several events that one sender makes in a second of virtual time, at most."""
MAX_SHARE_USERS: Final = 2_000
"""Users of such a measurement. The windows of other vendors are too long for it."""


def destinations(folder: Path, seconds: float, codes: Sequence[str] = ()) -> None:
    """Connectors of vendors: processor time of an event or a user, events/s without limits, share of the limit."""
    for code in codes or CODES:
        if code in VENDORS:
            suite = VENDORS[code]()
            spent = asyncio.run(_prepare(suite))
            print(f"  {code}: processor time of an event {1e6 * spent:.0f} µs (goal 60)", flush=True)
            _throughput(suite, folder / code)
            _share(suite, folder / f"{code}-share")
        if code in USER_VENDORS:
            created, updated = asyncio.run(_write_users(USER_VENDORS[code]()))
            print(
                f"  {code}: processor time of a user {1e6 * created:.0f} µs created, {1e6 * updated:.0f} µs updated",
                flush=True,
            )
            _user_share(USER_VENDORS[code]())


class _MeasuredHttp:
    """An `HttpClient` that asks a server without sockets. `spent` is the processor time of the server."""

    def __init__(self, server: VendorServer, token: AccessToken | None) -> None:
        self._server = server
        self._token = token
        self.spent = 0.0

    async def send(self, request: HttpRequest) -> HttpResponse:
        began = time.process_time()
        if self._token is not None:
            headers = {**request.headers, "authorization": f"Bearer {await self._token.current()}"}
            request = msgspec.structs.replace(request, headers=headers)
        response = self._server.respond(request)
        self.spent += time.process_time() - began
        return response


async def _write_users(suite: VendorUserSinkConformance) -> tuple[float, float]:
    """Return the processor time of a user that is created, and of one that is updated."""
    server = suite.make_server(CALM, time.monotonic)
    server.is_unlimited, server.specification = True, None
    token = suite.access_token()
    http = _MeasuredHttp(server, token)
    connector = CONNECTORS[suite.CODE]
    make = connector.engine.user_sink
    assert make is not None and connector.destination is not None and connector.destination.settings is not None
    context = msgspec.structs.replace(make_context(http), account_url=None if token is None else token.url)
    sink: Any = make(connector.destination.settings.read(suite.SETTINGS), context)
    sink.interval_seconds = 0.0
    await sink.writable_schema()
    ids = [""] * CPU_USERS
    times = []
    for version in (1, 2):
        users = [
            UserWrite(id=id_, attributes=suite.attributes(number, version), key=f"{version:08x}{number:024x}")
            for number, id_ in enumerate(ids)
        ]
        ids, http.spent, began = [], 0.0, time.process_time()
        for first in range(0, CPU_USERS, sink.write_limits.max_events):
            results = await sink.write_users(users[first : first + sink.write_limits.max_events])
            ids += [result.id for result in results]
        times.append((time.process_time() - began - http.spent) / CPU_USERS)
        assert all(ids) and server.violations == [], server.violations[:3]
    return times[0], times[1]


async def _prepare(suite: VendorEventsConformance) -> float:
    """Return the processor time of one event, from its document to the request."""
    sink, clock = suite.sink(), SystemClock()
    type_ = await suite.event_type()
    mapping = None
    if type_.schema is not None:
        expressions = suggested_mapping(type_.schema) | suite.MAPPING
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
    fastest = _events_per_second(policy, size)
    if size > 1 and fastest / size > MAX_SHARE_REQUESTS_SECOND:
        declared = min(rate.count / (rate.count + rate.burst) for rate in policy.rates)
        text = f"{declared:.3f} as declared: one sender does not make {fastest / size:,.0f} requests in a second"
        print(f"  {suite.CODE}: share of the vendor's limit {text}", flush=True)
        return
    events = int(fastest * longest * (WINDOWS + 2))
    divisor = 1 if events <= MAX_SHARE_EVENTS else -(-events // BACKLOG_EVENTS)
    events //= divisor
    rates = tuple(
        msgspec.structs.replace(rate, count=rate.count // divisor, burst=max(rate.burst // divisor, 1))
        for rate in policy.rates
    )
    with pytest.MonkeyPatch.context() as patch:
        limits = msgspec.structs.replace(policy.limits, max_events=size)
        _change_policy(patch, suite, limits=limits, rates=rates, overflow="Wait")

        async def main(installation: Any, server: VendorServer) -> None:
            server.rate_divisor = divisor
            await suite.append_backlog(installation, events, events)
            async with installation.dispatching():
                await installation.wait_until_empty()
            assert server.violations == [], server.violations[:3]
            shares = server.shares()
            text = "   ".join(f"{name}: {share:.3f}" for name, share in shares.items())
            print(
                f"  {suite.CODE}: share of the vendor's limit {max(shares.values()):.3f} (goal 0.95)   {text}"
                + (f"   with rates divided by {divisor}, since one sender does not reach them" if divisor > 1 else ""),
                flush=True,
            )

        suite.run(patch, folder, CALM, main)


def _events_per_second(policy: SinkPolicy, size: int) -> float:
    """Return the events that the rates allow in requests of that size."""
    return min(
        rate.count / rate.seconds * (1 if rate.unit == "Event" else size) for rate in policy.rates if rate.counts(size)
    )


def _user_share(suite: VendorUserSinkConformance) -> None:
    """Write users with the rates of the sink to the vendor's fixed windows, in calls of few users if they have one
    request."""

    async def main(clock: VirtualClock) -> None:
        async with suite.vendor(CALM, clock) as vendor:
            sink = vendor.sink()
            size = min(sink.write_limits.max_events, 2)
            sizes = [size if rate.unit == "Request" else 1 for rate in sink.write_rates]
            slowest = min(size * rate.count / rate.seconds for rate, size in zip(sink.write_rates, sizes, strict=True))
            users = int(slowest * max(rate.seconds for rate in sink.write_rates) * (WINDOWS + 2))
            if users > MAX_SHARE_USERS:
                return
            patch.setattr(suite, "BATCH", size if size in sizes else sink.write_limits.max_events, raising=False)
            await suite.write(sink, AccountRates(), dict.fromkeys(range(1, users + 1), ""), version=1)
            share = max(vendor.server.shares().values())
            print(f"  {suite.CODE}: share of the vendor's limit {share:.3f} with users (goal 0.95)", flush=True)

    with pytest.MonkeyPatch.context() as patch:
        if _has_rates(suite):
            run_in_virtual_time(patch, (), main)


def _has_rates(suite: VendorUserSinkConformance) -> bool:
    """Return whether the sink declares rates."""
    connector = CONNECTORS[suite.CODE]
    assert connector.engine.user_sink is not None
    assert connector.destination is not None and connector.destination.settings is not None
    settings = connector.destination.settings.read(suite.SETTINGS)
    return bool(connector.engine.user_sink(settings, make_context()).write_rates)


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
def _serving(suite: VendorEventsConformance) -> "Iterator[tuple[VendorServer, Pipe]]":
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
        server = VENDORS[code]().make_server(CALM, time.monotonic)
        server.is_unlimited, server.specification = True, None
        async with server.running():
            pipe.send(server.port)
            while await asyncio.to_thread(pipe.recv) == "requests":
                pipe.send(len(server.requests))

    asyncio.run(run())
