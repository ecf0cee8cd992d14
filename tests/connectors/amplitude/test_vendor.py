"""Amplitude's connector against Amplitude's server."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Raw

from headwater.base.clock import Clock
from headwater.events.event import Event
from tests.connectors.conformance.context import FixedClock
from tests.connectors.conformance.vendor import MAX_SECONDS, Installation, VendorEventsConformance
from tests.connectors.conformance.vendor_types import send_each_event_type, send_full_requests
from tests.connectors.vendors.amplitude import KEY, AmplitudeServer
from tests.connectors.vendors.server import CALM, Plan, VendorServer

SETTINGS: dict[str, Any] = {"apiKey": KEY, "serverZone": "EU"}


async def wait_until_accepted(server: VendorServer, count: int) -> None:
    async with asyncio.timeout(MAX_SECONDS):
        while len(server.accepted) < count:
            await asyncio.sleep(0.1)


class TestEvents(VendorEventsConformance):
    CODE = "amplitude"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (KEY,)
    INVALID: ClassVar = {
        "MissingIdentity": {"user_id": "null", "anonymous_id": "lmy47d"},
        "MissingName": {"event": " "},
        "ReservedName": {"event": "$identify"},
        "InvalidProperties": {"properties": Raw(b'{"n":%s}' % (b"[" * 40 + b"]" * 40))},
        "InvalidOutput": {"properties": Raw(b'{"revenue":"EUR 9.50"}')},
    }
    REPAIRS = ("InvalidOutput", {"revenue": "9.5"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return AmplitudeServer(plan, now)

    async def test_full_requests_are_accepted(self) -> None:
        server = await send_full_requests(self)
        assert len(server.accepted) == 2 * 2_000

    async def test_each_event_type_is_accepted_with_its_suggested_mapping(self) -> None:
        event = msgspec.structs.replace(self.event(1, "ada", FixedClock()), connection_id=1, name="Home")
        server = await send_each_event_type(self, event)
        assert [item.content["event_type"] for item in server.accepted] == [
            *("Order Completed", "Viewed Home", "Viewed Home", "$identify")
        ]

    def test_a_throttled_user_does_not_stop_others(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            assert isinstance(server, AmplitudeServer)
            server.thresholds = dict.fromkeys(server.thresholds, 1)  # 30 events in 30 seconds
            await self.append_backlog(installation, 100, 1)
            source = installation.source.id
            others = [self.event(number, f"other-{number}", installation.clock) for number in range(101, 151)]
            await installation.append([msgspec.structs.replace(each, connection_id=source) for each in others])
            async with installation.dispatching():
                await wait_until_accepted(server, 50)
                server.thresholds = dict.fromkeys(server.thresholds, 1_000)
                await installation.wait_until_empty()
            await self.verify(installation, server)
            assert {*server.throttled} == {"user-0", "anonymous-user-0"}
            assert not await installation.dead_letters()

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_a_user_over_the_quota_of_a_day_does_not_stop_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            assert isinstance(server, AmplitudeServer)
            server.over_quota = {"user-0"}
            await self.append_backlog(installation, 60, 20)
            async with installation.dispatching():
                await wait_until_accepted(server, 57)
            assert server.violations == []
            assert {item.user for item in server.accepted} == {f"user-{number}" for number in range(1, 20)}
            assert not await installation.dead_letters()

        self.run(monkeypatch, tmp_path, CALM, main)


class TestUserProperties(VendorEventsConformance):
    CODE = "amplitude"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (KEY,)
    EVENT_TYPE = "identify"
    EVENTS = 120

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return AmplitudeServer(plan, now)

    def event(self, number: int, user: str, clock: Clock) -> Event:
        return msgspec.structs.replace(super().event(number, user, clock), type="identify")
