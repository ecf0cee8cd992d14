"""Resolves the identities of a scan in slices: closed sets of identities, some thousand together."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from headwater.profiles.constraints import Constraints, divide
from headwater.profiles.naming import name_parts
from headwater.profiles.resolving import Part
from headwater.profiles.scanning import Scan
from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import (
    Alias,
    Evidence,
    IdentityName,
    Member,
    MergedRow,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    no_changes,
)
from headwater.state.profiles.resolving import NewProfiles, ProfileTuple, ResolutionRows
from headwater.state.profiles.values import new_rows

_NO_PROFILE: Final = 0


class Slice(Struct):
    """The rows of some regions."""

    numbers: list[int]
    identities: dict[int, MergedRow]
    gone: dict[int, Member]
    """The members among the identities that were deleted after the scan."""
    profiles: dict[int, ProfileRow]
    aliases: list[Alias]
    refused: list[RefusedEvidence]
    new_profiles: int
    """Maximum number of new profiles."""


class SliceResolver:
    """Resolves the regions of a slice."""

    def __init__(
        self,
        context: ResolutionContext,
        scan: Scan,
        constraints: Constraints,
        *,
        has_refused: bool,
        new_kpid: Callable[[], bytes],
    ) -> None:
        self._context = context
        self._workspace = context.workspace
        self._scan = scan
        self._constraints = constraints
        self._has_refused = has_refused
        self._new_kpid = new_kpid

    def read(self, rows: ResolutionRows, numbers: list[int]) -> Slice:
        """Read the rows of these identities."""
        scan = self._scan
        ids = [scan.ids[number] for number in numbers]
        old = {scan.profiles[number] for number in numbers} - {_NO_PROFILE}
        identities = rows.merged_identities(sorted(ids))
        gone = [id_ for id_ in ids if id_ not in identities] if len(identities) < len(ids) else []
        return Slice(
            numbers,
            identities,
            {member.identity: member for member in rows.members(gone)} if gone else {},
            {row.id: row for row in rows.profiles(old)} if old else {},
            rows.aliases(old) if old else [],
            rows.refused(self._workspace, ids, ()) if self._has_refused else [],
            0 if not gone and self._are_kept(numbers, old) else len(numbers),
        )

    def _are_kept(self, numbers: list[int], old: set[int]) -> bool:
        """Return whether certainly each component keeps its profile."""
        scan = self._scan
        if not old or not self._constraints.are_none:
            return False
        pairs = {(scan.components[number], scan.profiles[number]) for number in numbers}
        return len(pairs) == len(old) == len({root for root, _ in pairs})

    def resolve(
        self, slice_: Slice, now: int, new_ids: Callable[[int], list[int]]
    ) -> tuple[ProfileChanges, NewProfiles]:
        """Return the changes of the regions, and the new profiles of identities that were in none."""
        scan = self._scan
        changes = no_changes(self._workspace)
        components: dict[int, list[int]] = {}
        roots: dict[int, int] = {}
        """The component that has members of each old profile; -1 if there are several."""
        component_of, profile_of = scan.components, scan.profiles
        for number in slice_.numbers:
            root = component_of[number]
            if root in components:
                components[root].append(number)
            else:
                components[root] = [number]
            if (old := profile_of[number]) and roots.setdefault(old, root) != root:
                roots[old] = -1
        others: list[list[int]] = []
        new: list[list[int]] = []
        is_complete = len(slice_.identities) == len(slice_.numbers)
        if slice_.profiles or not is_complete or not self._constraints.are_none or self._has_refused:
            for root, numbers in components.items():
                profile = self._kept(slice_, root, numbers, roots)
                if profile is None:
                    others.append(numbers)
                elif profile == _NO_PROFILE:
                    new.append(numbers)
                else:
                    self._keep(slice_, slice_.profiles[profile], numbers, changes)
        else:
            new = list(components.values())
        if others:
            self._divide(slice_, others, changes, now, new_ids)
        return changes, self._make(slice_, new, new_ids(len(new)))

    def _make(self, slice_: Slice, components: list[list[int]], ids: list[int]) -> NewProfiles:
        """Return a new profile for each component. Its members are written later, in the order of age."""
        profiles: list[ProfileTuple] = []
        workspace, merge, new_kpid = self._workspace, self._context.merger.merge_rows, self._new_kpid
        identities, identity_of, set_new = slice_.identities, self._scan.ids, self._scan.set_new
        for profile, numbers in zip(ids, components, strict=True):
            rows = [identities[identity_of[number]] for number in numbers]
            attributes, updated_at = merge(rows)
            profiles.append((profile, workspace, new_kpid(), rows[0][1], updated_at, attributes, False))
            set_new(numbers, profile)
        values = new_rows(workspace, [(row[0], row[5]) for row in profiles])
        return NewProfiles(workspace, profiles, values)

    def _kept(self, slice_: Slice, root: int, numbers: list[int], roots: dict[int, int]) -> int | None:
        """Return the profile that a component keeps, or 0 for a new one, if that is all that can happen to it."""
        if not self._constraints.are_none or self._has_refused:
            return None
        scan = self._scan
        identities = [scan.ids[number] for number in numbers]
        if not all(id_ in slice_.identities for id_ in identities):
            return None
        old = {profile for number in numbers if (profile := scan.profiles[number])}
        if not old:
            return _NO_PROFILE
        if len(old) > 1:
            return None
        [profile] = old
        row = slice_.profiles[profile]
        if roots[profile] != root or row.founder not in identities or row.is_constrained:
            return None
        return profile

    def _keep(self, slice_: Slice, profile: ProfileRow, numbers: list[int], changes: ProfileChanges) -> None:
        """Update a profile and its members."""
        scan = self._scan
        rows = [slice_.identities[scan.ids[number]] for number in numbers]
        attributes, updated_at = self._context.merger.merge_rows(rows)
        if attributes != profile.attributes or updated_at != profile.updated_at:
            changes.profiles.append(replace(profile, attributes=attributes, updated_at=updated_at))
        for number, row in zip(numbers, rows, strict=True):
            if scan.differs[number] or scan.profiles[number] != profile.id:
                changes.members.append(Member(row[1], _name(row), self._evidence(number, row), profile.id))

    def _divide(
        self,
        slice_: Slice,
        components: list[list[int]],
        changes: ProfileChanges,
        now: int,
        new_ids: Callable[[int], list[int]],
    ) -> None:
        """Resolve components that merge or split profiles, or are constrained."""
        parts: list[Part] = []
        refused: list[RefusedEvidence] = []
        for numbers in components:
            component = [self._member(slice_, number) for number in numbers]
            if len(component) == 1 or self._constraints.are_none or self._constraints.allow(component):
                parts.append(Part(component, False))
                continue
            divided, refusals = divide(component, self._scan.over, self._constraints)
            ends = {end for refusal in refusals for end in (refusal.identity, refusal.other)}
            parts += [Part(some, any(member.identity in ends for member in some)) for some in divided]
            refused += [replace(refusal, workspace=self._workspace) for refusal in refusals]
        parts.sort(key=lambda part: part.members[0].identity)
        self._name(slice_, parts, changes, now, new_ids)
        known = {replace(one, at=0): one for one in slice_.refused}
        changes.refused.extend(replace(one, at=now) for one in refused if one not in known)
        present = set(refused)
        changes.removed_refused.extend(one for key, one in known.items() if key not in present)

    def _evidence(self, number: int, row: MergedRow) -> Evidence:
        """Return the evidence of the scan, which the links of an identity have."""
        if hash(row[3]) == self._scan.digests[number]:
            return self._context.reader.read(row[3])
        return self._scan.read_evidence(number)

    def _member(self, slice_: Slice, number: int) -> Member:
        """Return an identity with the evidence of the scan, which its links have."""
        scan = self._scan
        id_, profile = scan.ids[number], scan.profiles[number]
        row = slice_.identities.get(id_)
        if row is not None:
            return Member(id_, _name(row), self._evidence(number, row), profile)
        evidence = scan.read_evidence(number)
        if (member := slice_.gone.get(id_)) is not None:
            return replace(member, evidence=evidence, profile=profile)
        # Its name is not known. It is unresolved, so that it leaves its profile as any other.
        return Member(id_, IdentityName(0, f"deleted {id_}", False), evidence, profile)

    def _name(
        self,
        slice_: Slice,
        parts: Sequence[Part],
        changes: ProfileChanges,
        now: int,
        new_ids: Callable[[int], list[int]],
    ) -> None:
        """Give the parts their profiles."""
        old = {member.profile for part in parts for member in part.members}
        names = name_parts(
            parts,
            [profile for id_, profile in slice_.profiles.items() if id_ in old],
            [alias for alias in slice_.aliases if alias.profile in old],
            self._workspace,
            now,
            new_ids,
            self._new_kpid,
            waiting=self._scan.replaced,
        )
        for id_, continued in names.continued.items():
            if id_ != continued:
                changes.members.extend(replace(each, profile=continued) for each in self._scan.deleted.get(id_, ()))
        changes.removed_profiles.extend(names.removed)
        changes.aliases.extend(names.aliases)
        changes.removed_aliases.extend(names.removed_aliases)
        changes.history.extend(names.history)
        differs = self._scan.differs
        differing = {self._scan.ids[number] for number in slice_.numbers if differs[number]}
        for part, profile in zip(parts, names.profiles, strict=True):
            present = [row for member in part.members if (row := slice_.identities.get(member.identity)) is not None]
            if present:
                attributes, updated_at = self._context.merger.merge_rows(present)
                profile = replace(profile, attributes=attributes, updated_at=updated_at)
            if profile != slice_.profiles.get(profile.id):
                changes.profiles.append(profile)
            for member in part.members:
                if member.profile != profile.id:
                    changes.members.append(replace(member, profile=profile.id))
                elif member.identity in differing:
                    changes.members.append(member)


def _name(row: MergedRow) -> IdentityName:
    _, _, source, _, identity_id, is_anonymous = row
    return IdentityName(source, identity_id, bool(is_anonymous))
