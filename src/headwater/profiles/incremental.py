"""Resolves the identities that a batch changed, in the transaction of the batch. The result is that of a full
resolution."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final
from uuid import uuid4

from msgspec.structs import replace

from headwater.profiles.changes import EvidenceChange, collapse_changes, read_row
from headwater.profiles.evidence import compute_masks
from headwater.profiles.naming import Names, name_parts
from headwater.profiles.resolving import Region, Resolution, resolve
from headwater.profiles.rows import Guards, ResolvedRows, Rows, read_near
from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import (
    ChangedIdentity,
    IdentityName,
    Link,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    Separation,
    no_changes,
)

MAX_REGION_IDENTITIES: Final = 10_000
"""Default maximum number of identities of a region that a batch resolves. A larger one is postponed, because a batch
would take longer than 100 ms."""
PROFILES_PER_READ: Final = 100
"""Number of profiles that are read before the size of the region is checked again."""


def resolve_changes(
    rows: ResolvedRows,
    context: ResolutionContext,
    changed: Sequence[ChangedIdentity],
    now: int,
    *,
    limit: int | None = MAX_REGION_IDENTITIES,
    guards: Guards | None = None,
    new_kpid: Callable[[], bytes] = lambda: uuid4().bytes,
) -> list[int]:
    """Resolve the changed identities of one workspace. Several changes of an identity take effect together.

    `guards` is what `Rows.guards` returns, if the caller has read it.
    Returns the identities whose region exceeds the limit. Nothing is written for them, as if they had not changed, and
    the caller adds them to the unresolved identities. None is no limit.
    """
    pending = collapse_changes(changed)
    postponed: list[int] = []
    while pending:
        batch = _Batch(read_near(rows, context, pending.values()), context, now, limit, guards)
        try:
            batch.take(pending.values())
            batch.read()
        except _TooLarge as error:
            for identity in [
                id for id, change in pending.items() if id in error.identities or change.successor in error.identities
            ]:
                postponed.append(identity)
                del pending[identity]
            continue
        batch.write(new_kpid)
        break
    return sorted(postponed)


def resolve_again(
    rows: Rows,
    context: ResolutionContext,
    identities: Collection[int],
    now: int,
    *,
    new_kpid: Callable[[], bytes] = lambda: uuid4().bytes,
) -> None:
    """Resolve the profiles of these members after a separation that names them was written or deleted."""
    batch = _Batch(rows, context, now, None)
    for member in rows.members(identities):
        batch.add_seed(member.profile, set())
    batch.read()
    batch.write(new_kpid)


class _TooLarge(Exception):
    """The region of these changed identities exceeds the limit."""

    def __init__(self, identities: set[int]) -> None:
        super().__init__()
        self.identities = identities


class _Batch:
    """One resolution. It reads the closed region of all changes together, and writes what differs."""

    def __init__(
        self, rows: Rows, context: ResolutionContext, now: int, limit: int | None, guards: Guards | None = None
    ) -> None:
        self._rows = rows
        self._context = context
        self._workspace = context.workspace
        self._now = now
        self._limit = limit
        self._has_separations, self._has_refused = guards or rows.guards(context.workspace)
        self._seeds: set[int] = set()
        """The profiles to resolve."""
        self._causes: dict[int, set[int]] = {}
        """The changed identities because of which a profile is read."""
        self._own: dict[int, int] = {}
        """The profile of each changed identity before the batch."""
        self._latest: dict[int, ChangedIdentity] = {}
        self._successors: dict[int, int] = {}
        """The identities that take the places of deleted members."""
        self._changes: list[EvidenceChange] = []
        self._touched: dict[LinkValue, list[EvidenceChange]] = {}
        self._over: set[LinkValue] = set()
        """The values that are over their limit after the batch."""
        self._known_over: dict[LinkValue, RefusedEvidence] = {}
        """The values whose links change and that were over their limit before the batch."""
        self._refreshed: set[int] = set()
        """The profiles whose attributes may change, whether or not they are resolved."""
        self._profiles: dict[int, ProfileRow] = {}
        self._members: dict[int, list[Member]] = {}
        """The members of each profile that was read, before the batch."""

    # --- Reading --------------------------------------------------------------------------------------------------

    def take(self, changed: Collection[ChangedIdentity]) -> None:
        """Find the profiles that the changes affect."""
        before = {member.identity: member for member in self._members_of_identities(changed)}
        for identity in changed:
            self._take_one(identity, before.get(identity.id))
        for change in self._changes:
            for value in change.touched:
                self._touched.setdefault(value, []).append(change)
        holders = self._read_touched()
        wanted: dict[int, set[int]] = {}
        """The causes by identity."""
        for value, changes in self._touched.items():
            causes = {change.identity.id for change in changes}
            for holder in self._affected_holders(value, changes, holders.get(value, [])):
                wanted.setdefault(holder, set()).update(causes)
        new = [change.identity for change in self._changes if change.before is None]
        if new:
            peers = self._rows.identities_named({identity.name for identity in new})
            for identity in new:
                for peer in peers.get(identity.name, ()):
                    wanted.setdefault(peer, set()).add(identity.id)
        changed_ids = {change.identity.id for change in self._changes}  # their profiles are seeds
        self._add_successors(changed_ids)
        wanted = {identity: causes for identity, causes in wanted.items() if identity not in changed_ids}
        if wanted:
            for member in self._rows.members(wanted):
                self.add_seed(member.profile, wanted[member.identity])

    def _add_successors(self, changed: Collection[int]) -> None:
        """Resolve the profiles of the successors of deleted members too."""
        causes: dict[int, set[int]] = {}
        for identity, successor in self._successors.items():
            if successor not in changed:
                causes.setdefault(successor, set()).add(identity)
        if not causes:
            return
        for member in self._rows.members(causes):
            self.add_seed(member.profile, causes.pop(member.identity))
        if causes and self._limit is not None:  # they wait for a resolution, in no profile yet
            raise _TooLarge({identity for identities in causes.values() for identity in identities})

    def _members_of_identities(self, changed: Collection[ChangedIdentity]) -> list[Member]:
        known = [identity.id for identity in changed if not identity.is_new]
        return self._rows.members(known) if known else []

    def _take_one(self, identity: ChangedIdentity, before: Member | None) -> None:
        if identity.attributes is None:
            if before is None:
                return
            after = None
            if identity.successor:
                self._successors[identity.id] = identity.successor
        elif before is None or identity.attributes_changed:
            after = self._context.reader.read(identity.attributes)
        else:
            after = before.evidence
        self._latest[identity.id] = identity
        if before is not None and before.evidence == after:
            self._refreshed.add(before.profile)
            self._causes.setdefault(before.profile, set()).add(identity.id)
            return
        old = {} if before is None else dict(compute_masks(before.evidence))
        new = {} if after is None else dict(compute_masks(after))
        self._changes.append(EvidenceChange(identity, before, after, old, new))
        if before is not None:
            self._own[identity.id] = before.profile
            self.add_seed(before.profile, {identity.id})

    def add_seed(self, profile: int, causes: set[int]) -> None:
        """Resolve a profile because of these changed identities."""
        self._seeds.add(profile)
        self._causes.setdefault(profile, set()).update(causes)

    def _read_touched(self) -> dict[LinkValue, list[tuple[int, int]]]:
        """Return the holders before the batch of the values whose links change, and decide which are over their limit.

        A value that stays over its limit is not read.
        """
        if not self._touched:
            return {}
        if self._has_refused:
            self._known_over = {one.value: one for one in self._rows.refused(self._workspace, (), self._touched)}
        removals: dict[LinkValue, int] = {}
        additions: dict[LinkValue, int] = {}
        by_limit: dict[int, list[LinkValue]] = {}
        for value, changes in self._touched.items():
            removed = added = 0
            for change in changes:
                if value not in change.new:
                    removed += 1
                elif value not in change.old:
                    added += 1
            removals[value], additions[value] = removed, added
            if not removed and value in self._known_over:
                self._over.add(value)
            else:
                by_limit.setdefault(self._max_identities(value), []).append(value)
        holders: dict[LinkValue, list[tuple[int, int]]] = {}
        too_large: set[int] = set()
        for maximum, values in by_limit.items():
            is_capped = self._limit is not None and self._limit < maximum
            limit = min(maximum, maximum if self._limit is None else self._limit) + max(
                removals[value] for value in values
            )
            read = self._rows.holders(self._workspace, values, limit)
            for value in values:
                group = read.get(value, [])
                if len(group) - removals[value] + additions[value] > maximum:
                    self._over.add(value)
                if is_capped and len(group) > limit:
                    too_large.update(change.identity.id for change in self._touched[value])
            holders.update(read)
        if too_large:
            raise _TooLarge(too_large)
        return holders

    def _max_identities(self, value: LinkValue) -> int:
        return self._context.settings.identifiers[value.identifier].max_identities

    def _affected_holders(
        self, value: LinkValue, changes: list[EvidenceChange], holders: list[tuple[int, int]]
    ) -> Iterable[int]:
        """Return holders of the value whose profiles, with those that follow from guards, have all holders whose links
        change."""
        was_over, is_over = len(holders) > self._max_identities(value), value in self._over
        if was_over and is_over:
            return ()
        hub = next((identity for identity, mask in holders if not mask and identity not in self._latest), None)
        if was_over != is_over:
            return [identity for identity, _ in holders]
        if hub is not None:  # it is linked to all others
            return (hub,)
        masks = {masks[value] for change in changes for masks in (change.old, change.new) if value in masks}
        return [identity for identity, mask in holders if any(mask & other == 0 for other in masks)]

    def read(self) -> None:
        """Read the affected profiles, and those to which their refused links lead, until none is missing."""
        self._read_profiles(self._seeds | self._refreshed)
        self._check_size(self._seeds)
        followed: set[int] = set()
        while leading := {id for id in self._seeds if id not in followed and self._profiles[id].is_constrained}:
            followed |= leading
            self._read_profiles(self._follow(leading))
            self._check_size(self._seeds)

    def _read_profiles(self, ids: set[int]) -> None:
        missing = ids - self._members.keys()
        if self._limit is not None and len(missing) > PROFILES_PER_READ:
            ordered = sorted(missing)
            for start in range(0, len(ordered), PROFILES_PER_READ):
                self._read_profiles(set(ordered[start : start + PROFILES_PER_READ]))
                self._check_size(self._seeds)
            return
        if not missing:
            return
        self._members.update((id, []) for id in missing)
        for member in self._rows.find_members(missing, self._limit):
            self._members[member.profile].append(member)
        if self._limit is not None:
            large = [id for id in missing if len(self._members[id]) > self._limit]
            if large:
                raise _TooLarge({identity for id in large for identity in self._causes[id]})
        for profile in self._rows.profiles(missing):
            self._profiles[profile.id] = profile

    def _follow(self, profiles: set[int]) -> set[int]:
        """Add the profiles of all identities that are linked to members of these to the seeds. Return them."""
        names: dict[IdentityName, set[int]] = {}
        masks: dict[LinkValue, dict[int, set[int]]] = {}
        """The causes by value and mask."""
        for id in profiles:
            causes = self._causes[id]
            for member in self._members[id]:
                names.setdefault(member.name, set()).update(causes)
                for value, mask in compute_masks(member.evidence):
                    masks.setdefault(value, {}).setdefault(mask, set()).update(causes)
        wanted: dict[int, set[int]] = {}
        for name, identities in self._rows.identities_named(names).items():
            for identity in identities:
                wanted.setdefault(identity, set()).update(names[name])
        over: set[LinkValue] = set()
        if self._has_refused:
            over = {refused.value for refused in self._rows.refused(self._workspace, (), masks)}
        values = [value for value in masks if value not in over]
        by_limit: dict[int, list[LinkValue]] = {}
        for value in values:
            by_limit.setdefault(self._max_identities(value), []).append(value)
        for maximum, some in by_limit.items():
            limit = maximum if self._limit is None else min(maximum, self._limit)
            for value, holders in self._rows.holders(self._workspace, some, limit).items():
                if len(holders) > limit:
                    raise _TooLarge(set().union(*masks[value].values()))
                for identity, mask in holders:
                    for other, causes in masks[value].items():
                        if mask & other == 0:
                            wanted.setdefault(identity, set()).update(causes)
        known = {member.identity: id for id, members in self._members.items() for member in members}
        reached: set[int] = set()
        for identity in wanted.keys() & known.keys():
            self.add_seed(known[identity], wanted[identity])
        unknown = wanted.keys() - known.keys()
        for member in self._rows.members(unknown) if unknown else ():
            self.add_seed(member.profile, wanted[member.identity])
            reached.add(member.profile)
        return reached

    def _check_size(self, profiles: set[int]) -> None:
        """Raise _TooLarge if a changed identity is the cause of reading too many members of other profiles."""
        if self._limit is None or sum(len(self._members.get(id, ())) for id in profiles) <= self._limit:
            return
        read = Counter[int]()
        for id in profiles:
            for cause in self._causes[id]:
                if self._own.get(cause) != id:
                    read[cause] += len(self._members.get(id, ()))
        large = {cause for cause, count in read.items() if count > self._limit}
        if large:
            raise _TooLarge(large)

    # --- Writing --------------------------------------------------------------------------------------------------

    def write(self, new_kpid: Callable[[], bytes]) -> None:
        """Resolve the region and write what differs."""
        before = {member.identity: member for id in self._seeds for member in self._members[id]}
        after = dict(before)
        for change in self._changes:
            if change.after is None:
                del after[change.identity.id]
            else:
                profile = 0 if change.before is None else change.before.profile
                identity = change.identity
                after[identity.id] = Member(identity.id, identity.name, change.after, profile)
        members = list(after.values())
        refused_before, over = self._read_refused(before, members)
        separations: list[Separation] = []
        if self._has_separations and len(members) > 1:
            separations = self._rows.separations(self._workspace, {member.name for member in members})
        resolution = resolve(
            Region(
                workspace=self._workspace,
                settings=self._context.settings,
                members=members,
                over_limit=over,
                separations=separations,
            )
        )
        profiles = [self._profiles[id] for id in sorted(self._seeds)]
        aliases = self._rows.aliases(self._seeds) if self._is_regrouped(resolution) else []
        names = name_parts(
            resolution.parts,
            profiles,
            aliases,
            self._workspace,
            self._now,
            self._rows.new_profile_ids,
            new_kpid,
            successors=self._successors,
        )
        changes = no_changes(self._workspace)
        changes.removed_profiles.extend(names.removed)
        changes.aliases.extend(names.aliases)
        changes.removed_aliases.extend(names.removed_aliases)
        changes.history.extend(names.history)
        self._write_members(changes, before, resolution, names)
        self._write_profiles(changes, resolution, names)
        self._write_links(changes)
        self._write_refused(changes, refused_before, resolution)
        if not changes.are_none:
            self._rows.write(changes, self._profiles)

    def _read_refused(
        self, before: Collection[int], members: list[Member]
    ) -> tuple[list[RefusedEvidence], set[LinkValue]]:
        """Return the refused links of the region before, and the values over their limit that several members have."""
        if not self._has_refused:
            return [], self._over
        counts = Counter(value for member in members for value, _ in compute_masks(member.evidence))
        shared = [value for value, count in counts.items() if count > 1 and value not in self._touched]
        constrained = any(self._profiles[id].is_constrained for id in self._seeds)
        if not shared and not constrained:
            return [], self._over
        refused = self._rows.refused(self._workspace, before if constrained else (), shared)
        over = {one.value for one in refused if one.reason == "TooManyIdentities"}
        return [one for one in refused if one.reason != "TooManyIdentities"], over | self._over

    def _is_regrouped(self, resolution: Resolution) -> bool:
        """Return whether profiles merge, split or disappear, or founders have successors, so that aliases may
        change."""
        if self._successors:
            return True
        part_by_profile: dict[int, int] = {}
        for index, part in enumerate(resolution.parts):
            profiles = {member.profile for member in part.members if member.profile}
            if len(profiles) > 1 or any(profile in part_by_profile for profile in profiles):
                return True
            part_by_profile.update((profile, index) for profile in profiles)
        return len(part_by_profile) < len(self._seeds)

    def _write_members(
        self, changes: ProfileChanges, before: dict[int, Member], resolution: Resolution, names: Names
    ) -> None:
        for part, profile in zip(resolution.parts, names.profiles, strict=True):
            for member in part.members:
                if member.profile != profile.id:
                    member = replace(member, profile=profile.id)
                if before.get(member.identity) != member:
                    changes.members.append(member)
        changes.removed_members.extend(change.identity.id for change in self._changes if change.after is None)

    def _write_profiles(self, changes: ProfileChanges, resolution: Resolution, names: Names) -> None:
        refreshed: list[tuple[ProfileRow, list[Member]]] = []
        for part, profile in zip(resolution.parts, names.profiles, strict=True):
            old = self._members.get(profile.id, [])
            if len(old) != len(part.members) or any(
                member.profile != profile.id or member.identity in self._latest for member in part.members
            ):
                refreshed.append((profile, part.members))
            elif profile != self._profiles.get(profile.id):
                changes.profiles.append(profile)
        for id in self._refreshed - self._seeds:
            refreshed.append((self._profiles[id], self._members[id]))
        unread = [
            member.identity for _, members in refreshed for member in members if member.identity not in self._latest
        ]
        rows = {row.id: row for row in self._rows.identities(unread)} if unread else {}
        for id, identity in self._latest.items():
            if identity.attributes is not None:
                rows[id] = read_row(identity, identity.attributes)
        for profile, members in refreshed:
            identities = [rows[member.identity] for member in members if member.identity in rows]
            if identities:
                attributes, updated_at = self._context.merger.merge(identities)
                profile = replace(profile, attributes=attributes, updated_at=updated_at)
            if profile != self._profiles.get(profile.id):
                changes.profiles.append(profile)

    def _write_links(self, changes: ProfileChanges) -> None:
        for change in self._changes:
            identity = change.identity.id
            for value in change.touched:
                if value in change.new:
                    changes.links.append(Link(value, identity, change.new[value]))
                else:
                    changes.removed_links.append((value, identity))

    def _write_refused(self, changes: ProfileChanges, before: list[RefusedEvidence], resolution: Resolution) -> None:
        old = {replace(one, at=0): one for one in before}
        new = set(resolution.refused)
        changes.refused.extend(replace(one, at=self._now) for one in resolution.refused if one not in old)
        changes.removed_refused.extend(one for key, one in old.items() if key not in new)
        if self._over or self._known_over:
            for value in self._touched:
                if value in self._over and value not in self._known_over:
                    refused = RefusedEvidence(self._workspace, "TooManyIdentities", value, 0, at=self._now)
                    changes.refused.append(refused)
                elif value in self._known_over and value not in self._over:
                    changes.removed_refused.append(self._known_over[value])
        if not self._context.reader.has_blocks:
            return
        blocked: dict[LinkValue, None] = {}
        for identity in self._latest.values():
            if identity.attributes is not None and (identity.is_new or identity.attributes_changed):
                blocked.update(dict.fromkeys(self._context.reader.blocked(identity.attributes)))
        changes.refused.extend(
            RefusedEvidence(self._workspace, "BlockedValue", value, 0, at=self._now) for value in blocked
        )
