"""Google Analytics' connector against Google Analytics' server."""

from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar

from msgspec import Raw

from headwater.events.event import Event
from tests.connectors.conformance.vendor import Installation, VendorEventsConformance
from tests.connectors.vendors.google_analytics import MEASUREMENT_ID, SECRET, GoogleAnalyticsServer
from tests.connectors.vendors.server import Plan, VendorServer


class TestEvents(VendorEventsConformance):
    CODE = "google-analytics"
    SETTINGS: ClassVar = {"measurementID": MEASUREMENT_ID, "apiSecret": SECRET, "collectionEndpoint": "EU"}
    SECRETS = (SECRET,)
    EVENT_TYPE = "custom_event"
    MAPPING: ClassVar = {"params": "map('n', properties.n, 'total', properties.total, 'currency', properties.currency)"}
    INVALID: ClassVar = {
        "MissingIdentity": {"user_id": "null", "anonymous_id": "0"},
        "IdentityTooLong": {"user_id": "x" * 257},
        "ReservedName": {"event": "Session Start"},
        "InvalidEventName": {"event": "x" * 41},
        "InvalidParameter": {"properties": Raw(b'{"n":{"deep":1}}')},
        "ValueTooLong": {"properties": Raw(b'{"n":"%s"}' % (b"x" * 101))},
        "EventTooOld": {"age": timedelta(hours=73)},
        "EventInFuture": {"age": timedelta(hours=-1)},
    }
    REPAIRS = ("InvalidEventName", {"name": "substring(event, 1, 20)"})
    IS_ORDERED = False
    DEDUPLICATES = False
    REFUSES_CREDENTIALS = False

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return GoogleAnalyticsServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return event.message_id.removeprefix("m")

    async def verify(self, installation: Installation, server: VendorServer) -> None:
        """Compare the users of events too, which a request has only once."""
        await super().verify(installation, server)
        users = {item.id: (item.user, item.content.get("user_id")) for item in server.accepted}
        for number, event in installation.events.items():
            assert users.get(str(number), (event.anonymous_id, event.user_id)) == (event.anonymous_id, event.user_id)
