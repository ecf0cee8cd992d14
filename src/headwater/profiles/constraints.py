"""Resolves a component that breaks a separation or a maximum of values, by taking its links in their order. Pure.

Both constraints are hereditary: what holds for a set of identities holds for its subsets. So a link that is refused
once would be refused at any later time too, and the profiles that it would have united break a constraint together.
"""

from collections.abc import Callable, Iterator, Sequence

from headwater.catalog.profiles import ResolutionSettings
from headwater.profiles.components import Sets
from headwater.profiles.evidence import SAME_NAME, masks_of
from headwater.state.profiles.model import IdentityName, LinkValue, Member, RefusedEvidence, RefusedReason, Separation

Group = list[tuple[int, int]]
"""The holders of one value, by age: their numbers and masks."""


class Bounds:
    """A set of members, as far as the constraints depend on it."""

    __slots__ = ("sides", "values")

    def __init__(self, values: list[set[str]], sides: dict[int, int]) -> None:
        self.values = values
        """The different values of each limited identifier."""
        self.sides = sides
        """The side by separation."""


class Constraints:
    """The constraints on the members of one profile."""

    def __init__(self, settings: ResolutionSettings, separations: Sequence[Separation]) -> None:
        self._limits = [
            (index, identifier.max_values)
            for index, identifier in enumerate(settings.identifiers)
            if identifier.max_values is not None
        ]
        self._sides: dict[IdentityName, dict[int, int]] = {}
        for separation in separations:
            for side, names in enumerate(separation.sides):
                for name in names:
                    self._sides.setdefault(name, {})[separation.id] = side

    @property
    def are_none(self) -> bool:
        """Return whether nothing is constrained."""
        return not self._limits and not self._sides

    def bounds(self, member: Member) -> Bounds:
        """Return the bounds of the set of one member."""
        values = [set() if (value := member.evidence[index]) is None else {value} for index, _ in self._limits]
        return Bounds(values, self._sides.get(member.name, {}))

    def refusal(self, first: Bounds, second: Bounds) -> RefusedReason | None:
        """Return why two sets may not be one profile; None if they may."""
        if first.sides and second.sides and not _agree(first.sides, second.sides):
            return "Separated"
        for (_, limit), values, others in zip(self._limits, first.values, second.values, strict=True):
            if len(values) + len(others) > limit and values != others and len(values | others) > limit:
                return "TooManyValues"
        return None

    def union(self, first: Bounds, second: Bounds) -> Bounds:
        """Return the bounds of the union of two sets. It may change those of either."""
        for index, others in enumerate(second.values):
            values = first.values[index]
            if len(values) < len(others):
                values, others = others, values
            values |= others
            first.values[index] = values
        if second.sides:
            first.sides = first.sides | second.sides
        return first

    def allow(self, members: Sequence[Member]) -> bool:
        """Return whether the members may be one profile."""
        for index, limit in self._limits:
            values = {member.evidence[index] for member in members}
            if len(values) - (None in values) > limit:
                return False
        if not self._sides:
            return True
        side_by_separation: dict[int, int] = {}
        for member in members:
            for separation, side in self._sides.get(member.name, {}).items():
                if side_by_separation.setdefault(separation, side) != side:
                    return False
        return True


def _agree(sides: dict[int, int], others: dict[int, int]) -> bool:
    """Return whether no separation has two sides in these."""
    fewer, more = (sides, others) if len(sides) < len(others) else (others, sides)
    return all(more.get(separation, side) == side for separation, side in fewer.items())


def divide(
    members: Sequence[Member], over_limit: set[LinkValue], constraints: Constraints
) -> tuple[list[list[Member]], list[RefusedEvidence]]:
    """Divide a component, sorted by age, into profiles. Return them, and the evidence that was refused.

    The refused evidence is, for each value and each profile of its holders, the first refused link that it would have
    made. The cost grows with the number of identities, and at most with the square of the number of profiles that the
    holders of one value end in.
    """
    ordered = sorted(members, key=lambda member: member.identity)
    ranks = group_by_rank(ordered, over_limit)
    sets = Sets(len(ordered))
    bounds = [constraints.bounds(member) for member in ordered]

    def unite(_value: LinkValue, younger: int, older: int) -> None:
        first, second = sets.find(younger), sets.find(older)
        if first != second and constraints.refusal(bounds[first], bounds[second]) is None:
            sets.unite(first, second)
            bounds[min(first, second)] = constraints.union(bounds[first], bounds[second])

    take_in_order(ranks, sets, unite)
    found: dict[int, list[Member]] = {}
    for number, member in enumerate(ordered):
        found.setdefault(sets.find(number), []).append(member)
    refused: dict[tuple[LinkValue, int, int], RefusedEvidence] = {}
    for value, group in (item for groups in ranks for item in groups):
        for younger, older in _refused_links(group, sets):
            reason = constraints.refusal(bounds[sets.find(younger)], bounds[sets.find(older)])
            assert reason is not None, "refused once, refused later"
            first, second = ordered[younger].identity, ordered[older].identity
            refused[value, first, second] = RefusedEvidence(0, reason, value, first, second)
    return list(found.values()), list(refused.values())


def group_by_rank(members: Sequence[Member], over_limit: set[LinkValue]) -> list[list[tuple[LinkValue, Group]]]:
    """Return the groups of two or more members that one value may link, by the rank of their links: first those with
    one name, then those with one value of each identifier. A member's number is its index."""
    by_name: dict[IdentityName, Group] = {}
    by_value: dict[LinkValue, Group] = {}
    for number, member in enumerate(members):
        by_name.setdefault(member.name, []).append((number, 0))
        for value, mask in masks_of(member.evidence):
            if value not in over_limit:
                by_value.setdefault(value, []).append((number, mask))
    ranks = [[(LinkValue(SAME_NAME, name.identity_id), group) for name, group in by_name.items() if len(group) > 1]]
    ranks.extend([] for _ in (members[0].evidence if members else ()))
    for value, group in by_value.items():
        if len(group) > 1:
            ranks[value.identifier + 1].append((value, group))
    return ranks


def take_in_order(
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


def _refused_links(group: Group, sets: Sets) -> Iterator[tuple[int, int]]:
    """Yield for each set with holders the first link, by age of the younger and the older, that leads out of it."""
    leading: dict[int, dict[int, int]] = {}
    """For each mask the sets for which no link was found yet, with their oldest member."""
    oldest: dict[int, list[tuple[int, int]]] = {}
    """For each mask the oldest member with its set, and the oldest member of another set."""
    done: set[int] = set()
    for number, mask in group:
        own = sets.find(number)
        linked = [other for other in oldest if other & mask == 0]
        if own not in done:
            links = [older for other in linked for older, set_ in oldest[other] if set_ != own]
            if links:
                done.add(own)
                yield number, min(links)
        first_links: dict[int, int] = {}
        for other in linked:
            for set_, older in list(leading.get(other, {}).items()):
                if set_ in done and set_ != own:
                    del leading[other][set_]
                elif set_ != own:
                    first_links[set_] = min(older, first_links.get(set_, older))
        for set_, older in first_links.items():
            done.add(set_)
            yield number, older
        if own not in done:
            leading.setdefault(mask, {}).setdefault(own, number)
        known = oldest.setdefault(mask, [])
        if len(known) < 2 and all(set_ != own for _, set_ in known):
            known.append((number, own))
