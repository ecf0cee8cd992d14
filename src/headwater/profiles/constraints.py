"""Resolves a component that breaks a separation or a maximum of values, by taking its links in their order. Pure.

Both constraints are hereditary: what holds for a set of identities holds for its subsets. So a link that is refused
once would be refused at any later time too, and the profiles that it would have united break a constraint together.
"""

from collections.abc import Iterable, Iterator, Sequence

from headwater.catalog.profiles import ResolutionSettings
from headwater.profiles.components import Sets
from headwater.profiles.evidence import SAME_NAME, compute_masks, storable
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
        self.limits = [limit for _, limit in self._limits]
        """The maximum number of values of each limited identifier."""
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
    """Divide a component into profiles. Return them, and the evidence that was refused.

    The refused evidence is, for each value and each profile of its holders, the first refused link that it would have
    made.
    """
    ordered = sorted(members, key=lambda member: member.identity)
    ranks = group_by_rank(ordered, over_limit)
    division = _Division(ordered, constraints)
    for groups in ranks:
        division.take([group for _, group in groups])
    sets, bounds = division.sets, division.bounds
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


class _Holders:
    """The sets that have holders of one value with one mask, so far."""

    __slots__ = ("oldest", "open")

    def __init__(self, limits: int) -> None:
        self.oldest: dict[int, int] = {}
        """The oldest holder of each set."""
        self.open: list[set[int]] = [set() for _ in range(limits)]
        """For each limited identifier the sets that may have more values of it."""


class _Division:
    """Takes links in their order, by the age of the younger member and then of the older one.

    Of two holders of one value that were linked before, the sets are the same or were refused. So a younger member
    tries each set once, and none that its own set met in that group before. Sets that have all values that they may
    have are tried only if they have one of the younger member's set.
    """

    def __init__(self, members: Sequence[Member], constraints: Constraints) -> None:
        self._constraints = constraints
        self.sets = Sets(len(members))
        self.bounds = [constraints.bounds(member) for member in members]
        self._with_value: list[dict[str, set[int]]] = [{} for _ in constraints.limits]
        """For each limited identifier the sets that have a value."""
        for number, bounds in enumerate(self.bounds):
            for sets, values in zip(self._with_value, bounds.values, strict=True):
                for value in values:
                    sets.setdefault(value, set()).add(number)
        self._places: dict[int, list[_Holders]] = {}
        """For each set the holders among which it is."""

    def take(self, groups: Sequence[Group]) -> None:
        """Take the links of one rank."""
        self._places = {}
        holders: list[dict[int, _Holders]] = [{} for _ in groups]
        by_age = sorted((number, index, mask) for index, group in enumerate(groups) for number, mask in group)
        for number, index, mask in by_age:
            by_mask = holders[index]
            self._link(number, mask, by_mask)
            if mask not in by_mask:
                by_mask[mask] = _Holders(len(self._with_value))
            self._place(self.sets.find(number), number, by_mask[mask])

    def _link(self, number: int, mask: int, by_mask: dict[int, _Holders]) -> None:
        """Take the links of a member to the older holders."""
        last = -1
        while (older := self._unite_first(number, self._candidates(number, mask, by_mask, last))) is not None:
            last = older

    def _unite_first(self, number: int, candidates: Iterable[int]) -> int | None:
        """Unite the set of a member with that of the first candidate that may be in it, and return the candidate."""
        root = self.sets.find(number)
        bounds = self.bounds[root]
        for older in candidates:
            other = self.sets.find(older)
            if other != root and self._constraints.refusal(bounds, self.bounds[other]) is None:
                self._unite(root, other)
                return older
        return None

    def _candidates(self, number: int, mask: int, by_mask: dict[int, _Holders], last: int) -> list[int]:
        """Return the oldest members of other sets that a member is linked to and that may accept it, if they are
        younger than the last one that was tried."""
        root = self.sets.find(number)
        met = [other for other, holders in by_mask.items() if root in holders.oldest]
        candidates: list[int] = []
        for other, holders in by_mask.items():
            if other & mask == 0 and all(own & other for own in met):
                candidates.extend(older for older in self._accepting(root, holders) if older > last)
        candidates.sort()
        return candidates

    def _accepting(self, root: int, holders: _Holders) -> Iterable[int]:
        fewest: list[set[int]] = []
        count = len(holders.oldest)
        for index, values in enumerate(self.bounds[root].values):
            if values:
                sets = [holders.open[index], *(self._with_value[index][value] for value in values)]
                size = sum(map(len, sets))
                if size < count:
                    fewest, count = sets, size
        if not fewest:
            return holders.oldest.values()
        return [holders.oldest[other] for other in set().union(*fewest) if other in holders.oldest]

    def _unite(self, first: int, second: int) -> None:
        more, fewer = first, second
        if len(self._places.get(more, ())) < len(self._places.get(fewer, ())):
            more, fewer = fewer, more
        were_open = self._open(more)
        for sets, values in zip(self._with_value, self.bounds[fewer].values, strict=True):
            for value in values:
                sets[value].discard(fewer)
                sets[value].add(more)
        self.bounds[more] = self._constraints.union(self.bounds[more], self.bounds[fewer])
        self.sets.attach(fewer, more)
        are_open = self._open(more)
        if were_open != are_open:
            for holders in self._places.get(more, ()):
                for index, is_open in enumerate(are_open):
                    if not is_open:
                        holders.open[index].discard(more)
        for holders in self._places.pop(fewer, ()):
            for open in holders.open:
                open.discard(fewer)
            self._place(more, holders.oldest.pop(fewer), holders)

    def _place(self, root: int, number: int, holders: _Holders) -> None:
        """Note that a set has a member among the holders."""
        if root in holders.oldest:
            holders.oldest[root] = min(number, holders.oldest[root])
            return
        holders.oldest[root] = number
        self._places.setdefault(root, []).append(holders)
        for index, is_open in enumerate(self._open(root)):
            if is_open:
                holders.open[index].add(root)

    def _open(self, root: int) -> list[bool]:
        """Return for each limited identifier whether the set may have more values of it."""
        return [
            len(values) < limit
            for values, limit in zip(self.bounds[root].values, self._constraints.limits, strict=True)
        ]


def group_by_rank(members: Sequence[Member], over_limit: set[LinkValue]) -> list[list[tuple[LinkValue, Group]]]:
    """Return the groups of two or more members that one value may link, by the rank of their links: first those with
    one name, then those with one value of each identifier. A member's number is its index."""
    by_name: dict[IdentityName, Group] = {}
    by_value: dict[LinkValue, Group] = {}
    for number, member in enumerate(members):
        by_name.setdefault(member.name, []).append((number, 0))
        for value, mask in compute_masks(member.evidence):
            if value not in over_limit:
                by_value.setdefault(value, []).append((number, mask))
    ranks = [
        [(LinkValue(SAME_NAME, storable(name.identity_id)), group) for name, group in by_name.items() if len(group) > 1]
    ]
    ranks.extend([] for _ in (members[0].evidence if members else ()))
    for value, group in by_value.items():
        if len(group) > 1:
            ranks[value.identifier + 1].append((value, group))
    return ranks


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
