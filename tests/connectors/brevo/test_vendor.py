"""Brevo's connector against Brevo's server."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any, ClassVar

from msgspec import Raw

from headwater.events.event import Event
from headwater.schemas import DateTime, Record
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance, VendorUserSourceConformance
from tests.connectors.vendors.brevo import KEY, BrevoServer
from tests.connectors.vendors.server import Plan, VendorServer
from tests.virtualtime import START


class TestEvents(VendorEventsConformance):
    CODE = "brevo"
    SETTINGS: ClassVar = {"apiKey": KEY}
    SECRETS = (KEY,)
    DEDUPLICATES = False
    INVALID: ClassVar = {
        "MissingIdentity": {"traits": Raw(b'{"email":"undefined"}')},
        "MissingEventName": {"event": "\N{CJK UNIFIED IDEOGRAPH-6CE8}"},
        "InvalidProperties": {"properties": Raw(b'{"n":23,"order id":1}')},
        "PropertiesTooLarge": {"properties": Raw(b'{"n":24,"text":"%s"}' % (b"x" * 50_000))},
    }
    REPAIRS = ("MissingEventName", {"event_name": "'Repaired'"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return BrevoServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return event.message_id


class TestUserSink(VendorUserSinkConformance):
    CODE = "brevo"
    SETTINGS: ClassVar = {"apiKey": KEY}
    SECRETS = (KEY,)
    CHANGED = "FIRSTNAME"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return BrevoServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        # As in exports that match contacts by their address: it is written only to create one.
        email: Record = {"email": self.refused_key(number)} if version == 1 else {}
        return email | {
            "ext_id": f"u-{number}",
            "email_blacklisted": version == 2,
            "FIRSTNAME": f"Name {version}",
            "LASTNAME": None,
            "SCORE": 1.5 + version,
            "BIRTHDAY": date(1990, 1, version),
            "VIP": version == 1,
            "TAGS": ["red", "blue"],
            "GENDER": version,
        }

    def refused_key(self, number: int) -> str:
        return f"user-{number}@example.com"

    def missing_id(self) -> str:
        return "987654321"

    def find(self, server: Any, number: int) -> list[str]:
        return [str(id_) for id_ in server.contacts.find("EMAIL", self.refused_key(number))]

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        stored = server.contacts.by_id[int(id_)]
        expected: Record = {"EXT_ID": attributes["ext_id"]} | {
            name: str(value) if isinstance(value, date) else value
            for name, value in attributes.items()
            if name.isupper() and value is not None
        }
        others = {name: value for name, value in stored["attributes"].items() if name != "EMAIL"}
        return bool(others == expected and stored["email"] is attributes["email_blacklisted"])


class TestUserSource(VendorUserSourceConformance):
    CODE = "brevo"
    SETTINGS: ClassVar = {"apiKey": KEY}
    SECRETS = (KEY,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return BrevoServer(plan, now)

    def fill(self, server: Any, count: int) -> Sequence[str]:
        return [
            str(
                server.contacts.add(
                    START + timedelta(seconds=number),
                    EMAIL=f"user-{number}@example.com",
                    EXT_ID=f"u-{number}",
                    FIRSTNAME="Ada",
                    SCORE=3,
                    BIRTHDAY="1990-12-10",
                    TAGS=["red"],
                    GENDER=2 if number % 2 else "female",
                    **{"DOUBLE_OPT-IN": True},
                )
            )
            for number in range(count)
        ]

    def expected(self, number: int) -> Record:
        return {
            "email": f"user-{number}@example.com",
            "ext_id": f"u-{number}",
            "email_blacklisted": False,
            "list_ids": [7],
            "modified_at": DateTime.of(START + timedelta(seconds=number)),
            "FIRSTNAME": "Ada",
            "LASTNAME": None,
            "SCORE": 3.0,
            "BIRTHDAY": date(1990, 12, 10),
            "TAGS": ["red"],
            "GENDER": 2,
            "DOUBLE_OPT_IN": True,
        }
