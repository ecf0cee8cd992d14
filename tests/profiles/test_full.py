"""A full resolution gives the profiles of the definition, whatever happens meanwhile, on both databases."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from uuid import RFC_4122, UUID

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from sqlalchemy import event

from headwater.base.errors import NotFound
from headwater.catalog.profiles import Identifier, Rename, ResolutionSettings
from headwater.profiles import full, scanning
from headwater.profiles.components import Sets
from headwater.profiles.kpids import KPIDS_PER_PREFIX, KpidSource
from headwater.profiles.renaming import AttributeRenamer
from headwater.profiles.settings import ResolutionContext
from headwater.profiles.spool import MemberSpool
from headwater.state import Transaction
from headwater.state.profiles.model import IdentityName
from headwater.state.profiles.sorting import LinkSorter
from tests.examples import examples
from tests.profiles.history import SCHEMA
from tests.profiles.installation import WORKSPACE, Change, Installation, clear, open_installation, state_url
from tests.profiles.test_histories import attributes, names, pipelines
from tests.profiles.test_histories import settings as some_settings

THREE: Final = ResolutionSettings(identifiers=tuple(Identifier(path=path) for path in ("email", "phone", "ref")))
changes = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "claim"]), names, pipelines, attributes, st.integers(0, 9)
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture
async def installation(database_url: str | None, tmp_path: Path) -> AsyncIterator[Installation]:
    async with open_installation(state_url(database_url, tmp_path), THREE) as opened:
        yield opened


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCAN_IDENTITIES", "SLICE_LINKS", "SLICE_MEMBERS", "SLICE_RENAMES", "SLICE_UNRESOLVED"):
        monkeypatch.setattr(full, name, 2)
    for name in ("SLICE_IDENTITIES", "SLICE_NEW_IDENTITIES"):
        monkeypatch.setattr(full, name, 1)


def person(number: int, *, pipeline: int = 1, at: int = 1, **attributes: str) -> Change:
    return "put", IdentityName(1, f"u{number}", False), pipeline, msgspec.json.encode(attributes).decode(), at


@given(
    settings=st.lists(some_settings, min_size=1, max_size=3),
    histories=st.lists(changes, min_size=1, max_size=3),
    meanwhile=st.lists(changes | st.none(), max_size=8),
    sides=st.none() | st.tuples(names, names),
)
@hypothesis_settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_full_resolution_gives_the_profiles_of_the_definition(
    installation: Installation,
    small_slices: None,
    settings: list[ResolutionSettings],
    histories: list[list[Change]],
    meanwhile: list[list[Change] | None],
    sides: tuple[IdentityName, IdentityName] | None,
) -> None:
    await clear(installation.state)
    installation.change_settings(settings[0])
    for history in histories:
        await installation.batch(history)
    if sides is not None and sides[0] != sides[1]:
        await installation.separate(((sides[0],), (sides[1],)))
    left = list(meanwhile)

    async def change(_done: int, _total: int) -> None:
        if left and (some := left.pop()) is not None:
            await installation.batch(some)

    for each in settings:
        installation.change_settings(each)
        await installation.resolve(change)
        await installation.check()
    before = await installation.contents()
    await installation.resolve()
    after = await installation.contents()
    # Batches add blocked values, and only a full resolution removes those that no identity has any more.
    before["refused"] = {one for one in before["refused"] if one.reason != "BlockedValue" or one in after["refused"]}
    assert after == before
    while left:
        if (some := left.pop()) is not None:
            await installation.batch(some)
    await installation.drain()
    await installation.check()


async def test_an_unchanged_workspace_is_not_written(installation: Installation) -> None:
    await installation.batch([person(n, email=f"e{n % 7}", phone=f"p{n % 5}", name=f"n{n}") for n in range(40)])
    await installation.check()
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(installation.state._sessions.engine, "before_cursor_execute", record)
    try:
        await installation.resolve()
    finally:
        event.remove(installation.state._sessions.engine, "before_cursor_execute", record)
    noted = [each for each in statements if not each.lstrip().upper().startswith(("SELECT", "WITH", "BEGIN"))]
    assert all("checkpoints" in each or "resolutions" in each for each in noted), noted
    first = len(noted)
    event.listen(installation.state._sessions.engine, "before_cursor_execute", record)
    statements.clear()
    try:
        await installation.resolve()
    finally:
        event.remove(installation.state._sessions.engine, "before_cursor_execute", record)
    assert first and not [
        each for each in statements if each.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE"))
    ]


@pytest.mark.timeout(600)
async def test_a_resolution_that_fails_between_any_two_transactions_is_repeated(
    installation: Installation, small_slices: None, database_url: str | None
) -> None:
    """Every transaction leaves a state from which the next resolution gives the same profiles."""
    step = 1 if database_url is None else 7  # a commit takes longer
    people = [person(n, email=f"e{n % 3}", phone=f"p{n % 4}", name=f"n{n}") for n in range(6)]
    settings = [
        ResolutionSettings(),
        THREE,
        ResolutionSettings(identifiers=(Identifier(path="phone", max_values=1), Identifier(path="email"))),
    ]
    for before, after in ((0, 1), (1, 2), (2, 0)):
        for fails_after in (False, True):
            boundary = 0
            while True:
                await clear(installation.state)
                installation.change_settings(settings[before])
                await installation.batch(people)
                installation.change_settings(settings[after])
                if await completes(installation, boundary, fails_after=fails_after):
                    break
                found = await installation.contents()
                assert found["members"].keys() <= found["identities"].keys()
                assert {member.profile for member in found["members"].values()} <= found["profiles"].keys()
                await installation.batch([person(3, email="other", name="new"), person(20, phone="p1")])
                await installation.resolve()
                await installation.check()
                boundary += step
            assert boundary > 3


async def completes(installation: Installation, transactions: int, *, fails_after: bool) -> bool:
    """Resolve, and fail in the place of the transaction after so many, or after its commit; return whether it was not
    reached."""
    state, count = installation.state, 0
    original = state.transaction

    @asynccontextmanager
    async def transaction() -> AsyncIterator[Transaction]:
        nonlocal count
        if fails_after and count > transactions:
            raise Killed
        async with original() as opened:
            yield opened
            count += 1
            if not fails_after and count > transactions + 1:  # the first one pauses the batches
                raise Killed

    state.transaction = transaction  # type: ignore[method-assign]
    try:
        await installation.resolve()
    except Killed:
        return False
    finally:
        state.transaction = original  # type: ignore[method-assign]
    return True


class Killed(BaseException):
    """Stands for the end of the process."""


async def test_profiles_of_a_killed_resolution_keep_their_ids(installation: Installation, small_slices: None) -> None:
    """Also those without members; but for the profile of an identity that is deleted meanwhile."""
    boundary, empty, is_complete = 0, 0, False
    while not is_complete:
        await clear(installation.state)
        installation.change_settings(THREE)
        installation.resolver.paused.add(WORKSPACE)
        await installation.batch([person(n, email=f"e{n % 4}", name=f"n{n}") for n in range(7)])
        is_complete = await completes(installation, boundary, fails_after=False)
        found = await installation.contents()
        made = {profile.founder: profile.kpid for profile in found["profiles"].values()}
        empty += len(made) - len({member.profile for member in found["members"].values()})
        await installation.batch([("delete", IdentityName(1, "u0", False), 1, "{}", 1)])
        await installation.resolve()
        await installation.check()
        found = await installation.contents()
        kept = {profile.founder: profile.kpid for profile in found["profiles"].values()}
        assert made.items() - kept.items() <= {
            (founder, kpid) for founder, kpid in made.items() if founder == min(made)
        }
        boundary += 1
    assert empty > 3


async def test_a_resolution_of_a_deleted_workspace_leaves_no_members(
    installation: Installation, small_slices: None
) -> None:
    step, calls = 1, 0
    while calls >= step - 1:
        await clear(installation.state)
        installation.change_settings(THREE)
        installation.resolver.paused.add(WORKSPACE)
        await installation.batch([person(n, email=f"e{n % 4}", name=f"n{n}") for n in range(7)])
        calls = 0

        async def delete(_done: int, _total: int, step: int = step) -> None:
            nonlocal calls
            calls += 1
            if calls == step:
                await installation.delete_workspace()

        with suppress(NotFound):
            await installation.resolve(delete)
        await installation.delete_workspace()
        found = await installation.contents()
        assert found["members"] == found["profiles"] == {}
        step += 1
    assert step > 5


async def test_identities_that_vanish_during_a_resolution_leave_their_profiles(
    installation: Installation, small_slices: None
) -> None:
    installation.change_settings(ResolutionSettings())
    await installation.batch([person(n, pipeline=1 + n % 2, email=f"e{n % 2}") for n in range(8)])
    for step in range(0, 40, 3):
        installation.change_settings(THREE if step % 2 == 0 else ResolutionSettings())
        calls = 0

        async def remove(_done: int, _total: int, step: int = step) -> None:
            nonlocal calls
            calls += 1
            if calls == step:
                await installation.remove_silently([11])

        await installation.resolve(remove)
        await installation.check()
        await installation.batch([person(n, pipeline=2, email=f"e{n % 2}") for n in range(1, 8, 2)])
        await installation.check()


async def test_the_profiles_of_claimed_identities_answer_after_a_resolution(
    installation: Installation, small_slices: None
) -> None:
    """Whenever the claims happen, also if the profiles merge with others meanwhile. Step 0 is before the resolution."""
    claims: list[Change] = [("claim", IdentityName(1, f"v{n}", True), 1, "{}", 1) for n in range(2)]
    step, calls = 0, 0
    while calls >= step:
        await clear(installation.state)
        installation.change_settings(ResolutionSettings())
        for n in (3, 1, 2, 0):
            email = msgspec.json.encode({"email": f"e{n % 2}"}).decode()
            await installation.batch([("put", IdentityName(1, f"v{n}", True), 1, email, 1)])
        before = await installation.contents()
        kpids = {
            member.name.identity_id: before["profiles"][member.profile].kpid for member in before["members"].values()
        }
        installation.change_settings(THREE)
        if step == 0:
            await installation.batch(claims)
        calls = 0

        async def claim(_done: int, _total: int, step: int = step) -> None:
            nonlocal calls
            calls += 1
            if calls == step:
                await installation.batch(claims)

        await installation.resolve(claim)
        await installation.check()
        if calls >= step:
            for n in range(2):
                names = await installation.find_names(kpids[f"v{n}"])
                assert IdentityName(1, f"v{n}'", False) in names, step
        step += 1
    assert step > 5


SWAPPED: Final = msgspec.structs.replace(
    SCHEMA, version=2, renames=(Rename(old="email", new="phone"), Rename(old="phone", new="email"))
)


@pytest.mark.parametrize("fails_after", [False, True])
async def test_a_rename_is_applied_once(installation: Installation, small_slices: None, fails_after: bool) -> None:
    boundary, is_complete = 0, False
    while not is_complete:
        await clear(installation.state)
        installation.change_settings(THREE)
        await installation.batch([person(n, email=f"e{n}", phone=f"p{n}") for n in range(5)])
        await installation.resolve()
        installation.change_settings(THREE, SWAPPED)
        is_complete = await completes(installation, boundary, fails_after=fails_after)
        for _ in range(2):
            await installation.resolve()
            await installation.check()
        found = await installation.contents()
        emails = sorted(msgspec.json.decode(row.attributes)["email"] for row in found["identities"].values())
        assert emails == [f"p{n}" for n in range(5)]
        boundary += 1
    assert boundary > 4
    installation.change_settings(ResolutionSettings(), SWAPPED)
    await installation.resolve()
    again = await installation.contents()
    assert again["identities"] == found["identities"]


@pytest.mark.parametrize(
    ("renames", "before", "after"),
    [
        ((), '{"a":1}', '{"a":1}'),
        ((Rename(old="a", new="b"),), '{"a":1.50,"c":2}', '{"c":2,"b":1.50}'),
        ((Rename(old="a", new="b"),), '{ "c" : 2 }', '{ "c" : 2 }'),
        ((Rename(old="a", new=None),), '{"a":1,"c":2}', '{"c":2}'),
        ((Rename(old="a", new="b"), Rename(old="b", new="a")), '{"a":1,"b":2}', '{"b":1,"a":2}'),
        ((Rename(old="a", new="b"),), '{"a":1,"b":2}', '{"b":1}'),
        ((Rename(old="o.a", new="o.b"),), '{"o":{"a":1,"c":[2]},"a":3}', '{"o":{"c":[2],"b":1},"a":3}'),
        ((Rename(old="o.a", new="o.b"),), '{"o":null}', '{"o":null}'),
        ((Rename(old="o", new="p"), Rename(old="o.a", new="p.b")), '{"o":{"a":1}}', '{"p":{"b":1}}'),
        ((Rename(old="o", new=None),), '{"o":{"a":1}}', "{}"),
        ((Rename(old="o.a.x", new="o.a.y"),), '{"o":{"a":{"x":1}}}', '{"o":{"a":{"y":1}}}'),
    ],
)
def test_attributes_are_renamed_together(renames: tuple[Rename, ...], before: str, after: str) -> None:
    assert AttributeRenamer(renames).rename(before) == after


async def test_the_profiles_of_a_workspace_without_schema_have_no_attributes(installation: Installation) -> None:
    installation.change_settings(ResolutionSettings(), None)
    await installation.batch([person(1, email="e"), person(1, pipeline=2, email="f"), person(2, email="e")])
    found = await installation.contents()
    assert sorted(row.attributes for row in found["profiles"].values()) == ["{}", "{}"]
    installation.change_settings(THREE, SCHEMA)
    await installation.resolve()
    await installation.check()
    installation.change_settings(ResolutionSettings(), None)
    await installation.resolve()
    found = await installation.contents()
    assert sorted(row.attributes for row in found["profiles"].values()) == ["{}", "{}"]
    assert found["links"] == {}


def test_kpids_are_random_uuids_in_ascending_order() -> None:
    count = 2 * KPIDS_PER_PREFIX + 1
    kpids = KpidSource(count)
    some = [kpids() for _ in range(count)]
    assert all(UUID(bytes=kpid).version == 4 and UUID(bytes=kpid).variant == RFC_4122 for kpid in some)
    assert some == sorted(set(some))
    assert len({kpid[:2] for kpid in some}) == 3
    assert len({kpid[2:4] for kpid in some}) > KPIDS_PER_PREFIX // 2
    assert len({kpid[9:] for kpid in some}) == count
    others = [kpids() for _ in range(KPIDS_PER_PREFIX)]  # more than expected
    assert len({*some, *others}) == count + len(others)


@pytest.mark.parametrize("count", [0, 1 << 40])
def test_kpids_of_any_number_can_be_drawn(count: int) -> None:
    kpids = KpidSource(count)
    assert len({kpids() for _ in range(9)}) == 9


@pytest.mark.parametrize("span", [0, scanning.MAX_SPAN])
def test_profiles_and_components_are_in_one_slice(span: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_SPAN", span)
    sorter = LinkSorter()
    scan = scanning.Scan(ResolutionContext.compile(1, THREE, None), sorter, MemberSpool(BytesIO()))
    scan.ids.extend(range(11, 19))
    scan.profiles.extend([7, 0, 9, 7, 0, 9, 0, 8])
    scan.sets = Sets(8)
    scan.sets.unite(1, 3)
    scan.sets.unite(4, 6)
    scan.group()
    assert [sorted(numbers) for numbers in scan.slices(1)] == [[0, 1, 3], [2, 5], [4, 6], [7]]
    sorter.close()
