"""MailerLite's connector against MailerLite's server."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from headwater.schemas import DateTime, Record
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance, VendorUserSourceConformance
from tests.connectors.vendors.mailerlite import KEY, MailerLiteServer
from tests.connectors.vendors.server import Plan, VendorServer
from tests.virtualtime import START


class TestUserSink(VendorUserSinkConformance):
    CODE = "mailerlite"
    SETTINGS: ClassVar = {"apiKey": KEY}
    SECRETS = (KEY,)
    CHANGED = "ip_address"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MailerLiteServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        return {
            "email": self.refused_key(number),
            "status": "active",
            "ip_address": f"192.0.2.{version}",
            "fields": {"name": f"Name {version}", "points": 1.5, "birthday": "1815-12-10", "z_i_p": None},
        }

    def refused_key(self, number: int) -> str:
        return f"user-{number}@example.com"

    def find(self, server: Any, number: int) -> list[str]:
        found: list[str] = server.find(self.refused_key(number))
        return found

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        stored, fields = server.subscribers[id_], attributes["fields"]
        assert isinstance(fields, dict)
        rest = {name: value for name, value in attributes.items() if name != "fields"}
        return bool(rest.items() <= stored.items() and fields.items() <= stored["fields"].items())

    def missing_id(self) -> str:
        return "404"


class TestUserSource(VendorUserSourceConformance):
    CODE = "mailerlite"
    SETTINGS: ClassVar = {"apiKey": KEY}
    SECRETS = (KEY,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MailerLiteServer(plan, now)

    def fill(self, server: Any, count: int) -> Sequence[str]:
        return [
            server.add(
                START + timedelta(seconds=number),
                email=f"user-{number}@example.com",
                fields={"name": "Ada", "points": "7.5", "birthday": "1815-12-10"},
                opens_count=3,
            )
            for number in range(count)
        ]

    def expected(self, number: int) -> Record:
        return {
            "email": f"user-{number}@example.com",
            "status": "active",
            "opens_count": 3,
            "updated_at": DateTime.of(START + timedelta(seconds=number)),
            "unsubscribed_at": None,
            "fields": {"name": "Ada", "last_name": None, "z_i_p": None, "points": 7.5, "birthday": "1815-12-10"},
        }
