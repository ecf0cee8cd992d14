"""HubSpot's connector against HubSpot's server."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from msgspec import Raw

from headwater.connectors.contract import EventSink
from headwater.connectors.hubspot.events import HubSpotSink, to_uuid
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.events.event import Event
from headwater.schemas import DateTime, Record
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance, VendorUserSourceConformance
from tests.connectors.vendors.hubspot import TOKEN, HubSpotServer
from tests.connectors.vendors.server import Plan, VendorServer
from tests.virtualtime import START


class TestEvents(VendorEventsConformance):
    CODE = "hubspot"
    SETTINGS: ClassVar = {"accessToken": TOKEN}
    SECRETS = (TOKEN,)
    INVALID: ClassVar = {
        "MissingIdentity": {"traits": Raw(b'{"email":"0"}')},
        "ValidationError": {"traits": Raw(b'{"email":"no address"}')},
        "InvalidOutput": {"properties": Raw(b'{"currency":"%s"}' % (b"x" * 257))},
    }
    REPAIRS = ("InvalidOutput", {"currency": "substring(properties.currency, 1, 3)"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return HubSpotServer(plan, now)

    def sink(self) -> EventSink:
        """Return a sink that reads the event types of the server."""
        return HubSpotSink(HubSpotSettings(access_token=TOKEN), make_context(ScriptedHttp(HubSpotServer().respond)))

    def vendor_id(self, key: str, event: Event) -> str:
        return to_uuid(key)


class TestUserSink(VendorUserSinkConformance):
    CODE = "hubspot"
    SETTINGS: ClassVar = {"accessToken": TOKEN}
    SECRETS = (TOKEN,)
    CHANGED = "firstname"
    USERS = 1_000

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return HubSpotServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        return {
            "email": self.refused_key(number),
            "firstname": f"Name {version}",
            "lastname": None,
            "score": 1.5 * version,
            "birthday": date(1990, 1, version),
            "signed_up_at": DateTime.of(datetime(2026, 5, 4, 12, 0, version, tzinfo=UTC)),
            "is_vip": version == 1,
            "colours": ["red", "blue"],
        }

    def refused_key(self, number: int) -> str:
        return f"user-{number}@example.com"

    def missing_id(self) -> str:
        return "987654321"

    def find(self, server: Any, number: int) -> list[str]:
        found: list[str] = server.contacts.find(self.refused_key(number))
        return found

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        version = str(attributes["firstname"])[-1]
        score = {"1.5": "1.5", "3.0": "3"}[str(attributes["score"])]
        expected = {
            "email": attributes["email"],
            "firstname": f"Name {version}",
            "lastname": "",
            "score": score,
            "birthday": str(attributes["birthday"]),
            "signed_up_at": str(attributes["signed_up_at"]).replace("Z", ".000Z"),
            "is_vip": "true" if attributes["is_vip"] else "false",
            "colours": "red;blue",
        }
        return bool(server.contacts.by_id[id_] == expected)


class TestUserSource(VendorUserSourceConformance):
    CODE = "hubspot"
    SETTINGS: ClassVar = {"accessToken": TOKEN}
    SECRETS = (TOKEN,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return HubSpotServer(plan, now)

    def fill(self, server: Any, count: int) -> Sequence[str]:
        return [
            server.contacts.add(
                START + timedelta(seconds=number),
                email=f"user-{number}@example.com",
                firstname="Ada",
                score="1.5",
                birthday="1990-12-10" if number % 2 else "660787200000",
                signed_up_at="2026-05-04T12:00:00.500Z",
                is_vip="false",
                plan="pro",
                colours="red;blue",
            )
            for number in range(count)
        ]

    def expected(self, number: int) -> Record:
        return {
            "email": f"user-{number}@example.com",
            "firstname": "Ada",
            "lastname": None,
            "score": 1.5,
            "birthday": date(1990, 12, 10),
            "signed_up_at": DateTime.parse("2026-05-04T12:00:00.5Z"),
            "is_vip": False,
            "plan": "pro",
            "colours": ["red", "blue"],
            "lastmodifieddate": DateTime.of(START + timedelta(seconds=number)),
        }
