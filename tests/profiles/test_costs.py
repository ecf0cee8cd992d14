"""The cost of an event is bounded, and that of a region grows with its size."""

from collections.abc import Callable

import pytest

from headwater.catalog.profiles import Identifier, ResolutionSettings
from headwater.profiles.incremental import resolve_changes
from headwater.profiles.resolving import Region, resolve
from headwater.state.profiles.model import ChangedIdentity, IdentityName, Member, Separation
from tests.complexity import assert_linear
from tests.profiles.people import People


def rows_read(people: People, act: Callable[[], object]) -> int:
    before = sum(people.rows.reads.values())
    act()
    return sum(people.rows.reads.values()) - before


def fill(people: People, count: int, **attributes: str) -> None:
    """Insert many identities in one batch."""
    changes: list[ChangedIdentity] = []
    for number in range(count):
        members = ",".join(f'"{name}":"{value.format(number)}"' for name, value in attributes.items())
        name = IdentityName(3, str(number), False)
        changes.append(people.rows.put(name, 1, f"{{{members}}}", number))
    assert resolve_changes(people.rows, people.context, changes, 1, limit=None) == []


def test_an_anonymous_visitor_reads_nothing() -> None:
    people = People("email", "phone")
    people.see("1", email="a@x")
    assert rows_read(people, lambda: people.see("visitor", is_anonymous=True)) == 1, "its own name"


def test_a_new_value_reads_nothing() -> None:
    people = People("email", "phone")
    people.see("1", email="a@x", phone="5")
    assert rows_read(people, lambda: people.see("2", email="b@x", phone="6")) == 1, "its own name"


def test_a_profile_of_one_is_changed_without_its_links() -> None:
    people = People("email", "phone")
    people.see("1", email="a@x", phone="5", name="A")
    assert rows_read(people, lambda: people.see("1", email="a@x", phone="5", name="B")) == 3, "member, members, profile"


def test_a_value_that_stays_over_its_limit_is_not_read() -> None:
    people = People(Identifier(path="email", max_identities=10), "phone")
    fill(people, 500, email="noreply@x")
    assert rows_read(people, lambda: people.see("new", email="noreply@x")) <= 5
    assert rows_read(people, lambda: people.see("new", email="a@x")) <= 20
    assert rows_read(people, lambda: people.see("new", email="noreply@x")) <= 10
    assert len(people.profiles()) == 501


def test_an_identity_that_leaves_a_value_over_its_limit_is_not_postponed() -> None:
    people = People(Identifier(path="email", max_identities=10), limit=10)
    for id in range(12):
        people.see(str(id), email="noreply@x")
    people.forget(12)
    assert people.postponed == [] and len(people.profiles()) == 11
    people.see("0", email="a@x")
    assert people.postponed == [] and len(people.profiles()) == 2, "the others are linked again"


def test_only_linked_identities_are_read() -> None:
    people = People("email", "phone")
    fill(people, 500, email="{}@x", phone="5")
    assert rows_read(people, lambda: people.see("new", email="new@x", phone="5")) <= 600, "the group, no members"
    assert people.rows.reads.get("find_members", 0) == 0


def test_a_large_profile_is_postponed_without_reading_it() -> None:
    people = People("email", "phone", limit=50)
    fill(people, 500, email="a@x", phone="{}")
    other = people.see("other", email="b@x")
    assert people.postponed == []
    before = people.rows.copy()
    assert rows_read(people, lambda: people.see("new", email="a@x")) <= 60
    assert people.postponed == [people.rows.last_identity]
    people.now += 1
    change = people.rows.put(IdentityName(3, "7", False), 1, '{"email":"a@x","phone":"7","name":"A"}', 999)
    assert resolve_changes(people.rows, people.context, [change], 9, limit=50) == [change.id]
    assert people.rows.member_rows == before.member_rows and people.rows.profile_rows == before.profile_rows
    people.see("other", email="b@x", name="B")
    assert people.postponed == [] and people.attributes(other)["name"] == "B"


def test_a_large_region_of_refused_links_is_postponed() -> None:
    people = People("phone", Identifier(path="email", max_values=1), limit=50)
    fill(people, 200, phone="5", email="{}@x")
    assert len(people.profiles()) == 200
    assert rows_read(people, lambda: people.see("new", phone="5")) <= 600
    assert people.postponed == [people.rows.last_identity]


def test_an_identity_that_unites_many_profiles_is_postponed() -> None:
    """A value links no two of its holders, which have different stronger ones, but each to the new identity."""
    people = People("email", "phone", limit=50)
    for number in range(400):
        people.see(str(number), email=f"{number % 40}@x", phone="5" if number < 40 else None)
    assert len(people.profiles()) == 40
    before = people.rows.copy()
    assert rows_read(people, lambda: people.see("new", phone="5")) <= 1_000
    assert people.postponed == [people.rows.last_identity]
    assert people.rows.profile_rows == before.profile_rows


def region(count: int, attributes: Callable[[int], tuple[str | None, ...]], max_values: int | None = None) -> Region:
    settings = ResolutionSettings(
        identifiers=(Identifier(path="email"), Identifier(path="phone"), Identifier(path="ref", max_values=max_values))
    )
    members = [
        Member(id, IdentityName(1, str(id), False), attributes(id), 1 if id > 1 else 0) for id in range(1, count + 1)
    ]
    return Region(workspace=1, settings=settings, members=members, over_limit=set(), separations=())


SHAPES: dict[str, Callable[[int], Region]] = {
    "one value": lambda count: region(count, lambda _id: ("a", None, None)),
    "chain": lambda count: region(
        count,
        lambda id: (
            (f"e{id // 4}", f"p{(id + 2) // 4}" if id % 2 else None, None)
            if id % 4
            else (None, f"p{id // 4}", f"r{id // 8}")
        ),
    ),
    "no links": lambda count: region(count, lambda id: (f"e{id}", "5", None)),
    "too many values": lambda count: region(count, lambda id: (None, "5", f"r{id}"), max_values=1),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_resolution_is_linear(shape: str) -> None:
    assert_linear(lambda count: resolve(SHAPES[shape](count)), 4_000)


def test_a_separation_of_many_is_linear() -> None:
    def work(count: int) -> None:
        plain = region(count, lambda _id: ("a", None, None))
        names = [member.name for member in plain.members]
        sides = (tuple(names[::2]), tuple(names[1::2]))
        separated = Region(
            workspace=1,
            settings=plain.settings,
            members=plain.members,
            over_limit=set(),
            separations=[Separation(1, 1, 0, sides)],
        )
        assert len(resolve(separated).parts) == 2

    assert_linear(work, 4_000)
