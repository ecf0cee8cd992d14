"""Resolves all identities of a workspace: after its settings have changed, or on request.

The result is that of the incremental resolution. While it runs, the identities that batches change are stored as
unresolved instead of being resolved, and the last step resolves them. The steps:

    rename      renames and removes attributes of identities, if the profile schema says so
    scan        reads the identities by age, and their evidence, outside of any transaction
    links       reads the evidence sorted by value: unites identities that one value links, and updates the links
    profiles    resolves closed sets of identities, some thousand at a time, and updates their profiles
    finish      resolves what has changed meanwhile, and stores the digest of the settings

Each transaction is short, leaves profiles that are valid, and writes only what differs. Before the first one that
writes anything the applied digest is deleted, so that a resolution that is killed is executed again. The memory is some
forty bytes an identity.
"""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from os import urandom
from typing import Final, TypeVar

import structlog
from msgspec import Struct
from msgspec.structs import replace

from headwater.base.clock import Clock, microseconds
from headwater.catalog.profiles import ProfileSchema
from headwater.profiles.components import Sets, unite_holders
from headwater.profiles.constraints import Constraints, divide
from headwater.profiles.evidence import SAME_NAME
from headwater.profiles.naming import name_parts
from headwater.profiles.renaming import AttributeRenamer
from headwater.profiles.resolving import Part
from headwater.profiles.settings import ResolutionContext
from headwater.profiles.unresolved import Drained, resolve_unresolved
from headwater.state import StateStore
from headwater.state.profiles.model import (
    Alias,
    Evidence,
    IdentityName,
    IdentityRow,
    Link,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
)
from headwater.state.profiles.resolving import LinkKey, ResolutionRows, ScannedIdentity
from headwater.state.profiles.rows import encode_evidence
from headwater.state.profiles.sorting import LinkSorter, NumberedLink

SCAN_IDENTITIES: Final = 5_000
"""Number of identities that are read together."""
SLICE_LINKS: Final = 10_000
"""Number of links that are compared, and at most written, together."""
SLICE_IDENTITIES: Final = 2_000
"""Number of identities whose profiles are updated in one transaction. A set that belongs together is not divided."""
SLICE_RENAMES: Final = 2_000
"""Number of identities whose attributes are renamed in one transaction."""
SLICE_UNRESOLVED: Final = 200
"""Number of identities, changed meanwhile, that the first transaction resolves. Later ones grow, so that they end."""

Report = Callable[[int, int], Awaitable[None]]
"""Is called with the number of identities that are done, and of all. It may raise to stop the resolution."""
_Result = TypeVar("_Result")

_log = structlog.get_logger(__name__)


def random_uuid() -> bytes:
    """Return the bytes of a random UUID, version 4, in a fifth of the time of `uuid4`."""
    value = bytearray(urandom(16))
    value[6] = value[6] & 0x0F | 0x40
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)


class FullResolution:
    """One resolution of all identities of a workspace. The caller makes sure that batches do not resolve meanwhile."""

    def __init__(
        self,
        state: StateStore,
        context: ResolutionContext,
        schema: ProfileSchema | None,
        clock: Clock,
        report: Report,
        *,
        new_kpid: Callable[[], bytes] = random_uuid,
    ) -> None:
        self._state = state
        self._context = context
        self._workspace = context.workspace
        self._schema = schema
        self._clock = clock
        self._report = report
        self._new_kpid = new_kpid
        self._has_written = False
        self._new_ids: list[int] = []
        """Ids for new profiles, in descending order."""

    async def run(self) -> None:
        """Resolve the identities. Raises Unavailable, and what `report` raises."""
        self._has_written = False
        await self._rename()
        sorter = LinkSorter()
        try:
            scan = _Scan(self._context, sorter)
            await self._scan(scan)
            await self._clear_deleted(scan)
            await self._update_links(scan)
            await self._update_refusals(scan)
            await self._update_profiles(scan)
        finally:
            sorter.close()
        await self._finish()

    # Renames

    async def _rename(self) -> None:
        """Rename the attributes of identities, unless it is done. Each slice stores its place, because two attributes
        can change their names for each other."""
        schema = self._schema
        if schema is None:
            return
        if await self._read(lambda rows: rows.schema_version(self._workspace)) >= schema.version:
            return
        renamer = AttributeRenamer(schema.renames)
        stored = await self._read(lambda rows: rows.checkpoint(self._workspace))
        version, after = (0, 0) if stored is None else (int.from_bytes(stored[:8]), int.from_bytes(stored[8:]))
        if version != schema.version:
            after = 0
        last: int | None = after
        while last is not None and renamer:
            last = await self._rename_slice(schema.version, renamer, last)

        def complete(rows: ResolutionRows) -> None:
            rows.set_schema_version(self._workspace, schema.version)
            rows.set_resolution(self._workspace, rows.applied(self._workspace), None)

        await self._write(complete)

    async def _rename_slice(self, version: int, renamer: AttributeRenamer, after: int) -> int | None:
        def change(rows: ResolutionRows) -> int | None:
            last = rows.change_attributes(self._workspace, renamer.rename, after=after, limit=SLICE_RENAMES)
            if last is not None:
                rows.set_resolution(self._workspace, None, version.to_bytes(8) + last.to_bytes(8))
            return last

        return await self._write(change)

    # Scan

    async def _scan(self, scan: "_Scan") -> None:
        """Read the identities that exist. Later ones are unresolved as new ones, in whatever pipelines."""
        workspace = self._workspace
        scan.shared, total, through = await self._read(
            lambda rows: (
                rows.shared_connections(workspace),
                rows.count_identities(workspace),
                rows.last_identity(workspace),
            )
        )
        after = 0
        while True:
            rows = await self._read(
                partial(ResolutionRows.scan, workspace=workspace, after=after, through=through, limit=SCAN_IDENTITIES)
            )
            if not rows:
                break
            await asyncio.to_thread(scan.take, rows)
            after = rows[-1].id
            await self._report(len(scan.ids) // 2, max(total, len(scan.ids)))
        scan.sets = Sets(len(scan.ids))

    async def _clear_deleted(self, scan: "_Scan") -> None:
        """Delete the evidence of members whose identities were deleted before the scan, as their links will be.

        It may be that of other identifiers. They leave their profiles with the unresolved identities, and their
        successors take their places then.
        """
        none: Evidence = (None,) * len(self._context.settings.identifiers)
        after, is_last = 0, False
        while not is_last:
            ids = await self._read(
                partial(ResolutionRows.unresolved, workspace=self._workspace, limit=SCAN_IDENTITIES, after=after)
            )
            unknown = [id_ for id_ in ids if not scan.has(id_)]
            members = await self._read(partial(ResolutionRows.members, identities=unknown))
            for member in members:
                scan.deleted.setdefault(member.profile, []).append(replace(member, evidence=none))
            present = [member.identity for member in members]
            waiting = await self._read(partial(ResolutionRows.waiting, identities=present))
            scan.replaced.update(id_ for id_, successor in waiting.items() if successor)
            changes = _no_changes(self._workspace)
            changes.members.extend(replace(member, evidence=none) for member in members if member.evidence != none)
            await self._change(changes)
            is_last = len(ids) < SCAN_IDENTITIES
            after = ids[-1] if ids else after

    # Links

    async def _update_links(self, scan: "_Scan") -> None:
        links = _Links(scan)
        key: LinkKey | None = None
        is_last = False
        while not is_last:
            stored = await self._read(
                partial(ResolutionRows.links_after, workspace=self._workspace, key=key, limit=SLICE_LINKS)
            )
            is_last = len(stored) < SLICE_LINKS
            key = stored[-1][:3] if stored else None
            if key is not None:
                await self._compare_links(links, stored, key)
        await self._compare_links(links, [], None)

    async def _compare_links(
        self, links: "_Links", stored: list[tuple[int, str, int, int]], upper: LinkKey | None
    ) -> None:
        links.start(stored, upper)
        is_done = False
        while not is_done:
            written, removed, is_done = await asyncio.to_thread(links.compare)
            await self._change(_links_changed(self._workspace, written, removed))
            await self._report(links.identities // 2, links.identities)

    # Refused values

    async def _update_refusals(self, scan: "_Scan") -> None:
        """Update the refused values: those over their limit, and blocked ones."""
        stored = await self._read(lambda rows: rows.refused_for(self._workspace, ("TooManyIdentities", "BlockedValue")))
        now = self._now()
        present = {
            **{("TooManyIdentities", value): None for value in scan.over},
            **{("BlockedValue", value): None for value in scan.blocked},
        }
        known = {(one.reason, one.value) for one in stored}
        refused = [
            RefusedEvidence(self._workspace, "TooManyIdentities", value, 0, at=now)
            for value in scan.over
            if ("TooManyIdentities", value) not in known
        ]
        refused += [
            RefusedEvidence(self._workspace, "BlockedValue", value, 0, at=now)
            for value in scan.blocked
            if ("BlockedValue", value) not in known
        ]
        removed = [one for one in stored if (one.reason, one.value) not in present]
        for start in range(0, max(len(refused), len(removed)), SLICE_LINKS):
            changes = _no_changes(self._workspace)
            changes.refused.extend(refused[start : start + SLICE_LINKS])
            changes.removed_refused.extend(removed[start : start + SLICE_LINKS])
            await self._change(changes)

    # Profiles

    async def _update_profiles(self, scan: "_Scan") -> None:
        separations, has_refused = await self._read(
            lambda rows: (
                rows.all_separations(self._workspace),
                rows.has_refused(self._workspace, ("TooManyValues", "Separated")),
            )
        )
        constraints = Constraints(self._context.settings, separations)
        resolver = _SliceResolver(self._context, scan, constraints, has_refused=has_refused, new_kpid=self._new_kpid)
        done, total = 0, len(scan.ids)
        await asyncio.to_thread(scan.group)
        for numbers in scan.slices():
            slice_ = await self._read(partial(resolver.read, numbers=numbers))
            missing = slice_.new_profiles - len(self._new_ids)
            if missing > 0:
                await self._add_ids(max(missing, SLICE_IDENTITIES))
            now = self._now()
            changes = await asyncio.to_thread(resolver.resolve, slice_, now, self._take_ids)
            await self._change(changes)
            done += len(numbers)
            await self._report((total + done) // 2, total)

    async def _add_ids(self, count: int) -> None:
        ids = await self._write(lambda rows: rows.new_profile_ids(count))
        self._new_ids = [*reversed(ids), *self._new_ids]

    def _take_ids(self, count: int) -> list[int]:
        return [self._new_ids.pop() for _ in range(count)]

    # Finish

    async def _finish(self) -> None:
        """Resolve the identities that changed meanwhile. The last transaction stores the applied digest."""
        limit, after = SLICE_UNRESOLVED, 0
        while True:
            drained = await self._write(partial(self._drain, limit=limit, after=after))
            for error in drained.errors:
                _log.error("an identity cannot be resolved", workspace=self._workspace, exc_info=error)
            if drained.is_all:
                return
            limit, after = limit * 5 // 4, drained.last

    def _drain(self, rows: ResolutionRows, *, limit: int, after: int) -> Drained:
        drained = resolve_unresolved(rows, self._context, self._now(), limit=limit, after=after)
        if drained.is_all and rows.applied(self._workspace) != self._context.digest:
            rows.set_resolution(self._workspace, self._context.digest, None)
        return drained

    # The state store

    async def _read(self, work: Callable[[ResolutionRows], _Result]) -> _Result:
        return await self._state.read_profiles(work)

    async def _write(self, work: Callable[[ResolutionRows], _Result]) -> _Result:
        async with self._state.transaction() as transaction:
            return await transaction.on_profiles(work)

    async def _change(self, changes: ProfileChanges) -> None:
        """Write changes, if there are any."""
        if not _is_any(changes):
            return
        has_written, self._has_written = self._has_written, True

        def write(rows: ResolutionRows) -> None:
            if not has_written and rows.applied(self._workspace) is not None:
                rows.set_resolution(self._workspace, None, rows.checkpoint(self._workspace))
            rows.write(changes)

        await self._write(write)

    def _now(self) -> int:
        return microseconds(self._clock.now())


class _Scan:
    """The identities of a workspace in arrays, by their numbers in the order of age, and their sorted links."""

    def __init__(self, context: ResolutionContext, sorter: LinkSorter) -> None:
        self.settings = context.settings
        self.sorter = sorter
        self.ids = array("q")
        self.profiles = array("q")
        """The profile of each; 0 if it is in none."""
        self.digests = array("q")
        """A hash of the attributes of each, by which a later change is noticed."""
        self.differs = bytearray()
        """Whether the stored evidence of each is another one."""
        self.deleted: dict[int, list[Member]] = {}
        """The members, by profile, whose identities were deleted before they were scanned."""
        self.replaced: set[int] = set()
        """Those of them that have successors."""
        self.shared: set[int] = set()
        """The connections in which several identities can have one name."""
        self.sets = Sets(0)
        self.over: set[LinkValue] = set()
        self.blocked: dict[LinkValue, None] = {}
        self.components = array("q")
        """A number for the component of each."""
        self._roots = array("q")
        """The first identity of the region of each."""
        self._following = array("q")
        """The next identity of the region of each; 0 for the last."""
        self._reader = context.reader
        self._has_blocks = any(each.blocked_values or each.blocked_presets for each in context.settings.identifiers)

    def take(self, rows: Sequence[ScannedIdentity]) -> None:
        """Add identities."""
        links: list[tuple[int, str, int, int]] = []
        read = self._reader.read
        for number, row in enumerate(rows, len(self.ids)):
            attributes = row.attributes
            evidence = read(attributes)
            self.ids.append(row.id)
            self.profiles.append(row.profile or 0)
            self.digests.append(hash(attributes))
            self.differs.append(row.evidence is None or encode_evidence(evidence) != row.evidence)
            mask, bit = 0, 1
            for index, value in enumerate(evidence):
                if value is not None:
                    links.append((index, value, number, mask))
                    mask |= bit
                bit <<= 1
            if row.connection in self.shared:
                links.append((SAME_NAME, f"{row.connection} {int(row.is_anonymous)} {row.identity_id}", number, 0))
            if self._has_blocks:
                self.blocked.update(dict.fromkeys(self._reader.blocked(attributes)))
        self.sorter.add(links)

    def has(self, identity: int) -> bool:
        """Return whether the identity was scanned."""
        index = bisect_left(self.ids, identity)
        return index < len(self.ids) and self.ids[index] == identity

    def read_evidence(self, number: int) -> Evidence:
        """Return the evidence that an identity had at the scan."""
        evidence: list[str | None] = [None] * len(self.settings.identifiers)
        for identifier, value in self.sorter.find_links(number):
            if identifier != SAME_NAME:
                evidence[identifier] = value
        return tuple(evidence)

    def group(self) -> None:
        """Find the regions: sets of present profiles and new components that no link leaves."""
        size, profiles = len(self.ids), self.profiles
        regions = Sets(size)
        self.components = array("q", map(self.sets.find, range(size)))
        for number, root in enumerate(self.components):
            if root != number:
                regions.unite(root, number)
        first: dict[int, int] = {}
        for number, profile in enumerate(profiles):
            if profile and (other := first.setdefault(profile, number)) != number:
                regions.unite(other, number)
        first.clear()
        self._roots = array("q", map(regions.find, range(size)))
        # The numbers of a region are chained. Sorting them would keep other threads waiting for half a second.
        self._following = array("q", bytes(8 * size))
        last = array("q", range(size))
        for number, root in enumerate(self._roots):
            if root != number:
                self._following[last[root]] = number
                last[root] = number

    def slices(self) -> Iterator[list[int]]:
        """Yield the numbers of all identities in slices of complete regions."""
        slice_: list[int] = []
        for number, root in enumerate(self._roots):
            if root != number:
                continue
            if len(slice_) >= SLICE_IDENTITIES:
                yield slice_
                slice_ = []
            slice_.append(number)
            while number := self._following[number]:
                slice_.append(number)
        if slice_:
            yield slice_


class _Links:
    """Compares the sorted links of a scan with the stored ones, and unites the identities that a value links."""

    def __init__(self, scan: _Scan) -> None:
        self._scan = scan
        self._limits = [each.max_identities for each in scan.settings.identifiers]
        self._waiting: Iterator[NumberedLink] = iter(())
        """The links that were taken from the sorter and not compared."""
        self._is_exhausted = False
        self._stored: dict[LinkKey, int] = {}
        self._upper: LinkKey | None = None
        self._value: tuple[int, str] = (SAME_NAME, "")
        self._holders: list[tuple[int, int]] = []
        """The holders of the present value, with their masks."""

    @property
    def identities(self) -> int:
        """Return the number of identities."""
        return len(self._scan.ids)

    def start(self, stored: Iterable[tuple[int, str, int, int]], upper: LinkKey | None) -> None:
        """Compare with these stored links: all those above the last ones up to the upper key; None for no end."""
        self._stored = {(identifier, value, identity): mask for identifier, value, identity, mask in stored}
        self._upper = upper

    def compare(self) -> tuple[list[Link], list[tuple[LinkValue, int]], bool]:
        """Compare some links. Return those to write, those to delete, and whether everything up to the upper key is
        compared."""
        ids, stored, upper = self._scan.ids, self._stored, self._upper
        written: list[Link] = []
        value_of, holders = self._value, self._holders
        for link in self._some():
            identifier, value, number, mask = link
            if identifier != SAME_NAME:
                key = (identifier, value, ids[number])
                if upper is not None and key > upper:
                    self._waiting = iter([link, *self._waiting])
                    return written, self._removed(), True
                if not stored or stored.pop(key, None) != mask:
                    written.append(Link(LinkValue(identifier, value), key[2], mask))
            if value != value_of[1] or identifier != value_of[0]:
                if len(holders) > 1:
                    self._unite()
                self._value = value_of = (identifier, value)
                self._holders = holders = []
            holders.append((number, mask))
        if not self._is_exhausted:
            return written, [], False
        if upper is None:
            self._unite()
        return written, self._removed(), True

    def _some(self) -> Iterator[NumberedLink]:
        """Return the next links, which are removed from those that wait."""
        waiting = list(self._waiting)
        if len(waiting) < SLICE_LINKS and not self._is_exhausted:
            more = self._scan.sorter.take(SLICE_LINKS)
            self._is_exhausted = not more
            waiting += more
        self._waiting = iter(waiting)
        return self._waiting

    def _removed(self) -> list[tuple[LinkValue, int]]:
        removed = [(LinkValue(identifier, value), identity) for identifier, value, identity in self._stored]
        self._stored = {}
        return removed

    def _unite(self) -> None:
        """Unite the holders of the value whose links have all been read."""
        holders, self._holders = self._holders, []
        if len(holders) < 2:
            return
        identifier, value = self._value
        sets = self._scan.sets
        if identifier == SAME_NAME:
            for number, _ in holders:
                sets.unite(holders[0][0], number)
        elif len(holders) > self._limits[identifier]:
            self._scan.over.add(LinkValue(identifier, value))
        else:
            unite_holders(holders, sets.unite)


class _Slice(Struct):
    """The rows of some regions."""

    numbers: list[int]
    identities: dict[int, IdentityRow]
    gone: dict[int, Member]
    """The members among the identities that were deleted after the scan."""
    profiles: dict[int, ProfileRow]
    aliases: list[Alias]
    refused: list[RefusedEvidence]
    new_profiles: int
    """Maximum number of new profiles."""


class _SliceResolver:
    """Resolves the regions of a slice."""

    def __init__(
        self,
        context: ResolutionContext,
        scan: _Scan,
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

    def read(self, rows: ResolutionRows, numbers: list[int]) -> _Slice:
        """Read the rows of these identities."""
        scan = self._scan
        ids = [scan.ids[number] for number in numbers]
        old = {scan.profiles[number] for number in numbers} - {0}
        identities = {row.id: row for row in rows.merged_identities(ids)}
        gone = [id_ for id_ in ids if id_ not in identities]
        pairs = {(scan.components[number], scan.profiles[number]) for number in numbers}
        is_same = len(pairs) == len(old) == len({root for root, _ in pairs}) and self._constraints.are_none
        return _Slice(
            numbers,
            identities,
            {member.identity: member for member in rows.members(gone)} if gone else {},
            {row.id: row for row in rows.profiles(old)} if old else {},
            rows.aliases(old) if old else [],
            rows.refused(self._workspace, ids, ()) if self._has_refused else [],
            0 if is_same and not gone else len(numbers),
        )

    def resolve(self, slice_: _Slice, now: int, new_ids: Callable[[int], list[int]]) -> ProfileChanges:
        """Return the changes of the regions."""
        scan = self._scan
        changes = _no_changes(self._workspace)
        components: dict[int, list[int]] = {}
        roots: dict[int, int] = {}
        """The component that has members of each old profile; -1 if there are several."""
        component_of, profile_of, ids, identities = scan.components, scan.profiles, scan.ids, slice_.identities
        for number in slice_.numbers:
            root = component_of[number]
            if root in components:
                components[root].append(number)
            else:
                components[root] = [number]
            if (old := profile_of[number]) and roots.setdefault(old, root) != root:
                roots[old] = -1
        others: list[list[int]] = []
        new: list[tuple[list[int], list[IdentityRow]]] = []
        for root, numbers in components.items():
            rows = [row for number in numbers if (row := identities.get(ids[number])) is not None]
            profile = self._kept(slice_, root, numbers, roots) if len(rows) == len(numbers) else None
            if profile is None:
                others.append(numbers)
            elif profile == 0:
                new.append((numbers, rows))
            else:
                self._keep(slice_, slice_.profiles[profile], numbers, rows, changes)
        if others:
            self._divide(slice_, others, changes, now, new_ids)
        merge, workspace, new_kpid, evidence = (
            self._context.merger.merge,
            self._workspace,
            self._new_kpid,
            self._evidence,
        )
        members, profiles = changes.members, changes.profiles
        for id_, (numbers, rows) in zip(new_ids(len(new)), new, strict=True):
            attributes, updated_at = merge(rows)
            profiles.append(ProfileRow(id_, workspace, new_kpid(), rows[0].id, updated_at, attributes))
            for number, row in zip(numbers, rows, strict=True):
                members.append(Member(row.id, row.name, evidence(number, row), id_))
        return changes

    def _kept(self, slice_: _Slice, root: int, numbers: list[int], roots: dict[int, int]) -> int | None:
        """Return the profile that a component keeps, or 0 for a new one, if that is all that can happen to it."""
        if not self._constraints.are_none or self._has_refused:
            return None
        scan = self._scan
        old = {profile for number in numbers if (profile := scan.profiles[number])}
        if not old:
            return 0
        if len(old) > 1:
            return None
        [profile] = old
        founder = slice_.profiles[profile].founder
        if roots[profile] != root or all(scan.ids[number] != founder for number in numbers):
            return None
        return None if slice_.profiles[profile].is_constrained else profile

    def _keep(
        self, slice_: _Slice, profile: ProfileRow, numbers: list[int], rows: list[IdentityRow], changes: ProfileChanges
    ) -> None:
        """Update a profile and its members."""
        scan = self._scan
        attributes, updated_at = self._context.merger.merge(rows)
        if attributes != profile.attributes or updated_at != profile.updated_at:
            changes.profiles.append(replace(profile, attributes=attributes, updated_at=updated_at))
        for number, row in zip(numbers, rows, strict=True):
            if scan.differs[number] or scan.profiles[number] != profile.id:
                changes.members.append(Member(row.id, row.name, self._evidence(number, row), profile.id))

    def _divide(
        self,
        slice_: _Slice,
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

    def _evidence(self, number: int, row: IdentityRow) -> Evidence:
        """Return the evidence of the scan, which the links of an identity have."""
        if hash(row.attributes) == self._scan.digests[number]:
            return self._context.reader.read(row.attributes)
        return self._scan.read_evidence(number)

    def _member(self, slice_: _Slice, number: int) -> Member:
        """Return an identity with the evidence of the scan, which its links have."""
        scan = self._scan
        id_, profile = scan.ids[number], scan.profiles[number]
        row = slice_.identities.get(id_)
        if row is not None:
            return Member(id_, row.name, self._evidence(number, row), profile)
        evidence = scan.read_evidence(number)
        if (member := slice_.gone.get(id_)) is not None:
            return replace(member, evidence=evidence, profile=profile)
        # Its name is not known. It is unresolved, so that it leaves its profile as any other.
        return Member(id_, IdentityName(0, f"deleted {id_}", False), evidence, profile)

    def _name(
        self,
        slice_: _Slice,
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
                attributes, updated_at = self._context.merger.merge(present)
                profile = replace(profile, attributes=attributes, updated_at=updated_at)
            if profile != slice_.profiles.get(profile.id):
                changes.profiles.append(profile)
            for member in part.members:
                if member.profile != profile.id:
                    changes.members.append(replace(member, profile=profile.id))
                elif member.identity in differing:
                    changes.members.append(member)


def _no_changes(workspace: int) -> ProfileChanges:
    return ProfileChanges(workspace, [], [], [], [], [], [], [], [], [], [], [])


def _links_changed(workspace: int, written: list[Link], removed: list[tuple[LinkValue, int]]) -> ProfileChanges:
    changes = _no_changes(workspace)
    changes.links.extend(written)
    changes.removed_links.extend(removed)
    return changes


def _is_any(changes: ProfileChanges) -> bool:
    return any(value for value in (getattr(changes, name) for name in changes.__struct_fields__[1:]))
