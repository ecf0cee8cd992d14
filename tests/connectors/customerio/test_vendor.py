"""Customer.io's connector against Customer.io's server."""

import json
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from headwater.connectors.customerio.schemas import WRITABLE_SCHEMA
from headwater.events.event import Event
from headwater.schemas import Codec, Json, Record, all_optional
from tests.connectors.conformance.context import FixedClock
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.conformance.vendor_types import send_each_event_type
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.vendors.customerio import API_KEY, SITE_ID, CustomerIoServer
from tests.connectors.vendors.server import Plan, VendorServer

SETTINGS = {"siteID": SITE_ID, "apiKey": API_KEY, "region": "US"}
_CODEC = Codec(all_optional(WRITABLE_SCHEMA))
BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def to_ulid(milliseconds: int, key: str) -> str:
    """Return the ULID of a time and the last 80 bits of a key, digit by digit."""
    number = milliseconds * 2**80 + int(key, 16) % 2**80
    digits = ""
    while len(digits) < 26:
        number, digit = divmod(number, 32)
        digits = BASE32[digit] + digits
    return digits


class TestEvents(VendorEventsConformance):
    CODE = "customerio"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (API_KEY,)
    INVALID: ClassVar = {
        "MissingIdentity": {"user_id": "null", "anonymous_id": "undefined"},
        "MissingName": {"event": "undefined"},
        "InvalidOutput": {"event": "x" * 101},
        "EventTooLarge": {"properties": Raw(b'{"text":"%s"}' % (b"x" * 40_000))},
    }
    REPAIRS = ("InvalidOutput", {"name": "substring(event, 1, 15)"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return CustomerIoServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return to_ulid(int(event.timestamp.timestamp() * 1_000), key)

    async def test_each_event_type_is_accepted_with_its_suggested_mapping(self) -> None:
        members = {"connection_id": 1, "name": "Home", "group_id": "acme", "previous_id": "ada-old"}
        context = Raw(b'{"device":{"token":"t-1","type":"iOS"},"os":{"name":"iOS","version":"17.1"},"locale":"it-IT"}')
        event = msgspec.structs.replace(self.event(1, "ada", FixedClock()), context=context, **members)
        server = await send_each_event_type(self, event)
        assert isinstance(server, CustomerIoServer)
        names = [item.content.get("name") for item in server.accepted]
        assert names == ["Order Completed", "Home", "Home", None]
        assert (
            server.find(email="ada@example.com") == server.find(id="ada") == server.find(anonymous_id="anonymous-ada")
        )
        assert server.devices["t-1"]["platform"] == "ios" and server.devices["t-1"]["person"] == "ada"
        assert server.relationships == {("acme", "ada")} and ("1", "acme") in server.objects


class TestUserSink(VendorUserSinkConformance):
    CODE = "customerio"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (API_KEY,)
    CHANGED = "timezone"
    IS_WRITE_ONLY = True

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return CustomerIoServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        return {
            "id": self.refused_key(number),
            "email": f"user-{number}@example.com",
            "phone": None,
            "timezone": f"Etc/GMT+{version}",
            "attributes": {"version": Json(str(version)), "tags": Json('["a",{"b":1.50}]')},
        }

    def find(self, server: Any, number: int) -> list[str]:
        return [server.people[cio_id]["id"] for cio_id in server.find(id=self.refused_key(number))]

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        [cio_id] = server.find(id=id_)
        stored = server.people[cio_id]
        written = json.loads(_CODEC.encode(attributes))
        written |= written.pop("attributes", {})
        assert written.pop("phone", None) is None
        return bool(written.items() <= stored.items() and "phone" not in stored)
