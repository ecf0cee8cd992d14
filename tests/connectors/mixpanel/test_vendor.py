"""Mixpanel's connector against Mixpanel's server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from headwater.base.clock import Clock
from headwater.events.event import Event
from tests.connectors.conformance.vendor import Installation, VendorEventsConformance
from tests.connectors.vendors.mixpanel import TOKEN, MixpanelServer, update_id
from tests.connectors.vendors.server import CALM, Plan, VendorServer

SETTINGS: dict[str, Any] = {"projectID": "3012345", "projectToken": TOKEN, "dataResidency": "EU"}


class TestEvents(VendorEventsConformance):
    CODE = "mixpanel"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (TOKEN,)
    EVENT_TYPE = "track"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MixpanelServer(plan, now)

    def test_requests_become_smaller_if_the_vendor_demands_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            assert isinstance(server, MixpanelServer)
            server.max_body_bytes = 20_000
            await self.append_backlog(installation, self.EVENTS, self.USERS)
            async with installation.dispatching():
                await installation.wait_until_empty()
            await self.verify(installation, server)
            assert max(server.copies.values()) == 1

        self.run(monkeypatch, tmp_path, CALM, main)


class TestProfiles(VendorEventsConformance):
    CODE = "mixpanel"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (TOKEN,)
    EVENT_TYPE = "identify"
    EVENTS = 120

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MixpanelServer(plan, now)

    def event(self, number: int, user: str, clock: Clock) -> Event:
        traits = {"email": f"{user}@example.com", "visits": number}
        event = super().event(number, user, clock)
        return msgspec.structs.replace(event, type="identify", traits=msgspec.Raw(msgspec.json.encode(traits)))

    def vendor_id(self, key: str, event: Event) -> str:
        traits = msgspec.json.decode(event.traits)
        return update_id(str(event.user_id), {"$email": traits["email"], "visits": traits["visits"]})
