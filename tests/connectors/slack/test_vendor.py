"""Slack's connector against Slack's server."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from headwater.base.clock import Clock
from headwater.delivery import breaker
from headwater.events.event import Event
from headwater.management.connections import UpdateConnection, update_connection
from tests.connectors.conformance.vendor import Installation, VendorEventsConformance
from tests.connectors.vendors.server import CALM, Plan, VendorServer
from tests.connectors.vendors.slack import PATH, URL, SlackServer

LABELS = ("Order Completed", "Signed Up <b> & more", "<!channel>")


class TestEvents(VendorEventsConformance):
    """Messages of many events have no ids, so they are counted by their labels."""

    CODE = "slack"
    SETTINGS: ClassVar = {"webhookURL": URL}
    SECRETS = (PATH, PATH.rpartition("/")[2])
    MAPPING: ClassVar = {"text": "event ' ' messageId"}
    EVENTS = 120
    IS_ORDERED = False
    DEDUPLICATES = False

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return SlackServer(plan, now)

    def event(self, number: int, user: str, clock: Clock) -> Event:
        return msgspec.structs.replace(super().event(number, user, clock), event=LABELS[number % len(LABELS)])

    async def verify(self, installation: Installation, server: VendorServer) -> None:
        """Compare the numbers of events by their labels."""
        assert isinstance(server, SlackServer) and server.violations == []
        letters = await installation.dead_letters()
        dead = {letter.event.message_id for letter in letters}
        assert dead == server.refused, "only what the vendor refuses is dead"
        assert all(letter.reason == "InvalidPayload" and letter.message for letter in letters)
        events = installation.events.values()
        expected = Counter(event.event for event in events if event.message_id not in dead)
        delivered = sum(server.posts, Counter[str]())
        lost = sum(server.lost_summaries, Counter[str]())
        for event in events:
            lost[event.event or ""] += server.lost[event.message_id]
        for label in LABELS:
            assert expected[label] <= delivered[label] <= expected[label] + lost[label]
        health = await installation.store.health()
        for text in (*(letter.message for letter in letters), *(each.last_error for each in health.values())):
            assert not any(secret in text for secret in self.SECRETS)

    def test_a_backlog_is_summarised(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            assert isinstance(server, SlackServer)
            await self.append_backlog(installation, 1_500, 200)
            async with installation.dispatching():
                began = asyncio.get_running_loop().time()
                await installation.wait_until_empty()
                seconds = asyncio.get_running_loop().time() - began
            await self.verify(installation, server)
            assert (seconds < 120, len(server.posts) < 60) == (True, True), (seconds, len(server.posts))
            singles = [post for post in server.posts if post.total() == 1]
            assert len(singles) >= 5, "the first events have messages of their own"

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_a_message_is_sent_again_after_the_mapping_is_repaired(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            source, clock = installation.source.id, installation.clock
            events = [self.event(number, "ada", clock) for number in (1, 2, 3)]
            events[1] = msgspec.structs.replace(events[1], event="<" * 10_001)
            await installation.append([msgspec.structs.replace(each, connection_id=source) for each in events])
            async with installation.dispatching():
                await installation.wait_until_empty()
            [letter] = await installation.dead_letters()
            assert (letter.event.message_id, letter.reason) == ("m2", "TextTooLong")
            assert letter.message.startswith("the escaped text has 40007 characters, and 40000 are allowed")
            await self._repair(installation, {"text": "'Long ' messageId"}, self.environment(server, clock))
            async with installation.dispatching():
                await installation.wait_until_empty()
            assert not await installation.dead_letters() and server.violations == []
            assert [each.id for each in server.accepted] == ["m1", "m3", "m2"]

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_revoked_credentials_lose_no_event(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A webhook that is gone is probed after a long pause, until a user changes the connection."""
        monkeypatch.setattr(breaker, "REFUSING_SECONDS", 60.0)

        async def main(installation: Installation, server: VendorServer) -> None:
            server.is_revoked = True
            await self.append_backlog(installation, 5, 5)
            async with installation.dispatching():
                while len(server.requests) < 2:
                    await asyncio.sleep(1.0)
                assert server.requests[1].at - server.requests[0].at >= 59
                server.is_revoked = False
                change = UpdateConnection(name="Renamed", sending_mode="Server", settings=self.SETTINGS)
                workspace, destination = installation.source.workspace, installation.destination.id
                await update_connection(installation.catalog, workspace, destination, change)
                await installation.wait_until_empty()
            assert server.requests[2].at - server.requests[1].at < 59
            await self.verify(installation, server)
            assert not await installation.dead_letters()

        self.run(monkeypatch, tmp_path, CALM, main)
