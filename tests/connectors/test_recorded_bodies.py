"""Bodies of SDKs go through the intake's normalisation and each event type's suggested filter and mapping to vendors.

Each event becomes a request that the vendor's server accepts, or is rejected with a reason for people. A connector
takes part as soon as it is available: it needs a suite in `tests/connectors/<code>/test_vendor.py`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any, Final

import msgspec
import pytest

from headwater.base.clock import microseconds
from headwater.connectors.contract import Attempt, EncodedEvent, EventSink, EventType, FailureScope, ItemResult, Outcome
from headwater.connectors.registry import CONNECTORS
from headwater.delivery.preparing import MappingTransformation, Preparer, Rejected, SourceEvent
from headwater.events import Envelope
from headwater.events.protocols.track import read_call
from headwater.events.wire import WireEvent
from headwater.filters import Predicate, check_filter, compile_filter, parse_text
from headwater.management.pipelines import suggested_mapping
from headwater.schemas import EVENT_SCHEMA, Json
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.conformance.context import NOW, FixedClock, ScriptedHttp, make_context
from tests.connectors.conformance.vendor import VendorEventsConformance, plain_schema
from tests.connectors.test_pages import page
from tests.connectors.vendors.server import CALM, VendorServer
from tests.events.reading import canonical, check
from tests.sdks.bodies import BODIES, body_at
from tests.virtualtime import START

WITHOUT_VENDOR: Final = {"dummy", "http-webhook", "sample-oauth-app", "segment-api"}
"""Connectors whose receivers have no rules about events, and the samples."""
CODES: Final = sorted(
    code
    for code, connector in CONNECTORS.items()
    if connector.available and connector.supports_events("Destination") and code not in WITHOUT_VENDOR
)
CALLED_AT: Final = NOW - timedelta(minutes=1)
_REASON: Final = re.compile(r"[A-Z][A-Za-z0-9]+")
_NOT_FOR_PEOPLE: Final = ("InternalError", "TooDeep", "UnexpectedResponse")


UNUSUAL_CONTEXTS: Final = (
    b'{"app":null,"campaign":null,"device":null,"ip":null,"os":null,"page":null,"screen":null,"session":null}',
    b'{"app":"a","campaign":[],"device":1,"ip":7,"locale":{},"os":"iOS","page":true,"session":"s","userAgent":5}',
    b'{"app":{"version":1},"campaign":{"name":null},"ip":"x","os":{"name":5},"page":{"url":5,"title":null},"screen":{}}',
    b'{"app":{"build":1e999},"ip":"203.0.113.9","page":{"title":"\\ud800"},"other":1e999,"session":{"id":"7"}}',
    b'{"device":{"id":null},"library":[1],"network":{"carrier":{}},"session":{"id":true},"timezone":1,"traits":"x"}',
)
"""Contexts whose members have other types than documented. They are stored as clients send them."""


@cache
def unusual_documents() -> tuple[bytes, ...]:
    """Return stored events of each type with unusual contexts."""
    members = (
        b'"userId":"ada","event":"Signed Up","name":"A","groupId":"acme","previousId":"old","traits":{"email":"a@b.c"}'
    )
    types = (b"track", b"page", b"screen", b"identify", b"group", b"alias")
    calls = [
        b'{"type":"%s",%s,"context":%s}' % (each, members, context) for each in types for context in UNUSUAL_CONTEXTS
    ]
    return tuple(read_documents(b'{"batch":[%s]}' % b",".join(calls), 0))


_PRODUCT: Final = {"product_id": "p-1", "sku": "s", "name": "Cup", "price": 9.5, "quantity": 1, "category": "Games"}
BLANKABLE: Final[tuple[dict[str, Any], ...]] = (
    {
        "type": "track",
        "event": "Order Completed",
        "properties": {
            **{"order_id": "o-1", "currency": "EUR", "coupon": "c", "affiliation": "a", "email": "ada@example.com"},
            **dict.fromkeys(("total", "subtotal", "shipping", "tax", "discount"), 9.5),
            "products": [_PRODUCT],
        },
    },
    {"type": "track", "event": "Product Added", "properties": {**_PRODUCT, "cart_id": "c-1", "currency": "EUR"}},
    {"type": "page", "name": "Home", "properties": {"url": "https://example.com/", "title": "Home", "referrer": "r"}},
    {
        "type": "identify",
        "traits": {
            **{"email": "ada@example.com", "phone": "+15551234567", "firstName": "Ada", "lastName": "Byron"},
            **{"birthday": "1990-12-21", "gender": "F", "createdAt": "2026-01-01T00:00:00Z", "plan": "pro"},
        },
    },
)
"""Events whose members may each be blank."""


def blank(event: dict[str, Any], part: str, name: str) -> list[bytes]:
    """Return the stored event without a member, and with a blank one."""
    changed = [{**event[part]}, {**event[part], name: ""}]
    del changed[0][name]
    calls = [{**event, "userId": "ada", "anonymousId": "a-1", part: each} for each in changed]
    return read_documents(msgspec.json.encode({"batch": calls}), 0)


@cache
def documents() -> tuple[bytes, ...]:
    """Return the stored events of all bodies."""
    return tuple(each for number, sdk in enumerate(BODIES) for each in read_documents(body_at(sdk, CALLED_AT), number))


def read_documents(body: bytes, position: int) -> list[bytes]:
    """Return the stored events of a body."""
    call = read_call("page" if b'"batch"' not in body else "batch", body)
    envelope = Envelope("track", "batch", 7, 42, microseconds(NOW), bytes([position] * 16))
    found = []
    for index, event in enumerate(call.events):
        wire = check(event, call.type)
        assert isinstance(wire, WireEvent), (body[:200], wire)
        found.append(canonical(wire, event, call, envelope, index)[1])
    return found


def find_suite(code: str) -> VendorEventsConformance:
    module = import_module(f"tests.connectors.{code.replace('-', '_')}.test_vendor")
    classes = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, VendorEventsConformance) and each is not VendorEventsConformance
    ]
    suite: VendorEventsConformance = classes[0]()
    return suite


def passes(type_: EventType) -> Predicate:
    """Return the recommended filter of an event type."""
    if not type_.filter:
        return lambda record: True
    filter_ = parse_text(type_.filter)
    assert filter_ is not None
    return compile_filter(check_filter(filter_, EVENT_SCHEMA, role="Destination", target="Event"))


async def prepare(
    sink: EventSink, type_: EventType, number: int, stored: Iterable[bytes]
) -> list[EncodedEvent | Rejected]:
    """Return the events that pass the filter of an event type, with its suggested mapping."""
    mapping = None
    if type_.schema is not None:
        expressions = suggested_mapping(type_.schema)
        mapping = CompiledMapping(expressions, EVENT_SCHEMA, plain_schema(type_.schema, expressions))
    preparer = Preparer(number, type_.id, sink, MappingTransformation(mapping), FixedClock())
    accepts = passes(type_)
    events = [each for each in map(SourceEvent, stored) if accepts(each.record)]
    return list(await preparer.prepare(events)) if events else []


def groups(sink: EventSink, events: Iterable[EncodedEvent]) -> list[list[EncodedEvent]]:
    """Return the events in requests that the policy of the sink allows."""
    limit = 1 if sink.policy.scope == "Event" else sink.policy.limits.max_events
    found: defaultdict[tuple[str, str], list[EncodedEvent]] = defaultdict(list)
    for event in events:
        found[event.route, event.user if sink.policy.scope == "User" else ""].append(event)
    return [each[first : first + limit] for each in found.values() for first in range(0, len(each), limit)]


async def send(sink: EventSink, events: Sequence[EncodedEvent]) -> list[ItemResult]:
    """Send events as a lane does: halve a request that is refused as a whole, and send again what another prevented."""
    result = await sink.send(sink.request(events, Attempt(key="0" * 32, number=1, at=NOW)), events)
    if result.failure is not None:
        assert result.failure.scope is FailureScope.BATCH, result.failure
        if len(events) == 1:
            failure = result.failure
            return [ItemResult(outcome=Outcome.REJECTED, reason=failure.reason, message=failure.message)]
        middle = len(events) // 2
        return [*await send(sink, events[:middle]), *await send(sink, events[middle:])]
    again = [event for event, each in zip(events, result.items, strict=True) if each.outcome is Outcome.RETRY]
    assert len(again) < len(events), result
    finished = [each for each in result.items if each.outcome is not Outcome.RETRY]
    return [*finished, *(await send(sink, again) if again else ())]


def make_sink(suite: VendorEventsConformance, server: VendorServer, http: ScriptedHttp | None = None) -> EventSink:
    """Return the sink of a suite, whose requests go to the server without a socket, or to another client."""
    connector = CONNECTORS[suite.CODE]
    make = connector.engine.event_sink
    assert connector.destination is not None and connector.destination.settings is not None and make is not None
    settings = connector.destination.settings.read(suite.SETTINGS)
    return make(settings, make_context(http or ScriptedHttp(server.respond)))


def check_reason(reason: str, message: str) -> None:
    """Check that people understand why an event is rejected."""
    assert _REASON.fullmatch(reason) and reason not in _NOT_FOR_PEOPLE, (reason, message)
    assert len(message.split()) >= 3, (reason, message)


@pytest.mark.parametrize("code", CODES)
async def test_events_of_sdks_are_accepted_or_rejected_with_a_reason(code: str) -> None:
    suite = find_suite(code)
    server: VendorServer = suite.make_server(CALM, lambda: (NOW - START).total_seconds())
    server.is_unlimited = True
    sink = make_sink(suite, server)
    for number, type_ in enumerate(await sink.event_types()):
        prepared = await prepare(sink, type_, number, documents())
        for each in prepared:
            if isinstance(each, Rejected):
                check_reason(each.reason, each.message)
        for events in groups(sink, [each for each in prepared if not isinstance(each, Rejected)]):
            for result in await send(sink, events):
                if result.outcome is not Outcome.DELIVERED:
                    check_reason(result.reason, result.message)
    assert server.violations == []
    assert server.accepted


@pytest.mark.parametrize("code", CODES)
async def test_unusual_contexts_are_no_errors(code: str) -> None:
    """Each event becomes a request, or is rejected with a reason for people."""
    suite = find_suite(code)
    sink = make_sink(suite, suite.make_server(CALM, lambda: (NOW - START).total_seconds()))
    for number, type_ in enumerate(await sink.event_types()):
        for each in await prepare(sink, type_, number, unusual_documents()):
            if isinstance(each, Rejected):
                check_reason(each.reason, each.message)


@pytest.mark.parametrize("code", CODES)
async def test_a_blank_member_is_no_reason_to_reject_an_event(code: str) -> None:
    """Websites send the fields of a form that were left empty. An event that needs none of them is accepted."""
    suite = find_suite(code)
    sink = make_sink(suite, suite.make_server(CALM, lambda: (NOW - START).total_seconds()))
    rejected = []
    for number, type_ in enumerate(await sink.event_types()):
        for event in BLANKABLE:
            for part in ("properties", "traits"):
                for name in event.get(part, {}).keys() - {"products", "cart_id"}:
                    made = await prepare(sink, type_, number, blank(event, part, name))
                    if made and not isinstance(made[0], Rejected) and isinstance(made[-1], Rejected):
                        rejected.append((type_.id, name, made[-1].message))
    assert not rejected, rejected


def test_every_sdk_has_an_event_that_is_stored() -> None:
    assert len(documents()) >= 2 * len(BODIES)


@pytest.mark.parametrize("code", ["braze", "customerio"])
def test_the_filter_of_the_page_finds_people_with_an_email_only(code: str) -> None:
    text = "type is 'identify' and userId is empty and traits.email is not empty"
    assert f"`{text}`" in page(code)
    accepts = passes(EventType(id="x", name="x", description="x", filter=text, schema=None))
    person = {"type": "identify", "traits": Json('{"email":"ada@example.com"}')}
    assert accepts(person)
    assert not accepts(person | {"userId": "ada"})
    assert not accepts(person | {"traits": Json("{}")})
