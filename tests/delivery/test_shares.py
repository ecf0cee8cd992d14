"""Shares of rates: the courier and runs together stay within a limit, and use it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Connection, Engine, StaticPool, create_engine

from headwater.base.errors import Unavailable
from headwater.catalog import Connection as Destination
from headwater.catalog import OAuthAccount
from headwater.connectors.contract import RateLimit, spread
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.delivery import shares
from headwater.delivery.rates import Rates
from headwater.delivery.shares import CourierShares, allot, find_key, identify_account
from headwater.runs.job import Job, Report
from headwater.runs.rates import open_rates
from headwater.state.rateshares import LEASE_SECONDS, RateShares
from headwater.state.tables import rate_shares
from tests.harness import NOW
from tests.virtualtime import VirtualClock, run_in_virtual_time

_Result = TypeVar("_Result")
CONNECTION: Final = Destination(
    id=7,
    workspace=1,
    name="Application",
    connector="customerio",
    role="Destination",
    strategy=None,
    sending_mode=None,
    created_at=NOW,
)
ROLLING: Final = spread(40, 1, burst=3, group="requests")
LIMITS: Final = {
    "rolling": (ROLLING, 1),
    "long window": (spread(50, 10, burst=2), 1),
    "users": (spread(80, 10, burst=5, unit="Event"), 5),
    "no burst": (spread(20, 20, burst=1), 1),
    "fixed": (RateLimit(count=20, seconds=1.0, window="Fixed"), 1),
}


class _Session:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        return work(self._connection)


class LocalSessions:
    """Sessions on a database in memory, on the event loop: the virtual time stands still meanwhile."""

    def __init__(self) -> None:
        self.engine: Engine = create_engine("sqlite://", poolclass=StaticPool)
        rate_shares.create(self.engine)
        self.is_down = False
        self.writes = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[_Session]:
        if self.is_down:
            raise OSError("down")
        with self.engine.connect() as connection:
            yield _Session(connection)

    async def scrub(self) -> bool:
        return True


@dataclass
class System:
    """A store, and what was sent to the account."""

    clock: VirtualClock
    sessions: LocalSessions
    limit: RateLimit
    largest: int
    sent: list[tuple[float, int, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def store(self) -> RateShares:
        return RateShares(self.sessions, self.clock)

    def now(self) -> float:
        return self.clock.now().timestamp()

    @asynccontextmanager
    async def courier(self, *, sends: bool = True) -> AsyncIterator[CourierShares]:
        """Run the part of a courier that shares rates, and a lane that always has events."""
        courier = CourierShares(self.store(), self.clock)
        courier.begin(next(self.numbers))
        await courier.look()
        looking = asyncio.create_task(self.look(courier))
        account = courier.account(identify_account(CONNECTION, None))
        sending = asyncio.create_task(self.send_events(account.rates([self.limit], max_events=self.largest), sends))
        try:
            yield courier
        finally:
            for task in (looking, sending):
                task.cancel()
            await asyncio.gather(looking, sending, return_exceptions=True)

    async def look(self, courier: CourierShares) -> None:
        while True:
            await asyncio.sleep(0.5)
            try:
                await courier.look()
            except Unavailable:
                await asyncio.sleep(1.0)

    async def send_events(self, rates: Rates, sends: bool) -> None:
        while sends:
            if (at := rates.fits_at(self.largest, now := self.now())) <= now:
                rates.spend(self.largest, now)
                self.sent.append((now, self.largest, "courier"))
            await asyncio.sleep(min(max(at - now, 0.0), 0.5))
        await asyncio.Event().wait()

    @asynccontextmanager
    async def run(self, *, number: int = 0, pause: float = 0.0, is_killed: bool = False) -> AsyncIterator[None]:
        """Execute a run that always has users, and makes a pause after each call. One that is killed leaves its share
        to the end of its lease. With a number it is a further part of the run with this number."""
        number = number or next(self.numbers)
        job = SimpleNamespace(
            run=SimpleNamespace(id=number, fence=1),
            clock=self.clock,
            report=Report(),
            state=SimpleNamespace(rate_shares=self.store()),
            connection=CONNECTION,
            catalog=SimpleNamespace(decrypt_settings=lambda connection: None),
        )
        async with open_rates(cast(Job, job), [self.limit], max_users=self.largest) as rates:
            spend = rates._rates.spend

            def record(amount: int, now: float) -> None:
                spend(amount, now)
                self.sent.append((now, amount, f"run {number}"))

            async def send_users() -> None:
                while True:
                    await rates.wait(self.largest)
                    await asyncio.sleep(pause)

            with mock.patch.object(rates._rates, "spend", record):  # it has the exact times
                sending = asyncio.create_task(send_users())
                try:
                    yield
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                    self.sessions.is_down = is_killed
        self.sessions.is_down = False

    def amount(self, begin: float, end: float, sender: str = "") -> int:
        return sum(amount for at, amount, by in self.sent if begin <= at < end and by.startswith(sender))

    async def measure(self, seconds: float, sender: str = "") -> float:
        """Return the part of the limit that is used in this time."""
        began = self.now()
        await asyncio.sleep(seconds)
        allowed = self.limit.count / self.limit.seconds * (self.now() - began)
        return self.amount(began, self.now(), sender) / allowed

    def check(self) -> None:
        """Check that no window had more than the limit: those of the vendor's clock, or any."""
        total = self.limit.count + self.limit.burst
        if self.limit.window == "Fixed":
            total = self.limit.count
            windows = [int(at // self.limit.seconds) for at, _, _ in self.sent]
            assert max(windows.count(window) for window in set(windows)) * self.largest <= total
            return
        self.sent.sort()
        first, inside = 0, 0
        for at, amount, _ in self.sent:
            inside += amount
            while self.sent[first][0] <= at - self.limit.seconds + 1e-6:
                inside -= self.sent[first][1]
                first += 1
            assert inside <= total, f"{inside} in the window before {at}"


def simulate(
    patch: pytest.MonkeyPatch, main: Callable[[System], Coroutine[Any, Any, None]], name: str = "rolling"
) -> None:
    limit, largest = LIMITS[name]

    async def run(clock: VirtualClock) -> None:
        system = System(clock, LocalSessions(), limit, largest)
        await asyncio.sleep(0.3)  # fixed windows start at whole seconds, and no measurement shall begin or end there
        await main(system)
        system.check()

    run_in_virtual_time(patch, (shares,), run)


@pytest.mark.parametrize("name", LIMITS)
def test_a_run_and_the_courier_share_a_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(system: System) -> None:
        window, count = max(system.limit.seconds, 2.0), system.limit.count / system.limit.seconds
        async with system.courier():
            await asyncio.sleep(3 * window)
            async with system.run():
                await asyncio.sleep(window + 5)
                began = system.now()
                await asyncio.sleep(4 * window)
                both = system.now() - began
                assert system.amount(began, system.now()) >= 0.9 * count * both
                assert system.amount(began, system.now(), "run") >= 0.35 * count * both
                assert system.amount(began, system.now(), "courier") >= 0.35 * count * both
            await asyncio.sleep(window + 2)
            assert await system.measure(3 * window) >= 0.95
        with system.sessions.engine.connect() as connection:
            assert connection.execute(rate_shares.select()).all() == []

    simulate(monkeypatch, main, name)


def test_a_killed_run_frees_its_share_when_its_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(system: System) -> None:
        async with system.courier():
            async with system.run(is_killed=True):
                await asyncio.sleep(10)
            assert await system.measure(5) < 0.6
            await asyncio.sleep(LEASE_SECONDS)
            assert await system.measure(10) >= 0.95

    simulate(monkeypatch, main)


@pytest.mark.parametrize("name", LIMITS)
def test_each_part_of_a_run_has_a_share(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export reads users and writes them, both within one limit."""

    async def main(system: System) -> None:
        async with system.courier():
            for _ in range(3):
                began = system.now()
                async with system.run(number=7):
                    await asyncio.sleep(60)
                assert system.amount(began, system.now(), "run 7") > 0

    simulate(monkeypatch, main, name)


def test_a_slow_run_leaves_the_rest_to_the_courier(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(system: System) -> None:
        async with system.courier(), system.run(pause=0.5):
            await asyncio.sleep(10)
            assert await system.measure(20, "courier") >= 0.8

    simulate(monkeypatch, main)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_run_has_the_whole_limit_if_the_courier_sends_nothing(is_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(system: System) -> None:
        async with system.courier(sends=False) as courier:
            if not is_open:
                courier._limits.clear()
            async with system.run():
                await asyncio.sleep(3)
                assert await system.measure(10) >= 0.85

    simulate(monkeypatch, main)


def test_a_run_without_a_courier_begins_after_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(system: System) -> None:
        async with system.run():
            await asyncio.sleep(LEASE_SECONDS - 1)
            assert system.sent == []
            await asyncio.sleep(2)
            assert await system.measure(5) >= 0.95
            async with system.run(), system.run():
                await asyncio.sleep(LEASE_SECONDS + 5)
                assert await system.measure(10) >= 0.9
                assert {by for at, _, by in system.sent if at > system.now() - 5} == {"run 1", "run 2", "run 3"}

    simulate(monkeypatch, main)


@pytest.mark.parametrize("name", ["rolling", "no burst", "fixed"])
def test_an_outage_of_the_store_stops_all_that_share(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(system: System) -> None:
        async with system.courier(), system.run():
            await asyncio.sleep(5)
            system.sessions.is_down = True
            await asyncio.sleep(LEASE_SECONDS + 2)
            assert await system.measure(5) == 0
            system.sessions.is_down = False
            await asyncio.sleep(5 + 3 * system.limit.seconds)
            assert await system.measure(5 + 2 * system.limit.seconds) >= 0.9

    simulate(monkeypatch, main, name)


def test_a_courier_that_takes_over_waits_for_the_share_of_the_former(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(system: System) -> None:
        async with system.run():
            async with system.courier():
                await asyncio.sleep(5)
            async with system.courier():
                await asyncio.sleep(LEASE_SECONDS + 5)
                assert await system.measure(5) >= 0.9
                assert await system.measure(5, "courier") >= 0.35

    simulate(monkeypatch, main)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ["rolling", "users", "fixed"])
def test_runs_that_come_and_go_never_exceed_the_limit(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)

    async def come_and_go(system: System) -> None:
        unit = max(system.limit.seconds, 2.0)
        for _ in range(3):
            await asyncio.sleep(random.uniform(0, 2 * unit))
            async with system.run(pause=random.choice((0.0, unit / 10)), is_killed=random.random() < 0.2):
                await asyncio.sleep(random.uniform(0, 4 * unit))

    async def main(system: System) -> None:
        async with system.courier():
            await asyncio.gather(*(come_and_go(system) for _ in range(3)))

    simulate(monkeypatch, main, name)


@given(own=st.floats(0, 100), others=st.lists(st.floats(0, 100), max_size=6), total=st.floats(1, 200))
def test_a_share_is_fair(own: float, others: list[float], total: float) -> None:
    everyone = [own, *others]
    parts = [allot(each, everyone[:index] + everyone[index + 1 :], total) for index, each in enumerate(everyone)]
    assert sum(parts) == pytest.approx(total)
    assert all(part >= min(each, total / len(everyone)) - 1e-6 for part, each in zip(parts, everyone, strict=True))


def test_an_account_is_known_by_its_secrets_or_by_its_authorization() -> None:
    account = OAuthAccount(id=1, code="a1", authorized_at=NOW)
    shared = [replace(CONNECTION, id=id_, oauth_account=account) for id_ in (7, 8)]
    secret = CustomerIoSettings.read({"siteID": "s" * 20, "apiKey": "k" * 20, "region": "US"})
    identities = [
        [identify_account(each, None) for each in shared],
        [identify_account(replace(CONNECTION, id=id_), secret) for id_ in (7, 8)],
        [identify_account(CONNECTION, None)],
        [identify_account(replace(CONNECTION, id=8), None)],
    ]
    assert [len({*each}) for each in identities] == [1, 1, 1, 1]
    assert len({each[0] for each in identities}) == 4
    assert find_key(identities[0][0], ROLLING) != find_key(identities[0][0], replace(ROLLING, group="other"))
