"""Gives profiles their ids. The oldest profile survives a merge, and the part with the founder a split. Pure.

A founder that a claim or an alias deleted has a successor, which takes its place.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from headwater.profiles.resolving import Part
from headwater.state.profiles.model import NO_SUCCESSORS, Alias, ProfileChange, ProfileRow


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
    continued: dict[int, int]
    """The profile in which each old profile continues."""


def last_successors(successors: Mapping[int, int]) -> dict[int, int]:
    """Return the last identity of the chain of successors of each. One that leads to itself has none."""
    last: dict[int, int] = {}
    for identity in successors:
        passed: dict[int, None] = {}
        present = identity
        while present not in passed and present not in last and present in successors:
            passed[present] = None
            present = successors[present]
        end = last.get(present, 0 if present in passed else present)
        last.update(dict.fromkeys(passed, end))
    return {identity: end for identity, end in last.items() if end}


def name_parts(
    parts: Sequence[Part],
    profiles: Collection[ProfileRow],
    aliases: Collection[Alias],
    workspace: int,
    now: int,
    new_ids: Callable[[int], list[int]],
    new_kpid: Callable[[], bytes],
    *,
    successors: Mapping[int, int] = NO_SUCCESSORS,
    waiting: Collection[int] = (),
) -> Names:
    """Return the profile of each part.

    `profiles` are all those that members of the parts had, and that deleted members had; `aliases` are theirs.
    `successors` are those of deleted members. `waiting` are deleted identities that a later resolution replaces by
    their successors: they stay founders until then. `new_ids` returns that many ascending ids that no profile ever had.
    It is called at most once.
    """
    if len(parts) == 1 and not aliases and not successors and not waiting:
        if not profiles:
            [id] = new_ids(1)
            founder = parts[0].members[0].identity
            profile = ProfileRow(id, workspace, new_kpid(), founder, 0, "{}", parts[0].is_constrained)
            return Names([profile], [], [], [], [], {})
        if len(profiles) == 1:
            [profile] = profiles
            if any(member.identity == profile.founder for member in parts[0].members):
                if profile.is_constrained != parts[0].is_constrained:
                    profile = replace(profile, is_constrained=parts[0].is_constrained)
                return Names([profile], [], [], [], [], {profile.id: profile.id})
    naming = _Naming(parts, profiles, aliases, workspace, now, last_successors(successors), waiting)
    naming.claim()
    naming.keep_ids()
    naming.give_ids(new_ids, new_kpid)
    naming.move_aliases()
    naming.record_splits()
    return naming.names()


class _Naming:
    def __init__(
        self,
        parts: Sequence[Part],
        profiles: Collection[ProfileRow],
        aliases: Collection[Alias],
        workspace: int,
        now: int,
        successors: Mapping[int, int],
        waiting: Collection[int],
    ) -> None:
        self._parts = parts
        self._old = {profile.id: profile for profile in sorted(profiles, key=lambda profile: profile.id)}
        self._workspace = workspace
        self._now = now
        self._waiting = waiting
        self._part_by_identity = {member.identity: index for index, part in enumerate(parts) for member in part.members}
        self._founders = {
            identity: successor for identity, successor in successors.items() if successor in self._part_by_identity
        }
        """The member that takes the place of each deleted founder."""
        moved = (replace(alias, founder=self._founders.get(alias.founder, alias.founder)) for alias in aliases)
        self._old_aliases = sorted(moved, key=lambda alias: (alias.founder, alias.since, alias.kpid))
        self._stored_aliases = {alias.kpid: alias for alias in aliases}
        self._claims: list[list[ProfileRow]] = [[] for _ in parts]
        """The old profiles that continue in each part, the oldest first, with their present founders."""
        self._named: list[ProfileRow | None] = [None] * len(parts)
        self._successors: dict[int, int] = {}
        """The part in which an old profile continues."""
        self._removed: list[int] = []
        self._aliases: dict[bytes, Alias] = {}
        self._removed_aliases: list[bytes] = []
        self._history: list[ProfileChange] = []

    def claim(self) -> None:
        """Decide in which part each old profile continues."""
        held: dict[int, dict[int, list[int]]] = {}
        """The members that each part has of each old profile, the oldest first."""
        for index, part in enumerate(self._parts):
            for member in part.members:
                if member.profile:
                    held.setdefault(member.profile, {}).setdefault(index, []).append(member.identity)
        for id, profile in self._old.items():
            if (successor := self._founders.get(profile.founder)) is not None:
                profile = replace(profile, founder=successor)
            part_with_founder = self._part_by_identity.get(profile.founder)
            if part_with_founder is None and id in held:
                part_with_founder, members = max(held[id].items(), key=lambda item: (len(item[1]), -item[1][0]))
                if profile.founder not in self._waiting:
                    profile = replace(profile, founder=members[0])
            if part_with_founder is None:
                self._removed.append(id)
            else:
                self._claims[part_with_founder].append(profile)
                self._successors[id] = part_with_founder

    def keep_ids(self) -> None:
        """Keep the oldest of the profiles that continue in a part. The others become aliases."""
        for index, claims in enumerate(self._claims):
            if not claims:
                continue
            survivor, *merged = claims
            self._named[index] = survivor
            for profile in merged:
                self._removed.append(profile.id)
                self._aliases[profile.kpid] = Alias(profile.kpid, survivor.id, profile.founder, self._now)
                self._history.append(ProfileChange(self._workspace, self._now, "Merge", survivor.id, profile.kpid))

    def give_ids(self, new_ids: Callable[[int], list[int]], new_kpid: Callable[[], bytes]) -> None:
        """Give an id to the parts in which no profile continues: that of an alias whose founder they have, or a new
        one."""
        unnamed = [index for index, profile in enumerate(self._named) if profile is None]
        if not unnamed:
            return
        taken: dict[int, Alias] = {}
        for alias in self._old_aliases:
            part = self._part_by_identity.get(alias.founder)
            if part is not None and self._named[part] is None and part not in taken:
                taken[part] = alias
                self._removed_aliases.append(alias.kpid)
        for index, id in zip(unnamed, new_ids(len(unnamed)), strict=True):
            if index in taken:
                kpid, founder = taken[index].kpid, taken[index].founder
            else:
                kpid, founder = new_kpid(), self._parts[index].members[0].identity
            self._named[index] = ProfileRow(id, self._workspace, kpid, founder, 0, "{}")

    def move_aliases(self) -> None:
        """Let each alias lead to the profile that has its founder, or else to the one in which its profile
        continues. Without either it is removed."""
        taken = set(self._removed_aliases)
        for alias in self._old_aliases:
            if alias.kpid in taken:
                continue
            part = self._part_by_identity.get(alias.founder, self._successors.get(alias.profile))
            if part is None:
                self._removed_aliases.append(alias.kpid)
                continue
            moved = replace(alias, profile=self._profile(part).id)
            if moved != self._stored_aliases[alias.kpid]:
                self._aliases[alias.kpid] = moved

    def record_splits(self) -> None:
        for index, (part, claims) in enumerate(zip(self._parts, self._claims, strict=True)):
            if claims:
                continue
            kpid = self._profile(index).kpid
            left = {self._profile(self._successors[member.profile]).id for member in part.members if member.profile}
            self._history.extend(
                ProfileChange(self._workspace, self._now, "Split", profile, kpid) for profile in sorted(left)
            )

    def names(self) -> Names:
        profiles = [
            replace(self._profile(index), is_constrained=part.is_constrained) for index, part in enumerate(self._parts)
        ]
        continued = {id: profiles[part].id for id, part in self._successors.items()}
        return Names(
            profiles, self._removed, list(self._aliases.values()), self._removed_aliases, self._history, continued
        )

    def _profile(self, part: int) -> ProfileRow:
        profile = self._named[part]
        assert profile is not None, "every part has a profile"
        return profile
