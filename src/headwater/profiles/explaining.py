"""Explains a profile: the links that hold it together, and the evidence that was refused. Pure."""

from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import Struct

from headwater.profiles.components import Sets
from headwater.profiles.constraints import Group, group_by_rank
from headwater.state.profiles.model import LinkValue, Member, RefusedEvidence


class Step(Struct, frozen=True):
    """A link between two identities."""

    identity: int
    other: int
    value: LinkValue
    """The value that links them. Its identifier is `SAME_NAME` if they are the same user of one connection."""


def spanning_tree(members: Sequence[Member], over_limit: set[LinkValue]) -> list[Step]:
    """Return the links that united the members of one profile, in their order: one less than there are members.

    The identity of a step is the younger one.
    """
    ordered = _by_age(members)
    sets = Sets(len(ordered))
    steps: list[Step] = []

    def unite(value: LinkValue, younger: int, older: int) -> None:
        if sets.unite(younger, older):
            steps.append(Step(ordered[younger].identity, ordered[older].identity, value))

    _take_in_order(group_by_rank(ordered, over_limit), sets, unite)
    return steps


def shortest_chain(members: Sequence[Member], over_limit: set[LinkValue], first: int, last: int) -> list[Step] | None:
    """Return the shortest chain of links between two members, from the first to the last.

    Each identity of the chain is reached by the strongest link, from the oldest identity, that makes a shortest chain.
    The chain is empty if the members are the same, and None if no chain connects them.
    """
    search = _Search(_by_age(members), over_limit)
    return search.chain(first, last)


def concerning(members: Sequence[Member], refused: Collection[RefusedEvidence]) -> list[RefusedEvidence]:
    """Return the refused evidence of a profile with these members, by reason, value and identity.

    A value that is refused for all identities concerns the profile if a member has it. Blocked values are no evidence
    of members, so they are not among it.
    """
    identities = {member.identity for member in members}
    values = {
        LinkValue(index, value)
        for member in members
        for index, value in enumerate(member.evidence)
        if value is not None
    }
    found = [
        one
        for one in refused
        if (one.value in values if one.identity == 0 else one.identity in identities or one.other in identities)
    ]
    return sorted(found, key=lambda one: (one.reason, one.value.identifier, one.value.value, one.identity, one.other))


def _by_age(members: Sequence[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.identity)


class _Search:
    """A search in breadth. Each group gives up the members of a mask once they are reached, so it is linear."""

    def __init__(self, members: Sequence[Member], over_limit: set[LinkValue]) -> None:
        self._members = members
        self._numbers = {member.identity: number for number, member in enumerate(members)}
        self._ranks: list[dict[int, tuple[LinkValue, int, dict[int, list[int]]]]] = []
        """For each rank and member: the value of its group, its mask, and the members by mask that remain."""
        for groups in group_by_rank(members, over_limit):
            by_member: dict[int, tuple[LinkValue, int, dict[int, list[int]]]] = {}
            for value, group in groups:
                remaining: dict[int, list[int]] = {}
                for number, mask in group:
                    remaining.setdefault(mask, []).append(number)
                    by_member[number] = value, mask, remaining
            self._ranks.append(by_member)
        self._reached_from: dict[int, tuple[int, LinkValue]] = {}

    def chain(self, first: int, last: int) -> list[Step] | None:
        if first not in self._numbers or last not in self._numbers:
            return None
        start, end = self._numbers[first], self._numbers[last]
        self._reached_from[end] = end, LinkValue(0, "")
        level = [end]
        while level and start not in self._reached_from:
            level = sorted(self._reach(level))
        return list(self._steps(start, end)) if start in self._reached_from else None

    def _reach(self, level: list[int]) -> Iterator[int]:
        for by_member in self._ranks:
            for number in level:
                if number not in by_member:
                    continue
                value, mask, remaining = by_member[number]
                for other in [other for other in remaining if other & mask == 0]:
                    for neighbour in remaining.pop(other):
                        if neighbour not in self._reached_from:
                            self._reached_from[neighbour] = number, value
                            yield neighbour

    def _steps(self, start: int, end: int) -> Iterator[Step]:
        """Follow the search, which began at the end, back from the start."""
        here = start
        while here != end:
            towards_end, value = self._reached_from[here]
            yield Step(self._members[here].identity, self._members[towards_end].identity, value)
            here = towards_end


def _take_in_order(
    ranks: Sequence[Sequence[tuple[LinkValue, Group]]], sets: Sets, unite: Callable[[LinkValue, int, int], object]
) -> None:
    """Call `unite` with the value, the younger and the older member of links, in the order of links.

    Left out are links to members whose set a link of the same younger member came to before: they are in one set then,
    or were refused. `unite` unites the two sets in `sets`, or does not.
    """
    for groups in ranks:
        younger_first = sorted(
            (number, index, mask) for index, (_, group) in enumerate(groups) for number, mask in group
        )
        older_by_group: list[dict[int, list[int]]] = [{} for _ in groups]
        for number, index, mask in younger_first:
            older_by_mask = older_by_group[index]
            for older in _candidates(older_by_mask, mask, sets):
                unite(groups[index][0], number, older)
            older_by_mask.setdefault(mask, []).append(number)


def _candidates(older_by_mask: dict[int, list[int]], mask: int, sets: Sets) -> list[int]:
    """Return the oldest member of each set among those that are linked to one with this mask, by age.

    Later members of a set are dropped: its oldest member stands for them, now and later.
    """
    candidates: list[int] = []
    for other, numbers in older_by_mask.items():
        if other & mask == 0:
            if len(numbers) > 1:
                oldest: dict[int, int] = {}
                for number in numbers:
                    oldest.setdefault(sets.find(number), number)
                if len(oldest) < len(numbers):
                    numbers[:] = oldest.values()
            candidates.extend(numbers)
    candidates.sort()
    return candidates
