"""Resolves a component that breaks a separation or a maximum of values, by taking its links in their order. Pure."""

from collections.abc import Sequence

from headwater.catalog.profiles import ResolutionSettings
from headwater.state.profiles.model import LinkValue, Member, RefusedEvidence, Separation


class Constraints:
    """The constraints on the members of one profile."""

    def __init__(self, settings: ResolutionSettings, separations: Sequence[Separation]) -> None:
        raise NotImplementedError

    def allow(self, members: Sequence[Member]) -> bool:
        """Return whether the members may be one profile."""
        raise NotImplementedError


def divide(
    members: Sequence[Member], over_limit: set[LinkValue], constraints: Constraints
) -> tuple[list[list[Member]], list[RefusedEvidence]]:
    """Divide a component into profiles. Return them, and the evidence that was refused.

    The cost grows with the number of identities, and at most with the square of the number of profiles that the holders
    of one value end in.
    """
    raise NotImplementedError
