"""Klaviyo's connector against Klaviyo's server."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from headwater.connectors.klaviyo.schemas import WRITABLE_SCHEMA
from headwater.schemas import Codec, DateTime, Json, Record, all_optional
from tests.connectors.conformance.context import FixedClock
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.conformance.vendor_types import send_each_event_type
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance, VendorUserSourceConformance
from tests.connectors.vendors.klaviyo import KEY, KlaviyoServer
from tests.connectors.vendors.server import Plan, VendorServer
from tests.virtualtime import START

_CODEC = Codec(all_optional(WRITABLE_SCHEMA))


class TestEvents(VendorEventsConformance):
    CODE = "klaviyo"
    SETTINGS: ClassVar = {"privateAPIKey": KEY}
    SECRETS = (KEY,)
    INVALID: ClassVar = {
        "MissingIdentity": {"traits": Raw(b'{"email":"undefined"}')},
        "MissingMetric": {"event": "null"},
        "Invalid": {"traits": Raw(b'{"email":"no address"}')},
        "InvalidOutput": {"properties": Raw(b'{"currency":"EURO","total":"9.50"}')},
        "InvalidProperties": {"properties": Raw(b'{"text":"%s"}' % (b"x" * 100_001))},
        "TooManyProperties": {"properties": Raw(json.dumps(dict.fromkeys(map(str, range(401)), 1)).encode())},
        "EventTooOld": {"age": timedelta(days=27 * 365)},
        "EventInFuture": {"age": timedelta(days=-366)},
    }
    REPAIRS = ("Invalid", {"email": "if(eq(traits.email, 'no address'), 'repaired@example.com', traits.email)"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return KlaviyoServer(plan, now)

    async def test_each_event_type_is_accepted_with_its_suggested_mapping(self) -> None:
        """The amount of a shop can be a text, and its currency in lower case."""
        event = self.event(1, "ada", FixedClock())
        properties = Raw(b'{"order_id":"o-1","total":"27.50","currency":"usd","products":[{"price":"9.50"}]}')
        server = await send_each_event_type(
            self, msgspec.structs.replace(event, connection_id=1, properties=properties)
        )
        for item in server.accepted:
            assert (item.content["value"], item.content["value_currency"]) == (27.5, "USD")
            assert item.content["metric"]["data"]["attributes"]["name"] == "Order Completed"
        profiles = [item.content["profile"] for item in server.accepted]
        everyone = {"email": "ada@example.com", "external_id": "ada", "anonymous_id": "anonymous-ada"}
        assert profiles == [{"email": "ada@example.com"}, everyone]


class TestUserSink(VendorUserSinkConformance):
    CODE = "klaviyo"
    SETTINGS: ClassVar = {"privateAPIKey": KEY}
    SECRETS = (KEY,)
    CHANGED = "first_name"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return KlaviyoServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        return {
            "email": self.refused_key(number),
            "first_name": f"Name {version}",
            "title": None,
            "location": {"city": "Oslo", "zip": f"{version:04d}"},
            "properties": {"version": Json(str(version)), "tags": Json('["a",{"b":1.50}]')},
        }

    def refused_key(self, number: int) -> str:
        return f"user-{number}@example.com"

    def find(self, server: Any, number: int) -> list[str]:
        found: list[str] = server.profiles.find("email", self.refused_key(number))
        return found

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        stored, written = server.profiles.by_id[id_], json.loads(_CODEC.encode(attributes))
        location = written.pop("location")
        return bool(location.items() <= stored["location"].items() and written.items() <= stored.items())


class TestUserSource(VendorUserSourceConformance):
    CODE = "klaviyo"
    SETTINGS: ClassVar = {"privateAPIKey": KEY}
    SECRETS = (KEY,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return KlaviyoServer(plan, now)

    def fill(self, server: Any, count: int) -> Sequence[str]:
        return [
            server.profiles.add(
                START + timedelta(seconds=number),
                email=f"user-{number}@example.com",
                first_name="Ada",
                location={"city": "Oslo", "latitude": 59.9139, "longitude": "10.75"},
                properties={"plan": "free", "Favourite colours": ["red", None], "score": 1.5},
            )
            for number in range(count)
        ]

    def expected(self, number: int) -> Record:
        moment = DateTime.of(START + timedelta(seconds=number))
        places = dict.fromkeys(("address1", "address2", "region", "zip", "country", "timezone"))
        return {
            "email": f"user-{number}@example.com",
            "external_id": None,
            "first_name": "Ada",
            "location": {**places, "city": "Oslo", "latitude": "59.9139", "longitude": "10.75"},
            "updated": moment,
            "email_consent": "NEVER_SUBSCRIBED",
            "sms_consent": None,
            "properties": {
                "plan": Json('"free"'),
                "Favourite colours": Json('["red",null]'),
                "score": Json("1.5"),
            },
        }
