"""Gives profiles their ids. The oldest profile survives a merge, and the part with the founder a split. Pure."""

from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from headwater.profiles.resolving import Part
from headwater.state.profiles.model import Alias, ProfileChange, ProfileRow


class Names(Struct, frozen=True):
    """The profiles of parts. Their attributes are those of before, and empty for a new profile."""

    profiles: list[ProfileRow]
    """The profile of each part, in the order of the parts."""
    removed: list[int]
    """Profiles that were merged, or have no members."""
    aliases: list[Alias]
    """Aliases that are new or point to another profile than before."""
    removed_aliases: list[bytes]
    """Aliases that are profiles again, and those of profiles without members."""
    history: list[ProfileChange]


def name(
    parts: Sequence[Part],
    profiles: Collection[ProfileRow],
    aliases: Collection[Alias],
    workspace: int,
    now: int,
    new_ids: Callable[[int], list[int]],
    new_kpid: Callable[[], bytes],
) -> Names:
    """Return the profile of each part.

    `profiles` are all those that members of the parts had, and that deleted members had; `aliases` are theirs.
    `new_ids` returns that many ascending ids that no profile ever had. It is called at most once.
    """
    raise NotImplementedError
