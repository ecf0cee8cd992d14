"""Profiles as other processes read them."""

from headwater.state import StateStore
from headwater.state.identities import IdentityCursor
from headwater.state.profiles import Alias, LinkValue, ProfileChange, RefusedEvidence, Separation
from headwater.state.profiles.reading import ListedChange, ListedRefusal
from tests.state.profiles.changes import (
    CONNECTION,
    OTHER_WORKSPACE,
    WORKSPACE,
    changes,
    kpid,
    link,
    member,
    name,
    observe,
    profile,
    write,
)


async def test_a_profile_is_found_by_its_id_and_by_those_merged_into_it(state: StateStore) -> None:
    await write(state, changes(profiles=[profile(1), profile(2)], aliases=[Alias(kpid(9), 2, 5, 6)]))
    reader = state.profiles
    assert await reader.find(WORKSPACE, kpid(1)) == profile(1)
    assert await reader.find(WORKSPACE, kpid(9)) == profile(2)
    assert await reader.find(WORKSPACE, kpid(3)) is None
    assert await reader.find(OTHER_WORKSPACE, kpid(1)) is None
    assert await reader.find(OTHER_WORKSPACE, kpid(9)) is None
    assert await reader.find(WORKSPACE, b"") is None


async def test_identities_of_a_profile_are_listed_newest_first(state: StateStore) -> None:
    await observe(state, "a", "b", "c", "d")
    await write(state, changes(profiles=[profile(1)], members=[member(id_, 1) for id_ in (1, 2, 4, 99)]))
    found, total = await state.profiles.find_identities(1, first=0, limit=2)
    assert ([each.user_id for each in found], total) == (["d", "b"], 3), "99 is deleted and not yet resolved"
    last = IdentityCursor(1, found[-1].id)
    assert [each.user_id for each in (await state.profiles.find_identities(1, first=0, limit=2, after=last))[0]] == [
        "a"
    ]
    assert [each.user_id for each in (await state.profiles.find_identities(1, first=1, limit=9))[0]] == ["b", "a"]
    assert await state.profiles.find_identities(2, first=0, limit=2) == ([], 0)
    assert [each.identity for each in await state.profiles.find_members(1)] == [1, 2, 4, 99]
    assert [each.identity for each in await state.profiles.find_members(1, limit=2)] == [1, 2]
    assert await state.profiles.count_identities([CONNECTION, 2]) == 4
    assert await state.profiles.count_identities([]) == 0


async def test_the_history_of_a_profile_is_listed_newest_first(state: StateStore) -> None:
    merges = [ProfileChange(WORKSPACE, at, "Merge", 1, kpid(at)) for at in range(4)]
    await write(state, changes(history=[*merges, ProfileChange(WORKSPACE, 9, "Split", 2, kpid(1))]))
    first = await state.profiles.history(WORKSPACE, 1, limit=3)
    assert [each.change for each in first] == merges[:0:-1]
    assert await state.profiles.history(WORKSPACE, 1, limit=3, after=first[-1].id) == [ListedChange(1, merges[0])]
    assert await state.profiles.history(OTHER_WORKSPACE, 1, limit=3) == []


async def test_refused_evidence_is_listed_with_the_number_of_identities(state: StateStore) -> None:
    value, blocked = LinkValue(0, "v"), LinkValue(1, "null")
    first, second, third = (
        RefusedEvidence(WORKSPACE, "TooManyIdentities", value, 0, 0, 1),
        RefusedEvidence(WORKSPACE, "BlockedValue", blocked, 0, 0, 2),
        RefusedEvidence(WORKSPACE, "Separated", value, 3, 4, 3),
    )
    await write(state, changes(refused=[first, second, third], links=[link("v", 3), link("v", 4), link("w", 5)]))
    found = await state.profiles.refused(WORKSPACE, limit=2)
    assert found == [ListedRefusal(3, third, 2), ListedRefusal(2, second, None)]
    assert await state.profiles.refused(WORKSPACE, limit=2, after=2) == [ListedRefusal(1, first, 2)]
    assert await state.profiles.refused(OTHER_WORKSPACE, limit=2) == []


async def test_separations_are_listed_newest_first(state: StateStore) -> None:
    given = [Separation(0, WORKSPACE, at, ((name("a"),), (name("b"), name("c"))), kpid(at)) for at in range(3)]
    async with state.transaction() as transaction:
        ids = await transaction.on_profiles(lambda rows: list(map(rows.add_separation, given)))
    found = await state.profiles.separations(WORKSPACE, limit=2)
    assert [(each.id, each.created_at, each.sides) for each in found] == [
        (ids[number], number, given[number].sides) for number in (2, 1)
    ]
    assert [each.id for each in await state.profiles.separations(WORKSPACE, limit=2, after=ids[1])] == [ids[0]]
    assert await state.profiles.separation(WORKSPACE, ids[2]) == found[0]
    assert await state.profiles.separation(OTHER_WORKSPACE, ids[2]) is None
    assert await state.profiles.separations(OTHER_WORKSPACE, limit=2) == []


async def test_the_state_of_a_resolution_that_never_happened(state: StateStore) -> None:
    found = await state.profiles.resolution(WORKSPACE)
    assert (found.applied, found.is_resolving_all, found.unresolved) == (None, False, 0)
