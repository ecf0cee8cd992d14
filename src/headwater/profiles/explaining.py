"""Explains a profile: the links that hold it together, and the evidence that was refused. Pure."""

from collections.abc import Collection, Sequence

from msgspec import Struct

from headwater.state.profiles.model import LinkValue, Member, RefusedEvidence


class Step(Struct, frozen=True):
    """A link between two identities."""

    identity: int
    other: int
    value: LinkValue
    """The value that links them. Its identifier is `SAME_NAME` if they are the same user of one connection."""


def spanning_tree(members: Sequence[Member], over_limit: set[LinkValue]) -> list[Step]:
    """Return the links that united the members of one profile, in their order: one less than there are members."""
    raise NotImplementedError


def shortest_chain(members: Sequence[Member], over_limit: set[LinkValue], first: int, last: int) -> list[Step] | None:
    """Return the shortest chain of links between two members, stronger links first among equally short ones.

    It is empty if the members are the same, and None if no chain connects them.
    """
    raise NotImplementedError


def concerning(members: Sequence[Member], refused: Collection[RefusedEvidence]) -> list[RefusedEvidence]:
    """Return the refused evidence of a profile with these members, by reason, value and identity."""
    raise NotImplementedError
