"""Customer.io's connector against Customer.io's server."""

import json
from collections.abc import Callable
from typing import Any, ClassVar

from headwater.connectors.customerio.schemas import WRITABLE_SCHEMA
from headwater.events.event import Event
from headwater.schemas import Codec, Json, Record, all_optional
from tests.connectors.conformance.vendor import VendorEventsConformance
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

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return CustomerIoServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return to_ulid(int(event.timestamp.timestamp() * 1_000), key)


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
