"""The conformance suite of connectors that send events to a vendor.

It runs the real dispatcher, queue, sink and HTTP client against the vendor's server of `tests/connectors/vendors`, in
virtual time. Each seed is another plan of throttles, faults, lost connections and refused items. In each of them an
event is delivered or dead with a reason, a user's events arrive in their order, an event is repeated only after a lost
response, and the vendor has nothing to object to.
"""

import asyncio
import gc
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

import msgspec
import pytest

from headwater.base.clock import Clock
from headwater.base.encryption import Keyring
from headwater.base.errors import Unavailable, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, open_catalog
from headwater.catalog import catalog as catalog_module
from headwater.catalog.definition import Definition, TransformationDefinition
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import EventSink, EventType
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.origins import Origins
from headwater.connectors.registry import CONNECTORS
from headwater.delivery import dispatcher, sender, session
from headwater.delivery.dispatcher import Dispatcher
from headwater.delivery.preparing import DeliveryKeys
from headwater.events.event import Event
from headwater.filters import check_filter, parse_text
from headwater.management.blocking import BlockingCalls
from headwater.management.connections import CreateConnection, UpdateConnection, create_connection, update_connection
from headwater.management.pipelines import CreatePipeline, UpdatePipeline, create_pipeline, update_pipeline
from headwater.management.settings_checks import SettingsChecks
from headwater.schemas import EVENT_SCHEMA, ObjectType
from headwater.state.deliveries import (
    open_delivery_store,
)
from headwater.storage import sessions
from headwater.transforms.functions import Runner
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.conformance.context import make_context
from tests.connectors.conformance.seeds import SEEDS
from tests.connectors.conformance.vendor_installation import MAX_SECONDS, Installation
from tests.connectors.vendors.server import CALM, Fate, Plan, VendorServer, draw
from tests.harness import add_source, add_workspace
from tests.sqlite import migrated_url
from tests.virtualtime import VirtualClock, run_in_virtual_time

__all__ = ["MAX_SECONDS", "Installation", "VendorEventsConformance", "plain_schema", "prefilled"]

MODULES: Final = (dispatcher, sender, session)
LOCAL_TIMEOUTS: Final = (
    (dispatcher, "MAX_FLUSH_SECONDS"),
    (catalog_module, "TURN_TIMEOUT_SECONDS"),
    (sessions, "SESSION_TIMEOUT_SECONDS"),
)
"""Limits of work in threads of this machine, during which the loop is idle and the time goes fast."""


class VendorEventsConformance(ABC):
    """`make_server` returns the vendor's server; `SETTINGS` are accepted by it."""

    CODE: ClassVar[str]
    SETTINGS: ClassVar[dict[str, Any]]
    SECRETS: ClassVar[tuple[str, ...]]
    EVENT_TYPE: ClassVar[str] = ""
    """The event type that the runs use; the first one by default."""
    MAPPING: ClassVar[dict[str, str]] = {}
    """Expressions that replace or complete the prefilled ones."""
    EVENTS: ClassVar[int] = 300
    USERS: ClassVar[int] = 40
    IS_ORDERED: ClassVar[bool] = True
    DEDUPLICATES: ClassVar[bool] = True
    """Whether the vendor recognises a repetition."""
    INVALID: ClassVar[dict[str, dict[str, Any]]] = {}
    """Changes that make an event invalid before it is sent, by the reason of the dead letter."""
    REPAIRS: ClassVar[tuple[str, dict[str, str]]] = ("", {})
    """One of these reasons, and the expressions that repair the mapping for it."""
    REFUSES_CREDENTIALS: ClassVar[bool] = True
    """Whether the vendor responds with an error to credentials that it does not accept."""

    @abstractmethod
    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer: ...

    def vendor_id(self, key: str, event: Event) -> str:
        """Return the id by which the vendor's server knows an event."""
        return key

    def event(self, number: int, user: str, clock: Clock) -> Event:
        """Return an event that the vendor accepts."""
        now = clock.now()
        properties = {"n": number, "total": 9.5 + number, "currency": "EUR", "products": [{"sku": f"s{number}"}]}
        return Event(
            connection_id=0,
            message_id=f"m{number}",
            type="track",
            event="Order Completed",
            user_id=user,
            anonymous_id=f"anonymous-{user}",
            properties=msgspec.Raw(msgspec.json.encode(properties)),
            traits=msgspec.Raw(msgspec.json.encode({"email": f"{user}@example.com"})),
            timestamp=now,
            original_timestamp=now,
            sent_at=now,
            received_at=now,
        )

    # Runs

    @asynccontextmanager
    async def installation(
        self, folder: Path, server: VendorServer, clock: Clock, *, runs: bool = True
    ) -> AsyncIterator[Installation]:
        """Open an installation whose requests for the vendor go to the server, and run the server if `runs` is set."""
        async with AsyncExitStack() as stack:
            if runs:
                await stack.enter_async_context(server.running())
            catalog = await stack.enter_async_context(
                open_catalog(
                    migrated_url(folder / "catalog.db"),
                    clock=clock,
                    identifiers=Identifiers(),
                    keyring=Keyring("s" * 32),
                )
            )
            store = await stack.enter_async_context(open_delivery_store(migrated_url(folder / "delivery.db")))
            functions = await stack.enter_async_context(Runner(javascript=1, python=1))
            environment = self.environment(server, clock)
            workspace = await add_workspace(catalog)
            source = await add_source(catalog, workspace.id)
            destination = await self._add_destination(catalog, source, environment)
            running = Dispatcher(catalog, store, functions, environment, clock, expiry=timedelta(hours=24))
            yield Installation(catalog, store, running, clock, source, destination)

    def environment(self, server: VendorServer, clock: Clock) -> ConnectorEnvironment:
        return ConnectorEnvironment(
            addresses=AddressPolicy.parse("127.0.0.0/8"), clock=clock, origins=Origins(server.origins)
        )

    async def _add_destination(
        self, catalog: Catalog, source: Connection, environment: ConnectorEnvironment
    ) -> Connection:
        request = CreateConnection(
            name="Vendor",
            role="Destination",
            connector=self.CODE,
            sending_mode="Server",
            linked_connections=(source.id,),
            settings=self.SETTINGS,
        )
        made = await create_connection(catalog, source.workspace, request)
        event_type = await self.event_type()
        pipeline: dict[str, Any] = {}
        if event_type.schema is not None:
            mapping = prefilled(event_type.schema) | self.MAPPING
            pipeline["out_schema"] = plain_schema(event_type.schema, mapping)
            pipeline["definition"] = Definition(transformation=TransformationDefinition(mapping=mapping))
        creation = CreatePipeline(
            connection=made.id, target="Event", name="Events", enabled=True, event_type=event_type.id, **pipeline
        )
        while True:  # the vendor may be asked for its event types, and fail
            try:
                await create_pipeline(catalog, source.workspace, creation, environment=environment)
                break
            except Unavailable:
                await asyncio.sleep(1.0)
        found = catalog.connection(source.workspace, made.id)
        assert found is not None
        return found

    def sink(self) -> EventSink:
        connector = CONNECTORS[self.CODE]
        assert connector.destination is not None and connector.destination.settings is not None
        make = connector.engine.event_sink
        assert make is not None
        return make(connector.destination.settings.read(self.SETTINGS), make_context())

    async def event_type(self) -> EventType:
        """Return the event type that the runs use."""
        types = {each.id: each for each in await self.sink().event_types()}
        return types[self.EVENT_TYPE] if self.EVENT_TYPE else next(iter(types.values()))

    def run(
        self,
        patch: pytest.MonkeyPatch,
        folder: Path,
        plan: Plan,
        main: Callable[[Installation, VendorServer], Coroutine[Any, Any, None]],
    ) -> None:
        """Run a test with an installation and a server, in virtual time."""

        async def run(clock: VirtualClock) -> None:
            server = self.make_server(plan, asyncio.get_running_loop().time)
            async with self.installation(folder, server, clock) as installation:
                await main(installation, server)

        for module, name in LOCAL_TIMEOUTS:
            patch.setattr(module, name, MAX_SECONDS)
        run_in_virtual_time(patch, MODULES, run)
        gc.collect()

    async def append_backlog(self, installation: Installation, count: int, users: int) -> None:
        """Append events, without a wait between them."""
        source = installation.source.id
        began = len(installation.events)
        for first in range(began + 1, began + count + 1, 500):
            numbers = range(first, min(first + 500, began + count + 1))
            events = [self.event(number, f"user-{number % users}", installation.clock) for number in numbers]
            await installation.append([msgspec.structs.replace(each, connection_id=source) for each in events])

    async def send_events(self, installation: Installation, server: VendorServer) -> None:
        """Append events of many users, in several steps, and wait until nothing waits to be sent."""
        random = Random(f"{server.plan.seed}/events")
        async with installation.dispatching():
            number = 0
            while number < self.EVENTS:
                count = min(random.choice((1, 1, 3, 20, 120)), self.EVENTS - number)
                users = [f"user-{random.randrange(self.USERS)}" for _ in range(count)]
                source = installation.source.id
                events = [self.event(number + each + 1, user, installation.clock) for each, user in enumerate(users)]
                await installation.append([msgspec.structs.replace(each, connection_id=source) for each in events])
                number += count
                await asyncio.sleep(random.choice((0.0, 0.05, 1.0, 10.0)))
            await installation.wait_until_empty()

    async def verify(self, installation: Installation, server: VendorServer) -> None:
        """Compare the server with the queue."""
        assert server.violations == []
        [pipeline] = installation.destination.pipelines
        keys = DeliveryKeys(pipeline.id)
        numbers = {self.vendor_id(keys.of(event), event): number for number, event in installation.events.items()}
        accepted = [numbers[item.id] for item in server.accepted]
        letters = await installation.dead_letters()
        dead = {int(letter.event.message_id[1:]) for letter in letters}
        assert dead == {numbers[id_] for id_ in server.refused}, "only what the vendor refuses is dead"
        assert all(letter.reason and letter.message for letter in letters)
        assert sorted({*accepted} | dead) == list(installation.events), "each event is delivered or dead"
        assert not {*accepted} & dead
        if self.DEDUPLICATES:
            assert len({*accepted}) == len(accepted), "the vendor recognises each repetition"
        for id_, copies in server.copies.items():
            assert copies <= 1 + server.lost[id_], "an event is repeated only after a lost response"
        if self.IS_ORDERED:
            for user in {item.user for item in server.accepted}:
                of_user = [numbers[item.id] for item in server.accepted if item.user == user]
                assert list(dict.fromkeys(of_user)) == sorted({*of_user})
        health = await installation.store.health()
        for text in (*(letter.message for letter in letters), *(each.last_error for each in health.values())):
            assert not any(secret in text for secret in self.SECRETS)

    # Tests

    @pytest.mark.parametrize("seed", SEEDS)
    def test_every_event_is_delivered_or_dead_with_a_reason(
        self, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            await self.send_events(installation, server)
            await self.verify(installation, server)

        self.run(monkeypatch, tmp_path, draw(seed), main)

    def test_a_restart_repeats_only_what_was_in_flight(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            await self.append_backlog(installation, self.EVENTS, self.USERS)
            before = len(server.requests)
            killed = asyncio.create_task(installation.dispatcher.run(asyncio.Event()))
            while len(server.requests) == before:
                await asyncio.sleep(0.01)
            killed.cancel()
            await asyncio.gather(killed, return_exceptions=True)
            server.lost = server.copies.copy()  # the results of all requests until then may be lost
            async with installation.dispatching():
                await installation.wait_until_empty()
            await self.verify(installation, server)

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_revoked_credentials_lose_no_event(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if not self.REFUSES_CREDENTIALS:
            return

        async def main(installation: Installation, server: VendorServer) -> None:
            await self.append_backlog(installation, 20, 50)
            async with installation.dispatching():
                await installation.wait_until_empty()
                server.is_revoked = True
                await self.append_backlog(installation, 30, 50)
                await self._accept_credentials_again(installation, server)
                await installation.wait_until_empty()
            await self.verify(installation, server)
            assert not await installation.dead_letters()

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_invalid_events_are_dead_with_a_reason_until_the_mapping_is_repaired(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Send invalid events in a backlog during which the vendor refuses the credentials for some time."""
        if not self.INVALID:
            return

        async def main(installation: Installation, server: VendorServer) -> None:
            source, clock = installation.source.id, installation.clock
            reasons = {}
            await self.append_backlog(installation, 20, 5)
            for number, (reason, changes) in enumerate(self.INVALID.items(), start=21):
                reasons[number] = reason
                event = self.event(number, f"user-{number % 5}", clock)
                if "age" in changes:
                    changes = {"timestamp": clock.now() - changes["age"]}
                await installation.append([msgspec.structs.replace(event, connection_id=source, **changes)])
            more = range(len(installation.events) + 1, len(installation.events) + 20)
            events = [self.event(number, f"user-{number % 5}", clock) for number in more]
            await installation.append([msgspec.structs.replace(each, connection_id=source) for each in events])
            server.is_revoked = self.REFUSES_CREDENTIALS
            async with installation.dispatching():
                await self._accept_credentials_again(installation, server)
                await installation.wait_until_empty()
            letters = await installation.dead_letters()
            assert {int(each.event.message_id[1:]): each.reason for each in letters} == reasons
            assert all(each.message for each in letters)
            assert len({each.id for each in server.accepted}) == len(installation.events) - len(reasons)
            repaired, expressions = self.REPAIRS
            await self._repair(installation, expressions, self.environment(server, clock))
            async with installation.dispatching():
                await installation.wait_until_empty()
            dead = {each.reason for each in await installation.dead_letters()}
            assert dead == {*reasons.values()} - {repaired}
            assert server.violations == []

        self.run(monkeypatch, tmp_path, CALM, main)

    def test_events_that_become_too_old_in_the_queue_are_dead(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        max_age = self.sink().policy.max_age_seconds
        if max_age is None:
            return

        async def main(installation: Installation, server: VendorServer) -> None:
            source, clock = installation.source.id, installation.clock
            almost = clock.now() - timedelta(seconds=max_age - 20.0)
            for number in range(1, 21):
                event = self.event(number, f"user-{number}", clock)
                time = almost if number <= 10 else event.timestamp
                await installation.append([msgspec.structs.replace(event, connection_id=source, timestamp=time)])
            server.plan = Plan(failed=1.0)
            async with installation.dispatching():
                await asyncio.sleep(30.0)
                assert server.requests and not server.accepted
                server.plan = CALM
                await installation.wait_until_empty()
            letters = await installation.dead_letters()
            assert {each.event.message_id for each in letters} == {f"m{number}" for number in range(1, 11)}
            assert {each.reason for each in letters} == {"EventTooOld"}
            assert len({each.id for each in server.accepted}) == 10
            assert server.violations == []

        self.run(monkeypatch, tmp_path, CALM, main)

    async def _accept_credentials_again(self, installation: Installation, server: VendorServer) -> None:
        """After the vendor has refused the credentials, let it accept them, and save the settings again."""
        if not server.is_revoked:
            return
        async with asyncio.timeout(MAX_SECONDS):
            while server.fates[Fate.REVOKED] < 2:
                await asyncio.sleep(0.1)
        server.is_revoked = False
        change = UpdateConnection(name="Renamed", sending_mode="Server", settings=self.SETTINGS)
        workspace, destination = installation.source.workspace, installation.destination.id
        await update_connection(installation.catalog, workspace, destination, change)

    async def _repair(
        self, installation: Installation, expressions: dict[str, str], environment: ConnectorEnvironment
    ) -> None:
        """Change the mapping of the pipeline, and send all dead letters again."""
        [pipeline] = installation.destination.pipelines
        event_type = await self.event_type()
        assert event_type.schema is not None
        mapping = prefilled(event_type.schema) | self.MAPPING | expressions
        change = UpdatePipeline(
            name="Repaired",
            enabled=True,
            out_schema=plain_schema(event_type.schema, mapping),
            definition=Definition(transformation=TransformationDefinition(mapping=mapping)),
        )
        await update_pipeline(
            installation.catalog, installation.source.workspace, pipeline.id, change, environment=environment
        )
        await installation.send_again()

    def test_dead_letters_are_delivered_after_the_cause_is_repaired(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main(installation: Installation, server: VendorServer) -> None:
            await self.append_backlog(installation, 40, 40)
            async with installation.dispatching():
                await installation.wait_until_empty()
                await self.verify(installation, server)
                assert len(await installation.dead_letters()) == len(server.refused)
                server.plan = CALM
                server.refused.clear()
                await installation.send_again()
                await installation.wait_until_empty()
            await self.verify(installation, server)
            assert not await installation.dead_letters()

        self.run(monkeypatch, tmp_path, Plan(seed=1, refused=0.4), main)

    def test_settings_are_checked_with_the_vendor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            server = self.make_server(CALM, asyncio.get_running_loop().time)
            connector = CONNECTORS[self.CODE]
            assert connector.destination is not None and connector.destination.settings is not None
            settings = connector.destination.settings.read(self.SETTINGS)
            async with server.running():
                checks = SettingsChecks(self.environment(server, clock), BlockingCalls())
                assert await checks.checked(1, connector, settings) == settings
                if self.REFUSES_CREDENTIALS:
                    server.is_revoked = True
                    with pytest.raises(Unprocessable) as refused:
                        await checks.checked(1, connector, settings)
                    assert refused.value.code == "InvalidSettings"
                    assert not any(secret in str(refused.value) for secret in self.SECRETS)
                    server.is_revoked = False
                server.plan = Plan(failed=1.0)
                with pytest.raises(Unavailable):
                    await checks.checked(1, connector, settings)
            with pytest.raises(Unavailable):
                await checks.checked(1, connector, settings)
            assert server.violations == []

        run_in_virtual_time(monkeypatch, (), main)

    async def test_prefilled_mappings_and_recommended_filters_are_valid(self) -> None:
        for type_ in await self.sink().event_types():
            if type_.schema is not None:
                mapping = prefilled(type_.schema)
                CompiledMapping(mapping, EVENT_SCHEMA, plain_schema(type_.schema, mapping))
            if type_.filter:
                filter_ = parse_text(type_.filter)
                assert filter_ is not None
                check_filter(filter_, EVENT_SCHEMA, role="Destination", target="Event")

    def test_the_version_is_that_of_the_description(self) -> None:
        assert self.sink().policy.version == CONNECTORS[self.CODE].version


def prefilled(schema: ObjectType) -> dict[str, str]:
    """Return the mapping that a schema suggests."""
    return {each.name: each.prefilled for each in schema.properties if each.prefilled}


def plain_schema(schema: ObjectType, mapping: dict[str, str]) -> ObjectType:
    """Return the schema of a pipeline that maps these properties."""
    return ObjectType(
        tuple(replace(each, prefilled="") for each in schema.properties if each.name in mapping or each.create_required)
    )
