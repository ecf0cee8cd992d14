"""Braze's connector against Braze's server."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import pytest
from msgspec import Raw

from headwater.base.clock import Clock
from headwater.connectors.braze.api import MAX_OBJECTS
from headwater.connectors.braze.events import MAX_CONCURRENCY
from headwater.connectors.braze.schemas import WRITABLE
from headwater.events.event import Event
from headwater.schemas import Codec, Json, Record, all_optional
from tests.connectors.conformance.context import FixedClock
from tests.connectors.conformance.vendor import Installation, VendorEventsConformance
from tests.connectors.conformance.vendor_types import send_each_event_type
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.vendors.braze import API_KEY, ENDPOINT, BrazeServer
from tests.connectors.vendors.server import CALM, Plan, VendorServer

SETTINGS = {"restEndpoint": ENDPOINT, "apiKey": API_KEY, "appID": "app-1", "aliasLabel": "device"}
MAX_FINISHED: Final = 500
"""Finished events that a crash repeats, as docs/delivery.md states."""
_CODEC = Codec(all_optional(WRITABLE))


class TestEvents(VendorEventsConformance):
    CODE = "braze"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (API_KEY,)
    DEDUPLICATES = False
    INVALID: ClassVar = {
        "MissingIdentity": {"user_id": "null", "anonymous_id": "undefined"},
        "MissingName": {"event": "undefined"},
        "InvalidOutput": {"event": "x" * 256},
        "InvalidProperties": {"properties": Raw(b'{"time":"noon"}')},
    }
    REPAIRS = ("InvalidOutput", {"name": "substring(event, 1, 15)"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return BrazeServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return event.message_id[1:]

    async def test_each_event_type_is_accepted_with_its_suggested_mapping(self) -> None:
        products = [{"sku": "s1", "price": 9.5, "quantity": 2}, {"product_id": "s2", "price": 1}]
        properties = Raw(msgspec.json.encode({"order_id": "o-1", "currency": "EUR", "total": 20, "products": products}))
        event = self.event(1, "ada", FixedClock())
        event = msgspec.structs.replace(
            event, connection_id=1, name="Home", previous_id="ada-old", properties=properties
        )
        server = await send_each_event_type(self, event)
        assert isinstance(server, BrazeServer)
        names = [item.content.get("name") or item.content.get("product_id") for item in server.accepted]
        assert names == [
            "Order Completed",
            "ecommerce.order_placed",
            "s1",
            "s2",
            "Viewed Home",
            "Viewed Home",
            None,
        ]
        assert server.purchases[0]["properties"] == {"order_id": "o-1", "total": 20, "sku": "s1"}
        assert server.users["ada"]["email"] == "ada@example.com"

    def test_a_crash_repeats_at_most_the_documented_number_of_events(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            await self.append_backlog(installation, 3_000, 500)
            killed = asyncio.create_task(installation.dispatcher.run(asyncio.Event()))
            while len(server.requests) < 5:
                await asyncio.sleep(0)
            killed.cancel()
            await asyncio.gather(killed, return_exceptions=True)
            server.lost = server.copies.copy()
            async with installation.dispatching():
                await installation.wait_until_empty()
            await self.verify(installation, server)
            repeated = sum(copies - 1 for copies in server.copies.values())
            assert repeated <= MAX_CONCURRENCY * MAX_OBJECTS + MAX_FINISHED

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_a_lost_response_repeats_only_its_request(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            await self.append_backlog(installation, 600, 300)
            async with installation.dispatching():
                await installation.wait_until_empty()
            await self.verify(installation, server)
            repeated = sum(copies - 1 for copies in server.copies.values())
            assert repeated == server.lost.total() > 0

        self.run(monkeypatch, tmp_path, Plan(seed=3, lost_after=1.0, max_faults=3), main)


class Merging(TestEvents):
    """Sends events that merge users. It is no suite of its own."""

    __test__ = False

    def event(self, number: int, user: str, clock: Clock) -> Event:
        return msgspec.structs.replace(super().event(number, user, clock), previous_id=f"{user}-{number}")


@pytest.mark.parametrize(("event_type", "largest"), [("identify", 37), ("merge", 1)])
def test_merges_are_within_the_limits_of_their_requests(
    event_type: str, largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(installation: Installation, server: VendorServer) -> None:
        await suite.append_backlog(installation, 120, 30)
        async with installation.dispatching():
            await installation.wait_until_empty()
        assert server.violations == [] and not await installation.dead_letters()
        assert {each.path for each in server.requests} == {f"/users/{event_type}"}
        assert max(len(next(iter(each.json().values()))) for each in server.requests) == largest

    suite = Merging()
    monkeypatch.setattr(Merging, "EVENT_TYPE", event_type)
    suite.run(monkeypatch, tmp_path, Plan(seed=2, throttled=0.1, failed=0.1, lost_after=0.1, max_faults=9), main)


class TestUserSink(VendorUserSinkConformance):
    CODE = "braze"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (API_KEY,)
    CHANGED = "first_name"
    IS_WRITE_ONLY = True

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return BrazeServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        return {
            "external_id": self.refused_key(number),
            "email": f"user-{number}@example.com",
            "first_name": f"Name {version}",
            "last_name": None,
            "custom_attributes": {"version": Json(str(version)), "tags": Json('["a",{"b":1.50}]')},
        }

    def identity(self, number: int) -> Record:
        return {"external_id": self.refused_key(number)}

    def find(self, server: Any, number: int) -> list[str]:
        return [id_ for id_ in server.users if id_ == self.refused_key(number)]

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        stored = server.users[id_]
        written = json.loads(_CODEC.encode(attributes))
        written |= written.pop("custom_attributes", {})
        assert written.pop("last_name", None) is None
        return bool(written.items() <= stored.items() and "last_name" not in stored)
