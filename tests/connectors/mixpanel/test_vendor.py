"""Mixpanel's connector against Mixpanel's server."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Raw

from headwater.base.clock import Clock
from headwater.connectors.mixpanel.schemas import WRITABLE_NAMES, WRITABLE_SCHEMA
from headwater.events.event import Event
from headwater.schemas import Codec, Json, Record, all_optional
from tests.connectors.conformance.context import FixedClock
from tests.connectors.conformance.vendor import Installation, VendorEventsConformance
from tests.connectors.conformance.vendor_types import send_each_event_type, send_full_requests
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.vendors.mixpanel import TOKEN, MixpanelServer, update_id
from tests.connectors.vendors.server import CALM, Plan, VendorServer

SETTINGS: dict[str, Any] = {"projectID": "3012345", "projectToken": TOKEN, "dataResidency": "EU"}
_CODEC = Codec(all_optional(WRITABLE_SCHEMA))


class TestEvents(VendorEventsConformance):
    CODE = "mixpanel"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (TOKEN,)
    EVENT_TYPE = "track"
    INVALID: ClassVar = {
        "MissingIdentity": {"user_id": "null", "anonymous_id": "undefined"},
        "MissingName": {"event": " "},
        "InvalidOutput": {"event": "x" * 256},
        "ReservedName": {"event": "$merge"},
        "ReservedProperty": {"properties": Raw(b'{"bucket":"a"}')},
        "InvalidProperties": {"properties": Raw(b'{"n":{"a":{"b":{"c":{}}}}}')},
        "TooManyProperties": {"properties": Raw(b"{%s}" % b",".join(b'"p%d":1' % number for number in range(255)))},
        "EventTooLarge": {"properties": Raw(b'{"n":"%s"}' % (b"x" * 1_000_000))},
        "EventTooOld": {"age": timedelta(days=60 * 365)},
        "EventInFuture": {"age": timedelta(hours=-2)},
    }
    REPAIRS = ("InvalidOutput", {"event": "substring(event, 1, 255)"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MixpanelServer(plan, now)

    def test_requests_become_smaller_if_the_vendor_demands_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            assert isinstance(server, MixpanelServer)
            server.max_body_bytes = 20_000
            await self.append_backlog(installation, self.EVENTS, self.USERS)
            async with installation.dispatching():
                await installation.wait_until_empty()
            await self.verify(installation, server)
            assert max(server.copies.values()) == 1

        self.run(monkeypatch, tmp_path, CALM, main)

    async def test_full_requests_are_accepted(self) -> None:
        server = await send_full_requests(self)
        assert len(server.accepted) == 2 * 2_000

    async def test_each_event_type_is_accepted_with_its_suggested_mapping(self) -> None:
        event = self.event(1, "ada", FixedClock())
        products = [{"sku": "a", "price": 4.5}, {"sku": "b"}]
        properties = {"order_id": "o-1", "total": 9.5, "products": products}
        page = {"page": {"url": "https://shop.example/"}, "os": {"name": "iOS"}, "ip": "203.0.113.9"}
        event = msgspec.structs.replace(
            event,
            connection_id=1,
            name="Home",
            properties=msgspec.Raw(msgspec.json.encode(properties)),
            context=msgspec.Raw(msgspec.json.encode(page)),
        )
        server = await send_each_event_type(self, event)
        events = [item.content for item in server.accepted if "event" in item.content]
        assert [each["event"] for each in events] == [
            *("Order Completed", "Product Purchased", "Product Purchased", "Order Completed"),
            *("Viewed Home", "Viewed Home"),
        ]
        assert "products" not in events[0]["properties"] and events[2]["properties"]["sku"] == "b"
        assert all(each["properties"]["$os"] == "iOS" for each in events)
        assert all(each["properties"]["ip"] == "203.0.113.9" for each in events)


class TestProfiles(VendorEventsConformance):
    CODE = "mixpanel"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (TOKEN,)
    EVENT_TYPE = "identify"
    EVENTS = 120

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MixpanelServer(plan, now)

    def event(self, number: int, user: str, clock: Clock) -> Event:
        traits = {"email": f"{user}@example.com", "visits": number}
        event = super().event(number, user, clock)
        return msgspec.structs.replace(event, type="identify", traits=msgspec.Raw(msgspec.json.encode(traits)))

    def vendor_id(self, key: str, event: Event) -> str:
        traits = msgspec.json.decode(event.traits)
        return update_id(str(event.user_id), {"$email": traits["email"], "visits": traits["visits"]})


class TestUserSink(VendorUserSinkConformance):
    CODE = "mixpanel"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (TOKEN,)
    CHANGED = "name"
    IS_WRITE_ONLY = True

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        server = MixpanelServer(plan, now)
        server.refuses_users = True
        return server

    def attributes(self, number: int, version: int) -> Record:
        return {
            "distinct_id": self.refused_key(number),
            "email": f"user-{number}@example.com",
            "name": f"Name {version}",
            "phone": None,
            "properties": {"version": Json(str(version)), "tags": Json('["a",{"b":1.50}]'), "plan": Json("null")},
        }

    def identity(self, number: int) -> Record:
        return {"distinct_id": self.refused_key(number)}

    def find(self, server: Any, number: int) -> list[str]:
        return [id_ for id_ in server.profiles if id_ == self.refused_key(number)]

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        values = json.loads(_CODEC.encode(attributes))
        del values["distinct_id"]
        written = values.pop("properties") | {WRITABLE_NAMES[name]: value for name, value in values.items()}
        return bool(server.profiles[id_] == {name: value for name, value in written.items() if value is not None})
