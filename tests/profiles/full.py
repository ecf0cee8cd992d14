"""A full resolution in memory, by the pure functions alone."""

from collections import Counter
from collections.abc import Callable

from msgspec.structs import replace

from headwater.profiles.evidence import compute_masks, make_links
from headwater.profiles.naming import name_parts
from headwater.profiles.resolving import Region, resolve
from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import LinkValue, Member, RefusedEvidence
from tests.profiles.memory import MemoryRows


def resolve_all(rows: MemoryRows, context: ResolutionContext, now: int, new_kpid: Callable[[], bytes]) -> None:
    """Resolve all identities together, and replace every row of profiles."""
    members: list[Member] = []
    for row in rows.identity_rows.values():
        known = rows.member_rows.get(row.id)
        evidence = context.reader.read(row.attributes)
        members.append(Member(row.id, row.name, evidence, 0 if known is None else known.profile))
    counts = Counter(value for member in members for value, _ in compute_masks(member.evidence))
    limits = [identifier.max_identities for identifier in context.settings.identifiers]
    over = {value for value, count in counts.items() if count > limits[value.identifier]}
    separations = list(rows.separation_rows.values())
    region = Region(workspace=1, settings=context.settings, members=members, over_limit=over, separations=separations)
    resolution = resolve(region)
    names = name_parts(
        resolution.parts,
        list(rows.profile_rows.values()),
        list(rows.alias_rows.values()),
        1,
        now,
        rows.new_profile_ids,
        new_kpid,
    )
    rows.member_rows, rows.profile_rows, rows.links = {}, {}, {}
    for part, profile in zip(resolution.parts, names.profiles, strict=True):
        for member in part.members:
            rows.member_rows[member.identity] = replace(member, profile=profile.id)
            for link in make_links(member.identity, member.evidence):
                rows.links.setdefault(link.value, {})[link.identity] = link.mask
        attributes, updated_at = context.merger.merge([rows.identity_rows[member.identity] for member in part.members])
        rows.profile_rows[profile.id] = replace(profile, attributes=attributes, updated_at=updated_at)
    for kpid in names.removed_aliases:
        del rows.alias_rows[kpid]
    for alias in names.aliases:
        rows.alias_rows[alias.kpid] = alias
    rows.history.extend(names.history)
    refused = {*resolution.refused, *(_over_limit(value) for value in over)}
    for row in rows.identity_rows.values():
        refused.update(RefusedEvidence(1, "BlockedValue", value, 0) for value in context.reader.blocked(row.attributes))
    rows.refused_rows = {one: rows.refused_rows.get(one, now) for one in refused}


def _over_limit(value: LinkValue) -> RefusedEvidence:
    return RefusedEvidence(1, "TooManyIdentities", value, 0)
