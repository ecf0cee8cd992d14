"""The rows of profiles that the worker reads and writes."""

from functools import partial

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, event

from headwater.state import StateStore
from headwater.state.profiles import (
    Alias,
    IdentityName,
    LinkValue,
    ProfileChange,
    RefusedEvidence,
    Separation,
)
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.profiles.rows import SPLIT_NOTE, ProfileRows
from headwater.state.suppressions import PersonName
from headwater.storage.sessions import attempt
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


def refused(reason: str, identity: int, other: int = 0, *, value: str = "v", at: int = 1) -> RefusedEvidence:
    return RefusedEvidence(WORKSPACE, reason, LinkValue(0, value), identity, other, at)  # type: ignore[arg-type]  # a literal


async def count(state: StateStore, table: str) -> int:
    async with state.trial() as transaction:
        query = f"SELECT count(*) FROM {table}"
        return int(await transaction.run(lambda connection: connection.exec_driver_sql(query).scalar_one()))


async def test_identities_are_read_by_id_and_by_name(state: StateStore) -> None:
    await observe(state, "a", "b", pipelines=(11, 12))
    async with state.trial() as transaction:

        def read(rows: ProfileRows) -> None:
            [first] = rows.identities([1, 99])
            assert (first.id, first.workspace, first.name, first.pipeline) == (1, WORKSPACE, name("a"), 11)
            assert (first.updated_at, first.attributes, first.anonymous_ids) == (0, "{}", "[]")
            named = rows.identities_named([name("b"), name("b", is_anonymous=True), name("c"), name("n\0")])
            assert named == {name("b"): [3, 4]}
            assert rows.identities([]) == []
            assert rows.identities_named([]) == {}

        await transaction.on_profiles(read)


async def test_members_links_and_profiles_are_read_as_they_were_written(state: StateStore) -> None:
    first, second = member(1, 1, "e", None), member(2, 1, None, "p")
    row = profile(1, '{"é":"\\u0000"}')
    constrained = replace(profile(2), is_constrained=True)
    links = [link("e", 2, 1), link("e", 1), link("é\U0001f600" * 40, 2, identifier=1)]
    await write(state, changes(profiles=[row, constrained], members=[first, second], links=links))
    async with state.trial() as transaction:

        def read(rows: ProfileRows) -> None:
            assert rows.members([2, 3]) == [second]
            assert sorted(rows.find_members([1, 2]), key=lambda each: each.identity) == [first, second]
            assert rows.find_members([1], 0) == [first], "one more than the limit, the oldest"
            assert sorted(rows.profiles([1, 2, 3]), key=lambda each: each.id) == [row, constrained]
            e, other = LinkValue(0, "e"), links[2].value
            assert rows.holders(WORKSPACE, [e, other, LinkValue(1, "e")]) == {e: [(1, 0), (2, 1)], other: [(2, 0)]}
            assert rows.holders(WORKSPACE, [e, other], 0) == {e: [(1, 0)], other: [(2, 0)]}
            assert rows.holders(WORKSPACE, [e], 1) == {e: [(1, 0), (2, 1)]}
            assert rows.holders(OTHER_WORKSPACE, [e]) == {}
            assert rows.holders(WORKSPACE, []) == {}

        await transaction.on_profiles(read)


async def test_writing_again_replaces_rows_and_deletes_those_removed(state: StateStore) -> None:
    alias = Alias(kpid(9), 1, 9, 5)
    before = changes(
        profiles=[profile(1, '{"a":1}'), profile(2)], members=[member(1, 1, "e"), member(2, 2, "e")],
        links=[link("e", 1), link("e", 2)], aliases=[alias],
    )  # fmt: skip
    merged = member(2, 1, "f")
    after = changes(
        profiles=[profile(1, '{"a":2}')], removed_profiles=[2], members=[merged], removed_members=[1],
        links=[link("e", 2, 1)], removed_links=[(LinkValue(0, "e"), 1)],
        aliases=[Alias(kpid(2), 1, 2, 6)], removed_aliases=[alias.kpid],
        history=[ProfileChange(WORKSPACE, 6, "Merge", 1, kpid(2))],
    )  # fmt: skip
    await write(state, before, after)
    async with state.trial() as transaction:

        def read(rows: ProfileRows) -> None:
            assert rows.profiles([1, 2]) == [profile(1, '{"a":2}')]
            assert rows.members([1, 2]) == [merged]
            assert rows.holders(WORKSPACE, [LinkValue(0, "e")]) == {LinkValue(0, "e"): [(2, 1)]}
            assert rows.aliases([1, 2]) == [Alias(kpid(2), 1, 2, 6)]

        await transaction.on_profiles(read)
    assert await state.profiles.count(WORKSPACE) == 1


async def test_a_new_profile_takes_the_public_id_of_one_that_is_deleted(state: StateStore) -> None:
    taken = replace(profile(2), kpid=kpid(1))
    await write(state, changes(profiles=[profile(1)]), changes(profiles=[taken], removed_profiles=[1]))
    assert await state.profiles.find(WORKSPACE, kpid(1)) == taken


async def test_values_follow_the_attributes(state: StateStore) -> None:
    long = "x" * 100_000
    texts = ['{"a":"1","o":{"b":true,"c":[1],"n":null}}', '{"a":"2","z":1e400}', f'{{"a":"{long}","i":{10**80}}}', "{}"]
    for text, expected in zip(texts, (3, 2, 2, 0), strict=True):
        await write(state, changes(profiles=[profile(1, text)]))
        assert await count(state, "profile_values") == expected
    await write(state, changes(profiles=[profile(1, texts[0])]), changes(removed_profiles=[1]))
    assert await count(state, "profile_values") == 0
    assert await state.profiles.count(WORKSPACE) == 0


async def test_ids_of_profiles_are_ascending_and_never_used_again(state: StateStore) -> None:
    async with state.transaction() as transaction:
        assert await transaction.on_profiles(lambda rows: rows.new_profile_ids(2)) == [1, 2]
        assert await transaction.on_profiles(lambda rows: rows.new_profile_ids(0)) == []
    await write(state, changes(profiles=[profile(2)]), changes(removed_profiles=[2]))
    async with state.transaction() as transaction:
        assert await transaction.on_profiles(lambda rows: rows.new_profile_ids(1)) == [3]


async def test_refused_evidence_is_kept_once_with_its_first_time(state: StateStore) -> None:
    many, pair = refused("TooManyIdentities", 0), refused("TooManyValues", 3, 4)
    await write(state, changes(refused=[many, pair]), changes(refused=[replace(many, at=9)]))
    async with state.transaction() as transaction:

        def read(rows: ProfileRows) -> None:
            value = LinkValue(0, "v")
            assert rows.refused(WORKSPACE, [], [value]) == [many], "pairs are found by their identities"
            assert rows.refused(WORKSPACE, [3], []) == rows.refused(WORKSPACE, [4], []) == [pair]
            assert rows.refused(OTHER_WORKSPACE, [], [value]) == []
            rows.write(changes(removed_refused=[replace(many, at=77), pair]))
            assert rows.refused(WORKSPACE, [3, 4], [value]) == []

        await transaction.on_profiles(read)


async def test_separations_are_found_by_each_of_their_names(state: StateStore) -> None:
    sides = ((name("a"), name("b")), (name("a", is_anonymous=True),))
    async with state.transaction() as transaction:

        def work(rows: ProfileRows) -> None:
            id_ = rows.add_separation(Separation(0, WORKSPACE, 5, sides, kpid(1)))
            stored = Separation(id_, WORKSPACE, 5, sides, kpid(1))
            for names in ([name("b")], [name("a", is_anonymous=True), name("z")], [name("a"), name("b")]):
                assert rows.separations(WORKSPACE, names) == [stored]
                assert rows.separations(OTHER_WORKSPACE, names) == []
            assert rows.separations(WORKSPACE, [name("z"), name("a\0")]) == []
            assert rows.remove_separation(OTHER_WORKSPACE, id_) is None
            assert rows.remove_separation(WORKSPACE, id_) == stored
            assert rows.remove_separation(WORKSPACE, id_) is None
            assert rows.separations(WORKSPACE, [name("a")]) == []
            assert rows.add_separation(stored) > id_

        await transaction.on_profiles(work)


async def test_the_state_of_a_resolution(state: StateStore) -> None:
    async with state.transaction() as transaction:

        def work(rows: ProfileRows) -> None:
            assert rows.applied(WORKSPACE) is None
            assert rows.checkpoint(WORKSPACE) is None
            rows.set_resolution(WORKSPACE, "digest", b"\x00\xff")
            assert (rows.applied(WORKSPACE), rows.checkpoint(WORKSPACE)) == ("digest", b"\x00\xff")
            rows.set_resolution(WORKSPACE, "other", None)
            assert (rows.applied(WORKSPACE), rows.checkpoint(WORKSPACE)) == ("other", None)
            assert rows.applied(OTHER_WORKSPACE) is None
            rows.add_unresolved(WORKSPACE, [3, 1, 2])
            rows.add_unresolved(WORKSPACE, [2])
            assert rows.unresolved(WORKSPACE, 2) == [1, 2]
            assert rows.unresolved(OTHER_WORKSPACE, 2) == []
            rows.remove_unresolved([1, 2])
            assert rows.unresolved(WORKSPACE, 2) == [3]
            rows.add_unresolved(WORKSPACE, [4, 5, 6], {4: 8, 5: 9})
            assert rows.waiting([3, 4, 5, 6, 7]) == {3: 0, 4: 8, 5: 9, 6: 0}
            rows.move_successors({8: 10, 3: 11})
            assert rows.waiting([3, 4, 5]) == {3: 0, 4: 10, 5: 9}
            rows.remove_unresolved([4, 5, 6])

        await transaction.on_profiles(work)
    found = await state.profiles.resolution(WORKSPACE)
    assert (found.applied, found.is_resolving_all, found.unresolved) == ("other", False, 1)


async def test_the_history_is_shortened_from_its_beginning(state: StateStore) -> None:
    history = [ProfileChange(WORKSPACE, at, "Merge", 1, kpid(at)) for at in range(5)]
    await write(state, changes(history=history))
    async with state.transaction() as transaction:
        assert await transaction.on_profiles(lambda rows: rows.shorten_history(3)) == 3
        assert await transaction.on_profiles(lambda rows: rows.shorten_history(3)) == 0
    left = await state.profiles.history(WORKSPACE, 1, limit=10)
    assert [each.change.at for each in left] == [4, 3]


async def test_a_failed_transaction_writes_nothing(state: StateStore) -> None:
    with pytest.raises(ZeroDivisionError):
        async with state.transaction() as transaction:
            transaction.on_profiles_later(lambda rows: rows.write(changes(profiles=[profile(1)])))
            transaction.on_profiles_later(lambda _: 1 / 0)
    assert await state.profiles.find(WORKSPACE, kpid(1)) is None


async def test_identities_of_deleted_pipelines_wait_for_a_resolution(state: StateStore) -> None:
    await observe(state, "a", "b", pipelines=(11, 12))
    await write(state, changes(profiles=[profile(1)], members=[member(each, 1) for each in (1, 2, 3)]))  # not b in 12
    async with state.transaction() as transaction:
        assert await transaction.remove_identities_except([11]) == 2
        assert await transaction.on_profiles(lambda rows: rows.unresolved(WORKSPACE, 9)) == [2, 4]
        assert await transaction.remove_identities_except([]) == 2
        assert await transaction.on_profiles(lambda rows: rows.unresolved(WORKSPACE, 9)) == [1, 2, 3, 4]
        assert len(await transaction.on_profiles(lambda rows: rows.members([1, 2, 3]))) == 3
        assert await transaction.remove_identities_except([]) == 0


TABLES = (
    "members", "links", "profiles", "profile_values", "profile_aliases", "separations", "separation_members",
    "profile_changes", "resolution_refusals", "unresolved", "resolutions", "profile_counts", "suppressions",
)  # fmt: skip


async def test_nothing_of_a_deleted_workspace_stays(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.state.profiles.removing._PROFILES_PER_CALL", 2)
    person = PersonName(CONNECTION, "x", False)
    for workspace, first in ((WORKSPACE, 1), (OTHER_WORKSPACE, 11)):
        ids = range(first, first + 5)
        await write(
            state,
            changes(
                workspace,
                profiles=[profile(id_, '{"a":"b"}', workspace=workspace) for id_ in ids],
                members=[member(id_, id_, "e") for id_ in ids],
                links=[link("e", id_) for id_ in ids],
                aliases=[Alias(kpid(100 + first), first, 1, 1)],
                history=[ProfileChange(workspace, 1, "Merge", first, kpid(100 + first))],
                refused=[RefusedEvidence(workspace, "TooManyIdentities", LinkValue(0, "e"), 0)],
            ),
        )
        async with state.transaction() as transaction:

            def more(rows: ResolutionRows, workspace: int = workspace, first: int = first) -> None:
                names = IdentityName(CONNECTION, f"x{workspace}", False), IdentityName(CONNECTION, "y", False)
                rows.add_separation(Separation(0, workspace, 1, ((names[0],), (names[1],))))
                rows.add_unresolved(workspace, [first])
                rows.set_resolution(workspace, "d", b"c")
                rows.set_note(f"{SPLIT_NOTE} {workspace}", b"s")
                rows.set_schema_version(workspace, 2)

            await transaction.on_profiles(more)
            await transaction.run(
                partial(state.suppressions.add, workspace=workspace, names=[person], erasure=1, now=1)
            )
    before = {table: await count(state, table) for table in TABLES}
    assert min(before.values()) > 0
    async with state.transaction() as transaction:
        assert await transaction.remove_profiles_except([WORKSPACE, OTHER_WORKSPACE]) == 0
    await remove_all(state, [WORKSPACE])
    assert {table: 2 * await count(state, table) for table in TABLES} == before
    assert len(await state.profiles.find_members(1)) == 1
    await remove_all(state, [])
    assert {table: await count(state, table) for table in TABLES} == dict.fromkeys(TABLES, 0)
    assert await state.checkpoint(f"{SPLIT_NOTE} {WORKSPACE}") is None
    async with state.transaction() as transaction:
        assert await transaction.on_profiles(lambda rows: rows.schema_version(WORKSPACE)) == 0


async def remove_all(state: StateStore, workspaces: list[int]) -> None:
    for _ in range(20):
        async with state.transaction() as transaction:
            if not await transaction.remove_profiles_except(workspaces):
                return
    raise AssertionError("it does not end")


async def test_the_cost_of_a_change_does_not_grow_with_the_rows(state: StateStore) -> None:
    """The number of statements is constant."""
    statements: list[str] = []

    def noted(connection: Connection, start: int, count: int) -> int:
        def note(*arguments: object) -> None:
            statements.append(str(arguments[2]))

        statements.clear()
        event.listen(connection, "before_cursor_execute", note)
        rows = ProfileRows(connection)
        ids = range(start, start + count)
        rows.write(
            changes(
                profiles=[profile(id_, '{"a":1}') for id_ in ids], members=[member(id_, id_, "e") for id_ in ids],
                links=[link("e", id_) for id_ in ids],
            )
        )  # fmt: skip
        rows.find_members(ids, 3)
        rows.holders(WORKSPACE, [LinkValue(0, str(id_)) for id_ in ids], 5)
        rows.identities_named([name(str(id_)) for id_ in ids])
        event.remove(connection, "before_cursor_execute", note)
        return len(statements)

    async with state.trial() as transaction:
        few = await transaction.run(lambda connection: noted(connection, 1, 2))
        many = await transaction.run(lambda connection: noted(connection, 10, 500))
    assert few == many


async def test_the_numbers_of_a_change_are_used_once(state: StateStore) -> None:
    """Also of changes that make more profiles than identities changed, and after one that failed."""
    ids: list[int] = []
    versions: list[int] = []

    def take(rows: ProfileRows, changed: int, counts: tuple[int, ...]) -> None:
        assert rows.status(WORKSPACE, changes=changed) == (None, False, False)
        for count in counts:
            ids.extend(rows.new_profile_ids(count))
            versions.append(rows.new_version())

    def fail(rows: ResolutionRows) -> None:
        rows.set_note("n", b"")
        rows.status(WORKSPACE, changes=5)
        rows.new_profile_ids(3)
        raise ValueError

    for changed, counts in ((1, (1,)), (2, (1, 1, 3)), (3, (5,)), (4, ()), (1, (0, 1))):
        async with state.transaction() as transaction:
            await transaction.on_profiles(lambda rows: rows.set_note("n", b""))
            error = await transaction.run(
                lambda connection: attempt(connection, lambda _: fail(ResolutionRows(connection)))
            )
            assert isinstance(error, ValueError)
            await transaction.on_profiles(partial(take, changed=changed, counts=counts))
    assert ids == sorted(set(ids)) and versions == sorted(set(versions)) and (len(ids), len(versions)) == (12, 7)
