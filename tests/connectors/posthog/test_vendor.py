"""PostHog's connector against PostHog's server."""

from collections.abc import Callable
from typing import ClassVar
from uuid import UUID

from headwater.events.event import Event
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.vendors.posthog import KEY, PostHogServer
from tests.connectors.vendors.server import Plan, VendorServer


class TestEvents(VendorEventsConformance):
    CODE = "posthog"
    SETTINGS: ClassVar = {"apiKey": KEY, "cloud": {"projectRegion": "EU"}}
    SECRETS = (KEY,)
    EVENT_TYPE = "track"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return PostHogServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return str(UUID(key))
