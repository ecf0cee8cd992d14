"""Mailchimp's connector against Mailchimp's server."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import md5
from typing import Any, ClassVar

from headwater.schemas import DateTime, Record
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance, VendorUserSourceConformance
from tests.connectors.vendors.mailchimp import KEY, LIST, MailchimpServer
from tests.connectors.vendors.server import Plan, VendorServer
from tests.virtualtime import START

ADDRESS: Record = {
    "addr1": "Karl Johans gate 1",
    "addr2": "",
    "city": "Oslo",
    "state": "Oslo",
    "zip": "0154",
    "country": "NO",
}


class TestUserSink(VendorUserSinkConformance):
    CODE = "mailchimp"
    SETTINGS: ClassVar = {"apiKey": KEY, "audience": LIST}
    SECRETS = (KEY,)
    USERS = 700
    CHANGED = "language"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MailchimpServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        return {
            "email_address": self.refused_key(number),
            "status_if_new": "pending",
            "language": f"l{version}",
            "vip": False,
            "merge_fields": {"FNAME": f"Name {version}", "PLAN": None, "POINTS": 1.5, "ADDRESS": ADDRESS},
        }

    def refused_key(self, number: int) -> str:
        return f"User-{number}@example.com"

    def find(self, server: Any, number: int) -> list[str]:
        email = self.refused_key(number)
        return [id_ for id_, member in server.members.items() if member["email_address"] == email]

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        stored: dict[str, Any] = server.members[id_]
        given: Any = attributes["merge_fields"]
        fields = {tag: "" if value is None else value for tag, value in given.items()}
        return bool(
            stored["status"] == "pending"
            and fields.items() <= stored["merge_fields"].items()
            and all(stored[name] == attributes[name] for name in ("email_address", "language", "vip"))
        )


class TestUserSource(VendorUserSourceConformance):
    CODE = "mailchimp"
    SETTINGS: ClassVar = {"apiKey": KEY, "audience": LIST}
    SECRETS = (KEY,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MailchimpServer(plan, now)

    def fill(self, server: Any, count: int) -> Sequence[str]:
        return [
            server.add(
                START + timedelta(seconds=number),
                email_address=f"User-{number}@example.com",
                merge_fields={"FNAME": "Ada", "POINTS": 7, "ADDRESS": ADDRESS, "PLAN": "pro"},
                timestamp_signup="2026-01-02T03:04:05+00:00",
                tags=[{"id": 1, "name": "VIP"}, {"id": 2, "name": "Åre"}],
            )
            for number in range(count)
        ]

    def expected(self, number: int) -> Record:
        return {
            "id": md5(f"user-{number}@example.com".encode()).hexdigest(),
            "email_address": f"User-{number}@example.com",
            "status": "subscribed",
            "last_changed": DateTime.of(START + timedelta(seconds=number)),
            "tags": ["VIP", "Åre"],
            "merge_fields": {
                "FNAME": "Ada",
                "POINTS": 7.0,
                "ADDRESS": {**ADDRESS, "addr2": None},
                "PLAN": "pro",
                "BIRTHDAY": None,
            },
        }
