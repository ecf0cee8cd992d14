"""A preview counts what a resolution of all identities would change, and writes nothing."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from sqlalchemy import insert

from headwater.base.clock import SystemClock
from headwater.base.errors import Unprocessable
from headwater.catalog import Identifier, ProfileSchema, ResolutionSettings
from headwater.profiles.evidence import EvidenceReader
from headwater.profiles.previewing import Preview, SharedValue, preview
from headwater.profiles.resolving import Region, resolve
from headwater.state import StateStore, open_state
from headwater.state.profiles.model import (
    IdentityName,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
    Separation,
)
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.tables import identities
from tests.management.profiles.schemas import profile
from tests.sqlite import migrated_url

SCHEMA = ProfileSchema(schema=profile(a="string", b="string"))


class Person(Struct, frozen=True):
    """An identity of a test. `profile` is the number of its profile, or None."""

    user: str
    a: str | None = None
    b: str | None = None
    connection: int = 1
    profile: int | None = None

    @property
    def name(self) -> IdentityName:
        return IdentityName(self.connection, self.user, False)

    @property
    def attributes(self) -> str:
        return json.dumps({name: value for name, value in (("a", self.a), ("b", self.b)) if value is not None})


@pytest.fixture
async def state(tmp_path: Path, database_url: str | None) -> AsyncIterator[StateStore]:
    async with open_state(
        database_url or migrated_url(tmp_path / "state.db"), writes=True, clock=SystemClock()
    ) as state:
        yield state


async def store(
    state: StateStore, workspace: int, people: list[Person], sides: list[list[IdentityName]] | None = None
) -> list[int]:
    """Store identities, with their profiles, and a separation; return the ids of the identities. Each identity is of
    another pipeline."""

    def write(rows: ResolutionRows) -> list[int]:
        ids = []
        for number, person in enumerate(people):
            row = {
                "workspace": workspace,
                "connection": person.connection * 1_000_000 + workspace,
                "identity_id": person.user,
                "is_anonymous": False,
                "pipeline": workspace * 1_000 + number,
                "anonymous_ids": "[]",
                "updated_at": number,
                "attributes": person.attributes,
            }
            ids.append(rows._sql.execute(insert(identities).values(**row).returning(identities.c.id)).scalar_one())
        numbers = sorted({person.profile for person in people if person.profile is not None})
        profile_ids = dict(zip(numbers, rows.new_profile_ids(len(numbers)), strict=True)) if numbers else {}
        changes = ProfileChanges(workspace, [], [], [], [], [], [], [], [], [], [], [])
        for number, id_ in profile_ids.items():
            founder = next(each for each, person in zip(ids, people, strict=True) if person.profile == number)
            changes.profiles.append(ProfileRow(id_, workspace, uuid4().bytes, founder, 0, "{}"))
        for id_, person in zip(ids, people, strict=True):
            if person.profile is not None:
                name = IdentityName(person.connection * 1_000_000 + workspace, person.user, False)
                changes.members.append(Member(id_, name, (), profile_ids[person.profile]))
        rows.write(changes)
        if sides:
            present = tuple(
                tuple(IdentityName(name.connection * 1_000_000 + workspace, name.identity_id, False) for name in side)
                for side in sides
            )
            rows.add_separation(Separation(0, workspace, 1, present))
        return ids

    async with state.transaction() as transaction:
        return await transaction.on_profiles(write)


def definition(
    people: list[Person], given: ResolutionSettings, sides: list[list[IdentityName]] | None = None
) -> tuple[list[list[int]], list[SharedValue]]:
    """Return the numbers of the identities in each profile, and the shared values, as they are defined."""
    reader = EvidenceReader(given, SCHEMA.schema)
    members = [Member(n, person.name, reader.read(person.attributes), 0) for n, person in enumerate(people)]
    counts = Counter(
        LinkValue(index, value)
        for member in members
        for index, value in enumerate(member.evidence)
        if value is not None
    )
    over = {value for value, count in counts.items() if count > given.identifiers[value.identifier].max_identities}
    separations = [Separation(1, 1, 1, tuple(map(tuple, sides)))] if sides else []
    region = Region(workspace=1, settings=given, members=members, over_limit=over, separations=separations)
    shared = sorted(counts.items(), key=lambda item: (item[0].identifier, -item[1], item[0].value))
    return (
        [[member.identity for member in part.members] for part in resolve(region).parts],
        [SharedValue(value, count, value not in over) for value, count in shared if count > 1],
    )


def find_numbers(preview: Preview) -> dict[str, int]:
    names = ("identities", "before", "after", "merged", "split", "changed")
    return {name: getattr(preview, name) for name in names}


def expected(people: list[Person], parts: list[list[int]]) -> dict[str, int]:
    """Return the numbers of a preview, computed from sets."""
    profiles: dict[int, set[int]] = {}
    for part, numbers in enumerate(parts):
        for number in numbers:
            if (profile_ := people[number].profile) is not None:
                profiles.setdefault(profile_, set()).add(part)
    merged = {
        one for one, some in profiles.items() if any(some & others for two, others in profiles.items() if two != one)
    }
    split = {one for one, some in profiles.items() if len(some) > 1}
    return {
        "identities": len(people),
        "before": len(profiles),
        "after": len(parts),
        "merged": len(merged),
        "split": len(split),
        "changed": len(merged | split),
    }


def by(*paths: str, **guards: Any) -> ResolutionSettings:
    return ResolutionSettings(identifiers=tuple(Identifier(path=path, **guards) for path in paths))


VALUES = st.none() | st.sampled_from(["x", "y", "z", "", "n/a"])
PEOPLE = st.lists(
    st.builds(
        Person,
        user=st.sampled_from("abcd"),
        a=VALUES,
        b=VALUES,
        connection=st.integers(1, 2),
        profile=st.none() | st.integers(0, 3),
    ),
    max_size=10,
)
IDENTIFIERS = st.lists(
    st.builds(
        Identifier,
        path=st.sampled_from("ab"),
        blocked_values=st.sampled_from([(), ("z",)]),
        blocked_presets=st.sampled_from([(), ("EmptyWords",)]),
        max_identities=st.sampled_from([1, 2, 3, 1_000]),
        max_values=st.none() | st.integers(1, 2),
        allows_blank=st.booleans(),
    ),
    max_size=2,
    unique_by=lambda identifier: identifier.path,
)
NAMES = st.lists(
    st.builds(
        IdentityName, connection=st.integers(1, 2), identity_id=st.sampled_from("abcd"), is_anonymous=st.just(False)
    ),
    unique=True,
    min_size=2,
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people=PEOPLE, identifiers=IDENTIFIERS, separated=st.none() | NAMES)
def test_a_preview_is_the_difference_to_the_definition(
    tmp_path_factory: pytest.TempPathFactory,
    people: list[Person],
    identifiers: list[Identifier],
    separated: list[IdentityName] | None,
) -> None:
    given_ = ResolutionSettings(identifiers=tuple(identifiers))
    sides = None if separated is None else [separated[:1], separated[1:]]
    parts, shared = definition(people, given_, sides)

    async def run() -> Preview:
        url = migrated_url(tmp_path_factory.mktemp("preview") / "state.db")
        async with open_state(url, writes=True, clock=SystemClock()) as state:
            await store(state, 1, people, sides)
            return await preview(state, 1, given_, SCHEMA)

    found = asyncio.run(run())
    assert find_numbers(found) == expected(people, parts)
    assert found.shared == shared
    assert [each.identities for each in found.largest] == sorted(map(len, parts), reverse=True)[:10]


async def test_the_largest_profiles_and_the_most_shared_values(state: StateStore) -> None:
    people = [Person(f"u{n}", a=f"v{min(n // 3, 14)}", profile=n // 2) for n in range(60)]
    people += [Person(f"w{n}", b="info@x.org") for n in range(3)]
    await store(state, 1, people)
    await store(state, 2, [Person("other", a="v14", profile=1)])
    found = await preview(state, 1, by("a", "b", max_identities=3), SCHEMA)
    assert find_numbers(found) == expected(people, definition(people, by("a", "b", max_identities=3))[0])
    assert [(each.identities, each.profiles) for each in found.largest[:3]] == [(3, 2), (3, 2), (3, 2)]
    assert len(found.largest) == 10
    assert found.shared[0] == SharedValue(LinkValue(0, "v14"), 18, False)
    assert [each.value.identifier for each in found.shared] == [0] * 10 + [1]
    assert found.shared[-1] == SharedValue(LinkValue(1, "info@x.org"), 3, True)


async def test_a_profile_has_the_id_of_that_of_its_oldest_identity(state: StateStore) -> None:
    await store(state, 1, [Person("a", a="x", profile=1), Person("b", a="x", profile=2), Person("c", a="y")])
    kpids = await state.read_profiles(lambda rows: [row.kpid for row in rows.profiles([1, 2, 3])])
    found = await preview(state, 1, by("a"), SCHEMA)
    assert [(each.identities, each.profiles, each.kpid) for each in found.largest] == [(2, 2, kpids[0]), (1, 0, None)]


async def test_a_workspace_without_identities_or_a_schema(state: StateStore) -> None:
    nothing = dict.fromkeys(("identities", "before", "after", "merged", "split", "changed"), 0)
    assert find_numbers(await preview(state, 1, by("a"), None)) == nothing
    await store(state, 1, [Person("a", a="x", profile=1), Person("b", a="x", profile=1)])
    found = find_numbers(await preview(state, 1, by("a"), None))
    assert found == {**nothing, "identities": 2, "before": 1, "after": 2, "split": 1, "changed": 1}


async def test_a_preview_has_a_time_limit(state: StateStore) -> None:
    await store(state, 1, [Person("a", a="x")])
    with pytest.raises(Unprocessable) as caught:
        await preview(state, 1, by("a"), SCHEMA, seconds=0)
    assert caught.value.code == "TooExpensive"
    task = asyncio.create_task(preview(state, 1, by("a"), SCHEMA))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
