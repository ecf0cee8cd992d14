"""Identities become profiles in a running system, also if its worker is killed during a resolution or a split."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Connection

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import Workspace, open_catalog
from headwater.catalog.profiles import Identifier, ProfileSchema, ResolutionSettings
from headwater.schemas import Property, Schema, StringType
from headwater.state import bulk, open_state
from headwater.state.operations import (
    IdentityResolutionParameters,
    Operation,
    OperationParameters,
    SplitIdentity,
    SplitParameters,
    SplitResult,
    open_operations,
)
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.tables import identities
from headwater.storage.database import sqlite_url
from tests.e2e.source import Source, make_source
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start, wait_until

PEOPLE: Final = 6_000
SETTINGS: Final = ResolutionSettings(identifiers=(Identifier(path="email"), Identifier(path="phone")))
SCHEMA: Final = ProfileSchema(
    schema=Schema(tuple(Property(name, StringType(), read_optional=True) for name in ("email", "name", "phone")))
)

pytestmark = pytest.mark.timeout(600)


class Data:
    """The databases of a system, which may run at the same time."""

    def __init__(self, folder: Path, database_url: str | None) -> None:
        self.folder = folder
        self.database_url = database_url

    def url(self, name: str) -> str:
        return self.database_url or sqlite_url(self.folder / f"{name}.db")

    @property
    def variables(self) -> dict[str, str]:
        return {} if self.database_url is None else {"HEADWATER_DATABASE_URL": self.database_url}

    def change_settings(self, settings: ResolutionSettings) -> int:
        """Change how the one workspace resolves identities; return its id."""

        async def change() -> int:
            clock, identifiers = SystemClock(), Identifiers()
            async with open_catalog(self.url("catalog"), clock=clock, identifiers=identifiers) as catalog:
                [workspace] = catalog.workspaces()
                async with catalog.change() as changing:
                    changed: Workspace = msgspec.structs.replace(workspace, resolution=settings, profile_schema=SCHEMA)
                    changing.update_workspace(changed)
                return workspace.id

        return asyncio.run(change())

    def fill(self, workspace: int, source: Source) -> None:
        """Write the identities of many people to a stopped system."""

        def write(connection: Connection) -> None:
            columns = [column for column in identities.c if column.name not in ("id", "run")]
            for first in range(0, PEOPLE, 2_000):
                rows = [
                    (workspace, source.id, f"u{n}", False, source.user_pipeline, "[]", n, attributes(n))
                    for n in range(first, first + 2_000)
                ]
                bulk.insert(connection, columns, rows)

        async def fill() -> None:
            async with (
                open_state(self.url("state"), writes=True, clock=SystemClock()) as state,
                state.transaction() as transaction,
            ):
                await transaction.run(write)

        asyncio.run(fill())

    def read(self, work: Any) -> Any:
        async def read() -> Any:
            async with open_state(self.url("state"), writes=False, clock=SystemClock()) as state:
                return await state.read_profiles(work)

        return asyncio.run(read())

    def profiles(self) -> set[frozenset[str]]:
        """Return the user ids of each profile."""
        return set(self.read(_profiles).values())

    def create(self, workspace: int, parameters: OperationParameters) -> int:
        async def create() -> int:
            clock = SystemClock()
            async with open_operations(self.url("operations"), clock=clock, identifiers=Identifiers()) as operations:
                return (await operations.create(workspace, parameters, None)).id

        return asyncio.run(create())

    def latest(self) -> Operation | None:
        async def read() -> Operation | None:
            clock = SystemClock()
            async with open_operations(self.url("operations"), clock=clock, identifiers=Identifiers()) as operations:
                found = await operations.page(limit=1)
            return found[0] if found else None

        return asyncio.run(read())

    def is_writing(self, workspace: int) -> bool:
        """Return whether the latest resolution has written some profiles. One that is faster than the poll has all."""
        latest = self.latest()
        if latest is None or latest.status == "Pending":
            return False
        return latest.status == "Completed" or self.read(
            lambda rows: rows.applied(workspace) is None and bool(rows.members([1]))
        )

    def is_completed(self) -> bool:
        latest = self.latest()
        assert latest is None or latest.status in ("Pending", "Running", "Completed"), latest
        return latest is not None and latest.status == "Completed"


def attributes(number: int) -> str:
    dice = random.Random(number)
    members = {"name": f"n{number}", "email": f"e{dice.randrange(PEOPLE * 2 // 3)}"}
    if dice.random() < 0.3:
        members["phone"] = f"p{dice.randrange(PEOPLE)}"
        if dice.random() < 0.5:
            del members["email"]
    return msgspec.json.encode(members).decode()


def expected(settings: ResolutionSettings) -> set[frozenset[str]]:
    """Return the profiles of the definition: of the pairs with one value those that a stronger one does not decide."""
    people = [msgspec.json.decode(attributes(number), type=dict[str, str]) for number in range(PEOPLE)]
    sets = {number: {number} for number in range(PEOPLE)}
    for index, identifier in enumerate(settings.identifiers):
        holders: dict[str, list[int]] = {}
        for number, members in enumerate(people):
            if identifier.path in members:
                holders.setdefault(members[identifier.path], []).append(number)
        stronger = [each.path for each in settings.identifiers[:index]]
        for group in holders.values():
            for position, one in enumerate(group):
                for other in group[position + 1 :]:
                    if not any(path in people[one] and path in people[other] for path in stronger):
                        union = sets[one] | sets[other]
                        sets.update(dict.fromkeys(union, union))
    return {frozenset(f"u{number}" for number in numbers) for numbers in sets.values()}


def _profiles(rows: ResolutionRows) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {}
    for member in rows.members(range(1, 2 * PEOPLE)):
        found.setdefault(member.profile, set()).add(member.name.identity_id)
    return {profile: frozenset(members) for profile, members in found.items()}


@pytest.fixture(params=["sqlite", "postgresql"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Data:
    if request.param == "sqlite":
        return Data(tmp_path / "data", None)
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    return Data(tmp_path / "data", server.create(empty=True))


@contextmanager
def running(data: Data) -> Iterator[RunningSystem]:
    system = start(data.folder, None, **data.variables)
    try:
        yield system
    finally:
        assert system.stop() == 0, system.errors


def kill_worker(system: RunningSystem) -> None:
    killed = system.children()["worker"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: system.children().get("worker", killed) != killed, 30)


def test_an_identified_user_is_in_a_profile(data: Data) -> None:
    with running(data) as system:
        source = make_source(system)
        for anonymous_id in ("a1", "a2"):
            body = {"userId": "u1", "anonymousId": anonymous_id, "traits": {"email": "a@example.com"}}
            assert source.send("identify", body).status_code == 200
        assert source.send("track", {"anonymousId": "a3", "event": "Seen"}).status_code == 200
        wait_until(lambda: data.profiles() == {frozenset({"u1"}), frozenset({"a3"})}, 30)
        assert source.send("identify", {"userId": "u2", "anonymousId": "a3"}).status_code == 200
        wait_until(lambda: data.profiles() == {frozenset({"u1"}), frozenset({"u2"})}, 30)


def test_resolutions_and_splits_survive_the_death_of_the_worker(data: Data) -> None:
    with running(data) as system:
        source = make_source(system)
    workspace = data.change_settings(SETTINGS)
    data.fill(workspace, source)
    with running(data) as system:  # as an upgrade, whose identities are in no profile yet
        wait_until(lambda: data.is_writing(workspace), 60)
        kill_worker(system)
        wait_until(data.is_completed, 240)
        assert data.profiles() == expected(SETTINGS)
        other = ResolutionSettings(identifiers=SETTINGS.identifiers[::-1])
        data.change_settings(other)
        data.create(workspace, IdentityResolutionParameters())
        wait_until(lambda: data.is_writing(workspace), 60)
        kill_worker(system)
        wait_until(data.is_completed, 240)
        wanted = expected(other)
        wait_until(lambda: data.profiles() == wanted, 60)
        split_and_kill(data, system, workspace, source)


def split_and_kill(data: Data, system: RunningSystem, workspace: int, source: Source) -> None:
    """Split a profile while the worker is killed. The split takes place once."""
    grouped: dict[int, frozenset[str]] = data.read(_profiles)
    id_, members = max(grouped.items(), key=lambda item: len(item[1]))
    assert len(members) > 1
    [profile] = data.read(lambda rows: rows.profiles([id_]))
    leaving = sorted(members)[0]
    parameters = SplitParameters(
        profile=str(UUID(bytes=profile.kpid)), identities=(SplitIdentity(connection=source.id, identity_id=leaving),)
    )
    operation = data.create(workspace, parameters)
    kill_worker(system)

    def is_split() -> bool:
        latest = data.latest()
        assert latest is not None and latest.id == operation
        return data.is_completed()

    wait_until(is_split, 60)
    latest = data.latest()
    assert latest is not None
    result = msgspec.json.decode(latest.result, type=SplitResult)
    assert len(set(result.kpids)) == len(result.kpids) >= 2
    assert frozenset({leaving}) in data.profiles()
    assert [each.id for each in data.read(lambda rows: rows.all_separations(workspace))] == [result.separation]
