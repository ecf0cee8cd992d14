"""PostHog's connector against PostHog's server."""

from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from msgspec import Raw

from headwater.events.event import Event
from tests.connectors.conformance.vendor import VendorEventsConformance
from tests.connectors.vendors.posthog import KEY, PostHogServer
from tests.connectors.vendors.server import Plan, VendorServer


class TestEvents(VendorEventsConformance):
    CODE = "posthog"
    SETTINGS: ClassVar = {"apiKey": KEY, "cloud": {"projectRegion": "EU"}}
    SECRETS = (KEY,)
    EVENT_TYPE = "track"
    INVALID: ClassVar = {
        "MissingIdentity": {"user_id": "null", "anonymous_id": "undefined"},
        "IdentityTooLong": {"user_id": "x" * 201},
        "ReservedEventName": {"event": "$pageview"},
        "EventNameTooLong": {"event": "x" * 201},
        "EventTooLarge": {"properties": Raw(b'{"text":"%s"}' % (b"x" * 1_000_000))},
        "EventInFuture": {"age": timedelta(hours=-30)},
    }
    REPAIRS = ("ReservedEventName", {"event": "if(eq(substring(event, 1, 1), '$'), 'Repaired', event)"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return PostHogServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return str(UUID(key))
