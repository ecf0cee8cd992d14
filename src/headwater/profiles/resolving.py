"""Resolves one region: a set of identities that no accepted or refused link leaves. Pure."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from headwater.catalog.profiles import ResolutionSettings
from headwater.profiles.components import components
from headwater.profiles.constraints import Constraints, divide
from headwater.state.profiles.model import LinkValue, Member, RefusedEvidence, Separation


class Region(Struct, frozen=True, kw_only=True):
    """Identities to resolve together. No link of a member leads out of the region."""

    workspace: int
    settings: ResolutionSettings
    members: Sequence[Member]
    """The members with their present evidence, and the profile that they had; 0 for a new member."""
    over_limit: set[LinkValue]
    """The values of members that more identities have than their limit allows."""
    separations: Sequence[Separation]
    """The separations that name members. Others do no harm."""


class Part(Struct, frozen=True):
    """The members of one profile."""

    members: list[Member]
    """Sorted by age, the oldest first."""
    is_constrained: bool
    """Whether a refused link of a member leads to another part."""


class Resolution(Struct, frozen=True):
    """The profiles of a region."""

    parts: list[Part]
    """Sorted by their oldest member."""
    refused: list[RefusedEvidence]
    """For each value that refused links have, and each profile of its holders, the first refused link. The reason is
    TooManyValues or Separated, and the time 0."""


def resolve(region: Region) -> Resolution:
    """Return the profiles of a region."""
    if len(region.members) == 1:
        return Resolution([Part(list(region.members), False)], [])
    constraints = Constraints(region.settings, region.separations)
    parts: list[Part] = []
    refused: list[RefusedEvidence] = []
    for component in components(region.members, region.over_limit):
        if len(component) == 1 or constraints.are_none or constraints.allow(component):
            parts.append(Part(component, False))
            continue
        divided, refusals = divide(component, region.over_limit, constraints)
        ends = {end for refusal in refusals for end in (refusal.identity, refusal.other)}
        parts.extend(Part(members, any(member.identity in ends for member in members)) for members in divided)
        refused.extend(replace(refusal, workspace=region.workspace) for refusal in refusals)
    parts.sort(key=lambda part: part.members[0].identity)
    return Resolution(parts, refused)
