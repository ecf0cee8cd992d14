"""One Headwater sends to another: nothing is lost, doubled, reordered or shifted in time, whatever fails between them.

HEADWATER_ACCEPTANCE_EVENTS sets the number of events.
"""

import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.e2e.proxy import Proxy, proxy
from tests.e2e.source import Source, get, make_source
from tests.e2e.stored import stored
from tests.e2e.test_delivery import connect
from tests.system import RunningSystem, wait_until
from tests.tenants import add_tenant

EVENTS: Final = int(os.environ.get("HEADWATER_ACCEPTANCE_EVENTS", "1000"))
USERS: Final = 250
CALL_EVENTS: Final = 100
ARRIVED_WITHIN_SECONDS: Final = 60 + EVENTS / 100
TYPES: Final = ("track", "identify", "page", "screen", "group", "alias")
OWN: Final = ("connectionId", "receivedAt", "sentAt")
"""Members that each receiver sets itself."""

pytestmark = pytest.mark.timeout(200 + EVENTS / 20)


@pytest.fixture(scope="module")
def system(delivering_system: RunningSystem) -> RunningSystem:
    return delivering_system


def make_context(number: int) -> dict[str, Any]:
    """Return a context as SDKs of browsers and phones send it."""
    library = {"library": {"name": "analytics.js", "version": "2.11.1"}, "locale": "it-IT", "timezone": "Europe/Rome"}
    if number % 3 == 0:
        return library
    if number % 3 == 1:
        page = {"path": "/shop", "referrer": "", "search": "?q=1", "title": "Café ☕", "url": "https://x.example/shop"}
        campaign = {"name": "spring", "source": "news", "medium": "email"}
        agent = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"
        return {**library, "ip": "203.0.113.9", "userAgent": agent, "page": page, "campaign": campaign}
    return {
        **library,
        "app": {"name": "Shop", "version": "5.4.1", "build": "327"},
        "device": {"id": f"device-{number % 50}", "manufacturer": "Apple", "model": "iPhone15,2", "type": "ios"},
        "network": {"carrier": "TIM", "cellular": True, "wifi": False},
        "os": {"name": "iOS", "version": "17.4"},
        "screen": {"width": 390, "height": 844, "density": 3.0},
    }


def make_event(number: int, moment: datetime) -> dict[str, Any]:
    """Return an event of one of the users at a moment of the client's clock."""
    user, type_ = f"user-{number % USERS}", TYPES[number // USERS % len(TYPES) if number >= USERS else number % 6]
    traits = {"email": f"{user}@example.com", "plan": "pro", "score": 1234567890.123456789}
    members: dict[str, dict[str, Any]] = {
        "track": {"event": "Order Completed", "properties": {"total": 9.5, "n": number, "products": [{"sku": "a"}]}},
        "identify": {"traits": traits},
        "page": {"name": "Shop", "category": "Docs", "properties": {"url": "https://x.example/shop"}},
        "screen": {"name": "Basket", "properties": {"items": 3}},
        "group": {"groupId": f"group-{number % 9}", "traits": {"employees": 50}},
        "alias": {"previousId": f"anonymous-{user}"},
    }
    event = members[type_] | {"type": type_, "userId": user, "messageId": f"m{number}", "context": make_context(number)}
    if number % 4:
        event["timestamp"] = moment.isoformat()
    if number % 4 == 2:
        event["originalTimestamp"] = (moment - timedelta(minutes=5)).isoformat()
    return event


class Sender:
    """A source that sends in calls of several events, from clients whose clocks are wrong."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._random = random.Random(11)
        self.sent = 0

    def send(self, through: int) -> None:
        """Send the events up to a number."""
        while self.sent < through:
            clock = datetime.now(UTC) + timedelta(seconds=self._random.uniform(-80_000, 80_000))
            batch = [
                make_event(number, clock - timedelta(seconds=self._random.uniform(0, 1_000_000)))
                for number in range(self.sent, min(self.sent + CALL_EVENTS, through))
            ]
            response = self._source.send("batch", {"sentAt": clock.isoformat(), "batch": batch})
            assert response.status_code == 200, response.text
            self.sent += len(batch)


def kill_courier(system: RunningSystem) -> None:
    os.kill(system.children()["courier"], signal.SIGKILL)


def comparable(events: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the events by message id, without what each receiver sets."""
    found = {}
    for event in events:
        context = {name: value for name, value in event["context"].items() if name != "headwater"}
        kept = {name: value for name, value in event.items() if name not in OWN}
        found[event["messageId"]] = {**kept, "context": context}
    return found


def users_order(events: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the message ids of each user, in the order of acceptance."""
    found = defaultdict(list)
    for event in events:
        found[event["userId"]].append(event["messageId"])
    return found


def connect_workspaces(system: RunningSystem, between: Proxy) -> tuple[Source, Source, int]:
    """Return a source, the source of another workspace to which its events are sent, and the destination."""
    sending, receiving = make_source(system), make_source(add_tenant(system, "Receiver"))
    settings = {"writeKey": receiving.write_key, "endpoint": f"{between.url}/v1/batch"}
    return sending, receiving, connect(sending, "segment-api", settings, "send_event")


def check_equal(sending: Source, receiving: Source, events: int) -> None:
    """Check that both workspaces have the same events in the same order of each user."""
    sent, received = sending.events(), receiving.events()
    assert Counter(each["messageId"] for each in received) == {f"m{number}": 1 for number in range(events)}
    assert users_order(received) == users_order(sent)
    expected = comparable(sent)
    differing = {id_: (event, expected[id_]) for id_, event in comparable(received).items() if event != expected[id_]}
    assert not differing, next(iter(differing.values()))


def test_all_events_arrive_as_they_are_stored(system: RunningSystem) -> None:
    with proxy(system.port) as between:
        sending, receiving, destination = connect_workspaces(system, between)
        sender = Sender(sending)
        sender.send(EVENTS // 4)  # the receiver cannot be reached
        between.keep_back()
        between.open()
        assert between.kept_back.wait(ARRIVED_WITHIN_SECONDS)  # the events have arrived, and the courier does not know
        kill_courier(system)
        between.release()
        sender.send(EVENTS // 2)
        wait_until(lambda: stored(receiving) >= EVENTS // 3, ARRIVED_WITHIN_SECONDS)
        between.cut()
        sender.send(3 * EVENTS // 4)
        between.open()
        sender.send(EVENTS)
        wait_until(lambda: stored(receiving) > EVENTS // 2, ARRIVED_WITHIN_SECONDS)
        kill_courier(system)
        wait_until(lambda: stored(receiving) >= EVENTS, ARRIVED_WITHIN_SECONDS)
        wait_until(lambda: open_items(sending.system, destination) == 0, ARRIVED_WITHIN_SECONDS)
    check_equal(sending, receiving, EVENTS)
    assert get(system, f"/v1/dead-letters?destination={destination}")["deadLetters"] == []


def open_items(system: RunningSystem, destination: int) -> int:
    return int(get(system, f"/v1/connections/{destination}/delivery")["openItems"])
