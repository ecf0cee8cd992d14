"""Klaviyo's connector against Klaviyo's server."""

from collections.abc import Callable
from typing import ClassVar

from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.vendors.klaviyo import KEY, KlaviyoServer
from tests.connectors.vendors.server import Plan, VendorServer


class TestEvents(VendorEventsConformance):
    CODE = "klaviyo"
    SETTINGS: ClassVar = {"privateAPIKey": KEY}
    SECRETS = (KEY,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return KlaviyoServer(plan, now)
