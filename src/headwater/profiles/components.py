"""Connected components of identities, without comparing them in pairs.

The holders of one value of identifier k agree on it. A stronger identifier decides instead for those pairs of them that
both have it: the pairs whose masks have a common bit. So all holders of one mask are linked to all holders of another
mask that has no common bit, and a holder with an empty mask is linked to every other. The number of masks is at most
2 ** k, and two to four in practice.
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Self

from headwater.profiles.evidence import compute_masks
from headwater.state.profiles.model import IdentityName, LinkValue, Member


class Sets:
    """Disjoint sets of the numbers from 0 to `size - 1`, in 4 bytes for each. At first each number is its own set."""

    def __init__(self, size: int) -> None:
        self._parents = array("i", range(size))

    @classmethod
    def of(cls, representatives: "array[int]") -> Self:
        """Return sets of numbers with these representatives, each of which represents itself."""
        sets = cls(0)
        sets._parents = representatives[:]
        return sets

    def find(self, number: int) -> int:
        """Return the number that represents the set."""
        parents = self._parents
        while (parent := parents[number]) != number:
            parents[number] = number = parents[parent]
        return number

    def unite(self, first: int, second: int) -> bool:
        """Unite the sets of two numbers. Return whether they were different. The smaller one then represents both."""
        first, second = self.find(first), self.find(second)
        if first == second:
            return False
        if first < second:
            self._parents[second] = first
        else:
            self._parents[first] = second
        return True

    def attach(self, root: int, other: int) -> None:
        """Unite the sets of two different representatives. The second represents both."""
        self._parents[root] = other


def unite_holders(holders: Sequence[tuple[int, int]], unite: Callable[[int, int], object]) -> None:
    """Unite the holders of one value that are linked by it. Given are their numbers and masks, in any order.

    Calls `unite` at most once for each holder and mask. The value must not be over its limit.
    """
    if len(holders) == 2:
        (first, mask), (second, other_mask) = holders
        if not mask & other_mask:
            unite(first, second)
        return
    by_mask: dict[int, list[int]] = {}
    for number, mask in holders:
        by_mask.setdefault(mask, []).append(number)
    if 0 in by_mask:
        hub = by_mask[0][0]
        for numbers in by_mask.values():
            for number in numbers:
                unite(hub, number)
        return
    united: set[int] = set()
    for first, second in combinations(by_mask, 2):
        if first & second:
            continue
        hub, other = by_mask[first][0], by_mask[second][0]
        unite(hub, other)
        for mask in (first, second):
            if mask not in united:
                united.add(mask)
                for number in by_mask[mask]:
                    unite(hub, number)


def components(members: Sequence[Member], over_limit: set[LinkValue]) -> list[list[Member]]:
    """Return the connected components of the members. Values over their limit link none.

    Each component is sorted by age, the oldest first, and so are the components by their oldest member.
    """
    ordered = sorted(members, key=_age)
    sets = Sets(len(ordered))
    first_by_name: dict[IdentityName, int] = {}
    holders: dict[LinkValue, list[tuple[int, int]]] = {}
    for number, member in enumerate(ordered):
        first = first_by_name.setdefault(member.name, number)
        if first != number:
            sets.unite(first, number)
        for value, mask in compute_masks(member.evidence):
            holders.setdefault(value, []).append((number, mask))
    for value, group in holders.items():
        if len(group) > 1 and value not in over_limit:
            unite_holders(group, sets.unite)
    found: dict[int, list[Member]] = {}
    for number, member in enumerate(ordered):
        found.setdefault(sets.find(number), []).append(member)
    return list(found.values())


def _age(member: Member) -> int:
    return member.identity
