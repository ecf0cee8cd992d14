"""Connected components of identities, without comparing them in pairs.

The holders of one value of identifier k agree on it. A stronger identifier decides instead for those pairs of them that
both have it: the pairs whose masks have a common bit. So all holders of one mask are linked to all holders of another
mask that has no common bit, and a holder with an empty mask is linked to every other. The number of masks is at most
2 ** k, and two to four in practice.
"""

from collections.abc import Callable, Iterable, Sequence

from headwater.state.profiles.model import LinkValue, Member


class Sets:
    """Disjoint sets of the numbers from 0 to `size - 1`, in 8 bytes for each. At first each number is its own set."""

    def __init__(self, size: int) -> None:
        raise NotImplementedError

    def find(self, number: int) -> int:
        """Return the number that represents the set."""
        raise NotImplementedError

    def unite(self, first: int, second: int) -> bool:
        """Unite the sets of two numbers. Return whether they were different. The smallest number represents a set."""
        raise NotImplementedError


def unite_holders(holders: Iterable[tuple[int, int]], unite: Callable[[int, int], object]) -> None:
    """Unite the holders of one value that are linked by it. Given are their numbers and masks, in any order.

    Calls `unite` at most once for each holder and mask. The value must not be over its limit.
    """
    raise NotImplementedError


def components(members: Sequence[Member], over_limit: set[LinkValue]) -> list[list[Member]]:
    """Return the connected components of the members. Values over their limit link none.

    Each component is sorted by age, the oldest first, and so are the components by their oldest member.
    """
    raise NotImplementedError
