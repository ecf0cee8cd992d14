"""Resolves all identities of a workspace: after its settings have changed, or on request.

The result is that of the incremental resolution. While it runs, the identities that batches change are stored as
unresolved instead of being resolved, and the last step resolves them. The steps:

    rename      renames and removes attributes of identities, if the profile schema says so
    scan        reads the identities by age, and their evidence, outside of any transaction
    links       reads the evidence sorted by value: unites identities that one value links, and updates the links
    profiles    resolves closed sets of identities, some thousand at a time, and updates their profiles
    members     writes the members of new profiles in the order of age, which changes the fewest pages
    finish      resolves what has changed meanwhile, and stores the digest of the settings

Each transaction is short, leaves profiles that are valid, and writes only what differs. The next one is prepared while
it executes. Before the first one that writes anything the applied digest is deleted, so that a resolution that is
killed is executed again. It gives the profiles that have no members yet to their founders. The memory is some forty
bytes an identity, and two slices.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import closing
from functools import partial
from os import urandom
from tempfile import TemporaryFile
from typing import Any, Final, Self, TypeVar

import structlog
from msgspec.structs import replace

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import NotFound
from headwater.catalog.profiles import ProfileSchema
from headwater.profiles.components import Sets
from headwater.profiles.constraints import Constraints
from headwater.profiles.linking import LinkComparison
from headwater.profiles.renaming import AttributeRenamer
from headwater.profiles.scanning import Scan
from headwater.profiles.settings import ResolutionContext
from headwater.profiles.slices import SliceResolver
from headwater.profiles.spool import MemberSpool
from headwater.profiles.unresolved import Drained, resolve_unresolved
from headwater.state import StateStore
from headwater.state.profiles.model import Evidence, ProfileChanges, RefusedEvidence, no_changes
from headwater.state.profiles.resolving import LinkKey, LinkRow, MemberTuple, NewProfiles, ResolutionRows
from headwater.state.profiles.sorting import LinkSorter

SCAN_IDENTITIES: Final = 5_000
"""Number of identities that are read together."""
SLICE_LINKS: Final = 20_000
"""Number of links that are compared, and at most written, together."""
SLICE_IDENTITIES: Final = 8_000
"""Number of identities whose profiles are updated in one transaction, some 0.1 s, in which batches wait. Larger ones
write fewer pages. A set that belongs together is not divided."""
SLICE_MEMBERS: Final = 30_000
"""Number of members of new profiles that are written in one transaction, some 0.1 s. Fewer write more pages: the index
by profile changes in most of its pages."""
KPIDS_PER_PREFIX: Final = 4_000
"""Number of new profiles whose kpids have the same prefix."""
_RANDOM_BYTES: Final = 14
"""Number of bytes of a kpid after its prefix."""
_UUID_VERSION: Final = 4 << 76 | 2 << 62
_UUID_MASK: Final = ~(0xF << 76 | 3 << 62)
SLICE_RENAMES: Final = 2_000
"""Number of identities whose attributes are renamed in one transaction."""
SLICE_UNRESOLVED: Final = 200
"""Number of identities, changed meanwhile, that the first transaction resolves. Later ones grow, so that they end."""

Report = Callable[[int, int], Awaitable[None]]
"""Is called with the number of identities that are done, and of all. It may raise to stop the resolution."""
_Result = TypeVar("_Result")

_log = structlog.get_logger(__name__)


class KpidSource:
    """Returns the bytes of random UUIDs, version 4.

    Those of `KPIDS_PER_PREFIX` successive calls have the same first two bytes, which are random too, and 106 other
    random bits. So the index of profiles by kpid changes in a few pages for each slice, and not in one for each
    profile.
    """

    def __init__(self) -> None:
        self._prefix = b""
        self._random = b""
        self._left = 0

    def __call__(self) -> bytes:
        """Return the next one."""
        if not self._left:
            self._prefix, self._random = urandom(2), urandom(KPIDS_PER_PREFIX * _RANDOM_BYTES)
            self._left = KPIDS_PER_PREFIX
        self._left -= 1
        start = self._left * _RANDOM_BYTES
        value = int.from_bytes(self._prefix + self._random[start : start + _RANDOM_BYTES])
        return (value & _UUID_MASK | _UUID_VERSION).to_bytes(16)


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
        new_kpid: Callable[[], bytes] | None = None,
    ) -> None:
        self._state = state
        self._context = context
        self._workspace = context.workspace
        self._schema = schema
        self._clock = clock
        self._report = report
        self._new_kpid = new_kpid or KpidSource()
        self._has_written = False
        self._profiles = 0
        """The number of profiles after the last transaction."""
        self._new_ids: list[int] = []
        """Ids for new profiles, in descending order."""

    async def run(self) -> None:
        """Resolve all identities.

        Raises Unavailable, NotFound if the workspace is deleted meanwhile, and what `report` raises.
        """
        self._has_written = False
        await self._rename()
        with closing(LinkSorter()) as sorter, TemporaryFile() as file:
            scan = Scan(self._context, sorter, MemberSpool(file))
            await self._scan(scan)
            await self._adopt_profiles(scan)
            await self._clear_deleted(scan)
            await self._update_links(scan)
            await self._update_refusals(scan)
            await self._update_profiles(scan)
            await self._write_members(scan)
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

    async def _scan(self, scan: Scan) -> None:
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
        async with _OneAhead() as taking:
            while True:
                rows = await self._read(
                    partial(
                        ResolutionRows.scan, workspace=workspace, after=after, through=through, limit=SCAN_IDENTITIES
                    )
                )
                if not rows:
                    break
                await taking.wait()
                taking.start(asyncio.to_thread(scan.take, rows))
                after = rows[-1][0]
                await self._report(len(scan.ids) // 2, max(total, len(scan.ids)))
        scan.sets = await asyncio.to_thread(Sets, len(scan.ids))

    async def _adopt_profiles(self, scan: Scan) -> None:
        """Give each profile without members, which a killed resolution has left, to the identity for which it was made.
        Delete it if that is gone or has another one."""
        if await self._read(lambda rows: rows.applied(self._workspace)) is not None:
            return
        last: int | None = 0
        while last is not None:
            empty, last = await self._read(
                partial(ResolutionRows.empty_profiles, workspace=self._workspace, after=last, limit=SCAN_IDENTITIES)
            )
            changes = no_changes(self._workspace)
            changes.removed_profiles.extend(id_ for id_, founder in empty.items() if not scan.adopt(id_, founder))
            if changes.removed_profiles:
                await self._change(partial(ResolutionRows.write, changes=changes))

    async def _clear_deleted(self, scan: Scan) -> None:
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
            unknown = [id_ for id_ in ids if scan.find(id_) is None]
            members = await self._read(partial(ResolutionRows.members, identities=unknown))
            for member in members:
                scan.deleted.setdefault(member.profile, []).append(replace(member, evidence=none))
            present = [member.identity for member in members]
            waiting = await self._read(partial(ResolutionRows.waiting, identities=present))
            scan.replaced.update(id_ for id_, successor in waiting.items() if successor)
            changes = no_changes(self._workspace)
            changes.members.extend(replace(member, evidence=none) for member in members if member.evidence != none)
            if changes.members:
                await self._change(partial(ResolutionRows.write, changes=changes))
            is_last = len(ids) < SCAN_IDENTITIES
            after = ids[-1] if ids else after

    # Links

    async def _update_links(self, scan: Scan) -> None:
        links = LinkComparison(scan)
        key: LinkKey | None = None
        is_last = False
        async with _OneAhead() as writing:
            while not is_last:
                stored = await self._read(
                    partial(ResolutionRows.links_after, workspace=self._workspace, key=key, limit=SLICE_LINKS)
                )
                is_last = len(stored) < SLICE_LINKS
                key = stored[-1][:3] if stored else None
                if key is not None:
                    await self._compare_links(links, stored, key, writing)
            await self._compare_links(links, [], None, writing)

    async def _compare_links(
        self, links: LinkComparison, stored: list[LinkRow], upper: LinkKey | None, writing: "_OneAhead"
    ) -> None:
        links.start(stored, upper)
        is_done = False
        while not is_done:
            written, removed, is_done = await asyncio.to_thread(links.compare, SLICE_LINKS)
            await writing.wait()
            if written or removed:
                change = partial(_write_links, workspace=self._workspace, written=written, removed=removed)
                writing.start(self._change(change))
            await self._report(links.identities // 2, links.identities)

    # Refused values

    async def _update_refusals(self, scan: Scan) -> None:
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
            changes = no_changes(self._workspace)
            changes.refused.extend(refused[start : start + SLICE_LINKS])
            changes.removed_refused.extend(removed[start : start + SLICE_LINKS])
            await self._change(partial(ResolutionRows.write, changes=changes))

    # Profiles

    async def _update_profiles(self, scan: Scan) -> None:
        separations, has_refused = await self._read(
            lambda rows: (
                rows.all_separations(self._workspace),
                rows.has_refused(self._workspace, ("TooManyValues", "Separated")),
            )
        )
        constraints = Constraints(self._context.settings, separations)
        resolver = SliceResolver(self._context, scan, constraints, has_refused=has_refused, new_kpid=self._new_kpid)
        done, total = 0, len(scan.ids)
        await asyncio.to_thread(scan.group)
        async with _OneAhead() as writing:
            for numbers in scan.slices(SLICE_IDENTITIES):
                slice_ = await self._read(partial(resolver.read, numbers=numbers))
                missing = slice_.new_profiles - len(self._new_ids)
                if missing > 0:
                    await writing.wait()
                    await self._add_ids(max(missing, SLICE_IDENTITIES))
                changes, new = await asyncio.to_thread(resolver.resolve, slice_, self._now(), self._take_ids)
                await writing.wait()
                if new.profiles or not changes.are_none:
                    writing.start(self._change(partial(_write_slice, changes=changes, new=new)))
                done += len(numbers)
                await self._report((total + done) // 2, total)

    async def _write_members(self, scan: Scan) -> None:
        """Write the members of the new profiles."""
        parts = scan.new_members(self._workspace)
        is_last = False
        async with _OneAhead() as writing:
            while not is_last:
                members, is_last = await asyncio.to_thread(_join, parts, SLICE_MEMBERS)
                await writing.wait()
                if members:
                    writing.start(self._change(partial(ResolutionRows.insert_members, members=members)))
                await self._report(len(scan.ids), len(scan.ids))

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

    async def _change(self, change: Callable[[ResolutionRows], None]) -> None:
        """Write something in a transaction. The first one deletes the applied digest.

        Raises NotFound if profiles are missing since the last one: only the deletion of the workspace deletes some.
        """
        workspace, has_written, self._has_written = self._workspace, self._has_written, True

        def write(rows: ResolutionRows) -> None:
            if not has_written and rows.applied(workspace) is not None:
                rows.set_resolution(workspace, None, rows.checkpoint(workspace))
            if has_written and rows.count_profiles(workspace) != self._profiles:
                raise NotFound(f"workspace {workspace} does not exist")
            change(rows)
            self._profiles = rows.count_profiles(workspace)

        await self._write(write)

    def _now(self) -> int:
        return microseconds(self._clock.now())


class _OneAhead:
    """Lets one write execute during the preparation of the next one. The block ends after the last write."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.wait()
        elif self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def wait(self) -> None:
        """Wait for the write. Raises its error."""
        if self._task is not None:
            await self._task
            self._task = None

    def start(self, write: Coroutine[Any, Any, None]) -> None:
        """Let a write execute."""
        self._task = asyncio.create_task(write)


def _write_links(rows: ResolutionRows, workspace: int, written: list[LinkRow], removed: list[LinkKey]) -> None:
    rows.write_links(workspace, written, removed)


def _write_slice(rows: ResolutionRows, changes: ProfileChanges, new: NewProfiles) -> None:
    if not changes.are_none:
        rows.write(changes)
    rows.insert_profiles(new)


def _join(parts: Iterator[list[MemberTuple]], size: int) -> tuple[list[MemberTuple], bool]:
    """Return the next parts with at least `size` members together, and whether they are the last."""
    members: list[MemberTuple] = []
    for part in parts:
        members += part
        if len(members) >= size:
            return members, False
    return members, True
