"""Google Analytics' connector against Google Analytics' server."""

from collections.abc import Callable
from typing import ClassVar

from headwater.events.event import Event
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.vendors.google_analytics import MEASUREMENT_ID, SECRET, GoogleAnalyticsServer
from tests.connectors.vendors.server import Plan, VendorServer


class TestEvents(VendorEventsConformance):
    CODE = "google-analytics"
    SETTINGS: ClassVar = {"measurementID": MEASUREMENT_ID, "apiSecret": SECRET, "collectionEndpoint": "EU"}
    SECRETS = (SECRET,)
    EVENT_TYPE = "custom_event"
    MAPPING: ClassVar = {"params": "map('n', properties.n, 'total', properties.total, 'currency', properties.currency)"}
    IS_ORDERED = False
    DEDUPLICATES = False
    REFUSES_CREDENTIALS = False

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return GoogleAnalyticsServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return event.message_id.removeprefix("m")
