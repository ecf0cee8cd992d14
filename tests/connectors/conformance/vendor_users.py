"""The conformance suite of connectors that write users to a vendor, and read them.

It runs the real sink, source and HTTP client against the vendor's server, in virtual time. A driver repeats what failed
as exports and imports do: with the same keys, and the same cursor. Each user is written once or
rejected with a reason, is read once, and the vendor has nothing to object to.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, Final

import msgspec
import pytest

from headwater.base.clock import Clock
from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import (
    MAX_PAGE_USERS,
    AccessToken,
    Engine,
    HttpClient,
    HttpRequest,
    HttpResponse,
    ItemResult,
    Outcome,
    SourceUser,
    UserSink,
    UserSource,
    UserWrite,
)
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.origins import Origins
from headwater.connectors.redaction import Redactor, format_request
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.settings import Settings
from headwater.delivery.rates import AccountRates, Rates
from headwater.management import userpreviews
from headwater.management.userpreviews import TransformedUser, make_key, show_user_request
from headwater.schemas import Codec, ObjectType, Record, all_optional
from tests.connectors.conformance.seeds import SEEDS
from tests.connectors.vendors.server import CALM, Fate, Plan, VendorServer
from tests.virtualtime import START, VirtualClock, run_in_virtual_time

MAX_SECONDS: Final = 3_600.0
"""Limit of one test, in virtual time."""
RETRY_SECONDS: Final = 2.0


def draw(seed: int) -> Plan:
    """Return a plan with all faults, which occur also among the few requests of a test."""
    return Plan(
        seed=seed, throttled=0.15, failed=0.15, lost_before=0.1, lost_after=0.15, refused=0.05, max_faults=15 + 5 * seed
    )


class _ListingClient:
    """Sends requests, and adds them to a list."""

    def __init__(self, client: HttpClient, sent: list[HttpRequest]) -> None:
        self._client = client
        self._sent = sent

    async def send(self, request: HttpRequest) -> HttpResponse:
        self._sent.append(request)
        return await self._client.send(request)


class _Vendor:
    """A vendor's server, and the connector's engine with a context that reaches it."""

    def __init__(self, server: VendorServer, engine: Engine, settings: Settings, context: Any) -> None:
        self.server = server
        self._engine = engine
        self._settings = settings
        self._context = context

    def sink(self, sent: list[HttpRequest] | None = None) -> UserSink:
        """Make a sink. `sent` gets the requests that it sends."""
        assert self._engine.user_sink is not None
        context = self._context
        if sent is not None:
            context = msgspec.structs.replace(context, http=_ListingClient(context.http, sent))
        return self._engine.user_sink(self._settings, context)

    def source(self) -> UserSource:
        assert self._engine.user_source is not None
        return self._engine.user_source(self._settings, self._context)


class _Suite(ABC):
    """`make_server` returns the vendor's server; `SETTINGS` are accepted by it, and contain `SECRETS`."""

    CODE: ClassVar[str]
    SETTINGS: ClassVar[dict[str, Any]]
    SECRETS: ClassVar[tuple[str, ...]]

    @abstractmethod
    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer: ...

    def access_token(self) -> AccessToken | None:
        """Return the access token of an account, for a connector with OAuth."""
        return None

    @asynccontextmanager
    async def vendor(self, plan: Plan, clock: VirtualClock) -> AsyncIterator[_Vendor]:
        server = self.make_server(plan, asyncio.get_running_loop().time)
        async with server.running(), self.connect(server, clock) as vendor, asyncio.timeout(MAX_SECONDS):
            yield vendor

    @asynccontextmanager
    async def connect(self, server: VendorServer, clock: Clock) -> AsyncIterator[_Vendor]:
        """Open the connector's context for a server that is running."""
        settings, environment = self.settings(), self.environment(server, clock)
        async with environment.context(self.CODE, 1, settings, self.access_token(), workspace=1) as context:
            yield _Vendor(server, CONNECTORS[self.CODE].engine, settings, context)

    def settings(self) -> Settings:
        """Return the settings as the connector reads them."""
        connector = CONNECTORS[self.CODE]
        capabilities = connector.destination or connector.source
        assert capabilities is not None and capabilities.settings is not None
        return capabilities.settings.read(self.SETTINGS)

    def environment(self, server: VendorServer, clock: Clock) -> ConnectorEnvironment:
        """Return an environment in which the connector reaches the server."""
        return ConnectorEnvironment(
            addresses=AddressPolicy.parse("127.0.0.0/8"), clock=clock, origins=Origins(server.origins)
        )


class VendorUserSinkConformance(_Suite):
    """`attributes` returns those of a user; `find` and `has` look for them in the server."""

    USERS: ClassVar[int] = 120
    BATCH: ClassVar[int] = 25
    """Maximum number of users of one call: a vendor with large batches needs enough requests for all faults."""
    CHANGED: ClassVar[str]
    """An attribute that is another in each version."""
    IS_WRITE_ONLY: ClassVar[bool] = False
    """Whether the vendor cannot be read: an update is a write with the attributes that identify the user."""

    @abstractmethod
    def attributes(self, number: int, version: int) -> Record:
        """Return attributes of the writable schema. Those that identify the user are the same in each version."""

    @abstractmethod
    def find(self, server: Any, number: int) -> list[str]:
        """Return the ids of the users that the server has for a number."""

    @abstractmethod
    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        """Return whether the server has a user with the attributes."""

    def refused_key(self, number: int) -> str:
        """Return the id by which the server's plan refuses a user."""
        return f"user-{number}"

    def identity(self, number: int) -> Record:
        """Return the attributes that identify a user."""
        return {"id": self.refused_key(number)}

    @pytest.mark.parametrize("seed", SEEDS)
    def test_each_user_is_written_once_or_rejected(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(draw(seed), clock) as vendor:
                sink, server, account = vendor.sink(), vendor.server, AccountRates()
                created = await self.write(sink, account, dict.fromkeys(range(1, self.USERS + 1), ""), version=1)
                await self.verify(server, created, version=1)
                ids = {number: result.id for number, result in created.items() if result.outcome is Outcome.DELIVERED}
                assert len({*ids.values()}) == len(ids) and "" not in ids.values()
                known = dict.fromkeys(ids, "") if self.IS_WRITE_ONLY else ids
                updated = await self.write(sink, account, known, version=2)
                await self.verify(server, updated, version=2)
                assert server.violations == [], server.violations[:3]
                assert server.fates[Fate.LOST_AFTER] and server.refused, "the plan had an effect"

        run_in_virtual_time(monkeypatch, (), main)

    def test_attributes_conform_to_the_writable_schema(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                schema, attributes = await vendor.sink().writable_schema(), self.attributes(1, 1)
                Codec(all_optional(schema)).check(attributes)
                assert {each.name for each in schema if each.create_required} <= set(attributes)

        run_in_virtual_time(monkeypatch, (), main)

    def test_a_user_that_does_not_exist_is_not_created_by_an_update(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if self.IS_WRITE_ONLY:
            return

        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                user = UserWrite(id=self.missing_id(), attributes=self.attributes(1, 1), key="0" * 32)
                [result] = await vendor.sink().write_users([user])
                assert result.outcome is Outcome.REJECTED and result.reason

        run_in_virtual_time(monkeypatch, (), main)

    def test_an_update_changes_only_its_attributes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                sink = vendor.sink()
                [created] = await sink.write_users([UserWrite(id="", attributes=self.attributes(1, 1), key="1" * 32)])
                change = {self.CHANGED: self.attributes(1, 2)[self.CHANGED]}
                user = UserWrite(id=created.id, attributes=change, key="2" * 32)
                if self.IS_WRITE_ONLY:
                    user = UserWrite(id="", attributes=change | self.identity(1), key="2" * 32)
                [updated] = await sink.write_users([user])
                assert (updated.outcome, updated.id) == (Outcome.DELIVERED, created.id)
                assert self.has(vendor.server, created.id, self.attributes(1, 1) | change)

        run_in_virtual_time(monkeypatch, (), main)

    def test_refused_credentials_reject_no_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                vendor.server.is_revoked = True
                user = UserWrite(id="", attributes=self.attributes(1, 1), key="0" * 32)
                with pytest.raises(Unavailable) as failure:
                    await vendor.sink().write_users([user])
                assert not any(secret in str(failure.value) for secret in self.SECRETS)
                vendor.server.is_revoked = False
                [result] = await vendor.sink().write_users([user])
                assert result.outcome is Outcome.DELIVERED

        run_in_virtual_time(monkeypatch, (), main)

    def test_a_preview_shows_the_request_that_writes_a_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                created = await self.compare_preview(vendor, clock, self.attributes(1, 1), "")
                if self.IS_WRITE_ONLY:
                    with pytest.raises(BadRequest, match="not by an id"):
                        await self.compare_preview(vendor, clock, self.attributes(1, 2), created.id)
                else:
                    await self.compare_preview(vendor, clock, self.attributes(1, 2), created.id)

        monkeypatch.setattr(userpreviews, "TIMEOUT_SECONDS", MAX_SECONDS)
        run_in_virtual_time(monkeypatch, (), main)

    async def compare_preview(
        self, vendor: _Vendor, clock: VirtualClock, attributes: Record, user_id: str
    ) -> ItemResult:
        """Compare the preview of a user with the request that writes it, and return the result of the write."""
        schema, server = await vendor.sink().writable_schema(), vendor.server
        used = ObjectType(tuple(each for each in schema if each.name in attributes))
        body = Codec(all_optional(used)).encode(attributes)
        transformed = TransformedUser(user_id=user_id, out_schema=used, attributes=body)
        catalog: Any = SimpleNamespace(
            connectors=CONNECTORS,
            decrypt_settings=lambda connection: self.settings(),
            access_token=lambda connection, environment: self.access_token(),
        )
        connection: Any = SimpleNamespace(id=1, connector=self.CODE, workspace=1)
        shown = await show_user_request(catalog, connection, transformed, self.environment(server, clock))
        assert self.find(server, 1) == ([user_id] if user_id else []), "a preview writes nothing"
        assert not any(secret in shown for secret in self.SECRETS)
        sent: list[HttpRequest] = []
        sink = vendor.sink(sent)
        await sink.writable_schema()
        sent.clear()
        [result] = await sink.write_users([UserWrite(id=user_id, attributes=attributes, key=make_key(1, transformed))])
        assert result.outcome is Outcome.DELIVERED
        assert shown == format_request(sent[0], Redactor(self.settings().secrets()))
        arrived = server.requests[-len(sent)]
        assert (arrived.method, arrived.body) == (sent[0].method, sent[0].body)
        return result

    def missing_id(self) -> str:
        """Return the id of a user that the vendor does not have."""
        return "01GDDKASAP8TKDDA2GRZDSVP4H"

    async def write(
        self, sink: UserSink, account: AccountRates, ids: dict[int, str], *, version: int
    ) -> dict[int, ItemResult]:
        """Write users within the rates of the account until each is delivered or rejected."""
        rates = account.rates(sink.write_rates)
        results: dict[int, ItemResult] = {}
        while waiting := [number for number in ids if number not in results]:
            batch = waiting[: min(self.BATCH, sink.write_limits.max_events)]
            users = [
                UserWrite(
                    id=ids[number], attributes=self.attributes(number, version), key=f"{version:08x}{number:024x}"
                )
                for number in batch
            ]
            await _keep(rates, len(users))
            try:
                answered = await sink.write_users(users)
            except Unavailable as error:
                await asyncio.sleep(max(RETRY_SECONDS, error.retry_after))
                continue
            assert len(answered) == len(users)
            results |= {
                number: result
                for number, result in zip(batch, answered, strict=True)
                if result.outcome in (Outcome.DELIVERED, Outcome.REJECTED)
            }
            if waits := [each.retry_after_seconds or 0.0 for each in answered if each.outcome is Outcome.RETRY]:
                await asyncio.sleep(max(RETRY_SECONDS, *waits))
        return results

    async def verify(self, server: VendorServer, results: dict[int, ItemResult], *, version: int) -> None:
        for number, result in results.items():
            if result.outcome is Outcome.DELIVERED:
                assert self.find(server, number) == [result.id], "each user is created once"
                assert self.has(server, result.id, self.attributes(number, version))
            else:
                assert self.refused_key(number) in server.refused and result.reason and result.message


class VendorUserSourceConformance(_Suite):
    """`fill` adds users to the server, one a second from `START`, and returns their ids in their order.

    `expected` returns attributes that a user must have when it is read.
    """

    USERS: ClassVar[int] = 2 * MAX_PAGE_USERS + 7

    @abstractmethod
    def fill(self, server: Any, count: int) -> Sequence[str]: ...

    @abstractmethod
    def expected(self, number: int) -> Record: ...

    @pytest.mark.parametrize("seed", SEEDS)
    def test_each_user_is_read_once(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(draw(seed), clock) as vendor:
                ids = self.fill(vendor.server, self.USERS)
                codec = Codec(await again(vendor.source().readable_schema))
                users = await self.read(vendor.source())
                assert sorted(user.id for user in users) == sorted(ids)
                numbers = {id_: number for number, id_ in enumerate(ids)}
                for user in users:
                    assert not user.error
                    codec.check(user.attributes)
                    assert self.expected(numbers[user.id]).items() <= user.attributes.items()
                assert vendor.server.violations == []

        run_in_virtual_time(monkeypatch, (), main)

    def test_users_that_changed_are_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                ids = self.fill(vendor.server, self.USERS)
                since = START + timedelta(seconds=self.USERS - 20)
                users = await self.read(vendor.source(), since)
                expected = {user.id for user in await self.read(vendor.source()) if _is_since(user, since)}
                assert expected <= {user.id for user in users} <= {*ids}
                assert vendor.server.violations == []

        run_in_virtual_time(monkeypatch, (), main)

    def test_refused_credentials_are_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                vendor.server.is_revoked = True
                with pytest.raises(Unavailable) as failure:
                    await vendor.source().users("")
                assert not any(secret in str(failure.value) for secret in self.SECRETS)

        run_in_virtual_time(monkeypatch, (), main)

    @pytest.mark.parametrize("cursor", ["x", "é", "https://other.example/api", "0" * 500])
    def test_another_cursor_is_refused(self, cursor: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(clock: VirtualClock) -> None:
            async with self.vendor(CALM, clock) as vendor:
                with pytest.raises(BadRequest):
                    await vendor.source().users(cursor)

        run_in_virtual_time(monkeypatch, (), main)

    async def read(self, source: UserSource, updated_since: datetime | None = None) -> list[SourceUser]:
        """Read all pages, each again until it is there."""
        users: list[SourceUser] = []
        cursor = ""
        while True:
            page = await again(partial(source.users, cursor, updated_since))
            assert len(page.users) <= MAX_PAGE_USERS and len(page.cursor) <= 1_000
            users += page.users
            if not page.cursor:
                return users
            cursor = page.cursor


def _is_since(user: SourceUser, since: datetime) -> bool:
    return user.updated_at is None or user.updated_at >= since


async def again(call: Callable[[], Any]) -> Any:
    """Repeat a call until the vendor is available."""
    while True:
        try:
            return await call()
        except Unavailable as error:
            await asyncio.sleep(max(RETRY_SECONDS, error.retry_after))


async def _keep(rates: Rates, count: int) -> None:
    """Wait until a write is within the rates, and count it."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(0.0, rates.fits_at(count, loop.time()) - loop.time()))
    rates.spend(count, loop.time())
