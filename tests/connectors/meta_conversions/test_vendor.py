"""The connector of Meta against Meta's server."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from headwater.connectors.meta_conversions.hashing import hash_parameter
from headwater.events.event import Event
from tests.connectors.conformance.vendor import Installation, VendorEventsConformance
from tests.connectors.vendors.meta_conversions import DATASET, TOKEN, MetaConversionsServer
from tests.connectors.vendors.server import CALM, Plan, VendorServer


class TestEvents(VendorEventsConformance):
    CODE = "meta-conversions"
    SETTINGS: ClassVar = {"datasetID": DATASET, "accessToken": TOKEN, "testEventCode": "TEST1"}
    SECRETS = (TOKEN,)
    EVENTS = 120  # a rejected event costs several requests, because Meta does not name it
    IS_ORDERED = False
    INVALID: ClassVar = {
        "MissingIdentity": {"user_id": "undefined", "anonymous_id": "null", "traits": msgspec.Raw(b"{}")},
        "InvalidOutput": {"properties": msgspec.Raw(b'{"total":9.5}')},
        "InvalidNumber": {"properties": msgspec.Raw(b'{"total":"9,50","currency":"EUR"}')},
        "InvalidCurrency": {"properties": msgspec.Raw(b'{"total":9.5,"currency":"12"}')},
        "InvalidContents": {"properties": msgspec.Raw(b'{"total":9.5,"currency":"EUR","products":[1]}')},
        "EventTooOld": {"age": timedelta(days=8)},
    }
    REPAIRS: ClassVar = ("InvalidOutput", {"currency": "coalesce(properties.currency, 'EUR')"})

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return MetaConversionsServer(plan, now)

    def vendor_id(self, key: str, event: Event) -> str:
        return event.message_id

    def test_an_old_event_costs_no_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Meta would refuse the whole request."""

        async def main(installation: Installation, server: VendorServer) -> None:
            ages = (timedelta(days=6), timedelta(days=7), timedelta(days=300), timedelta())
            events = [self.event(number, f"user-{number}", installation.clock) for number in range(1, len(ages) + 1)]
            await installation.append(
                [
                    msgspec.structs.replace(each, connection_id=installation.source.id, timestamp=each.timestamp - age)
                    for each, age in zip(events, ages, strict=True)
                ]
            )
            async with installation.dispatching():
                await installation.wait_until_empty()
            letters = {each.event.message_id: each.reason for each in await installation.dead_letters()}
            assert letters == {"m2": "EventTooOld", "m3": "EventTooOld"}
            assert (sorted(server.copies), len(server.requests), server.violations) == (["m1", "m4"], 1, [])

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_personal_data_is_hashed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            await self.append_backlog(installation, 3, 3)
            async with installation.dispatching():
                await installation.wait_until_empty()
            users = [item.content["user_data"] for item in server.accepted]
            expected = [[hash_parameter("em", f"user-{number}@example.com")] for number in (1, 2, 0)]
            assert [user["em"] for user in users] == expected
            assert isinstance(server, MetaConversionsServer) and server.test_event_codes == {"TEST1"}

        self.run(monkeypatch, tmp_path, CALM, main)
