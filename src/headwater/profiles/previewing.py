"""Compares the profiles of a workspace with those that other settings would make, and writes nothing.

It scans the identities by age, like a resolution of all identities, a slice at a time: identities that change meanwhile
may count as before or as after. The work is done in a thread, in steps of some 20 ms, and the links are sorted on disk.
The memory is some sixty bytes an identity, and a hundred more for each profile during the scan.
"""

import asyncio
import heapq
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import or_
from typing import Final, ParamSpec, TypeVar

from msgspec import Struct

from headwater.base.errors import Unprocessable
from headwater.catalog.profiles import ProfileSchema, ResolutionSettings
from headwater.profiles.components import Sets, unite_holders
from headwater.profiles.constraints import Constraints, divide
from headwater.profiles.evidence import SAME_NAME, EvidenceReader
from headwater.state import StateStore
from headwater.state.profiles.model import IdentityRow, LinkValue, Member, Separation
from headwater.state.profiles.resolving import ResolutionRows, ScannedRow
from headwater.state.profiles.sorting import LinkSorter, NumberedLink

MAX_SECONDS: Final = 60.0
"""Maximum duration of a preview."""
SCAN_IDENTITIES: Final = 2_000
"""Number of identities that are read together."""
SLICE_LINKS: Final = 10_000
"""Number of links that are read together."""
SLICE_NUMBERS: Final = 50_000
"""Number of identities that are compared together."""
MAX_LISTED: Final = 10
"""Number of the largest profiles, and of the most shared values of each identifier, that are returned."""
MAX_DIVIDED: Final = 100_000
"""Maximum number of identities in the sets that a guard or a separation divides."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class SharedValue(Struct, frozen=True):
    """A value that several identities have."""

    value: LinkValue
    identities: int
    links: bool
    """Whether it links them: it does not exceed the limit of its identifier."""


class PreviewedProfile(Struct, frozen=True):
    """A profile that there would be."""

    identities: int
    profiles: int
    """The number of present profiles with an identity in it."""
    kpid: bytes | None
    """The id of the profile of its oldest identity; None if that has none."""


class Preview(Struct, frozen=True, kw_only=True):
    """The difference that settings would make."""

    identities: int
    before: int
    """The number of present profiles."""
    after: int
    """The number of profiles that there would be."""
    merged: int
    """The number of present profiles that would be united with others, as a whole or in part."""
    split: int
    """The number of present profiles that would be divided."""
    changed: int
    """The number of present profiles that would be united or divided."""
    largest: list[PreviewedProfile]
    shared: list[SharedValue]
    """The most shared values of each identifier, in the order of the identifiers."""


async def preview(
    state: StateStore,
    workspace: int,
    settings: ResolutionSettings,
    schema: ProfileSchema | None,
    *,
    seconds: float = MAX_SECONDS,
) -> Preview:
    """Return the difference that the settings would make to the profiles of a workspace.

    Raises Unprocessable with TooExpensive if that takes too long, and Unavailable.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    sorter = LinkSorter()
    try:
        scan = _Scan(settings, schema, sorter)
        await _read(state, workspace, scan, deadline)
        await _advance(scan.unite, deadline)
        separations = await state.read_profiles(lambda rows: rows.all_separations(workspace))
        constraints = Constraints(settings, separations)
        if not constraints.are_none:
            await _advance(scan.count_values, deadline)
            named = await _named(state, scan, separations)
            members = await _members(state, scan, await _in_thread(scan.broken, named), deadline)
            await _in_thread(scan.divide, members, constraints)
        comparison = _Comparison(scan)
        await _advance(comparison.advance, deadline)
        sizes = await _in_thread(comparison.largest)
    finally:
        await _in_thread(sorter.close)
    ids = [profile for _, _, profile in sizes if profile]
    kpids = await state.read_profiles(lambda rows: {row.id: row.kpid for row in rows.profiles(ids)})
    return Preview(
        identities=len(scan.ids),
        before=comparison.before,
        after=comparison.after,
        merged=comparison.merged,
        split=comparison.split,
        changed=comparison.changed,
        largest=[PreviewedProfile(identities, profiles, kpids.get(id_)) for identities, profiles, id_ in sizes],
        shared=scan.most_shared(),
    )


async def _read(state: StateStore, workspace: int, scan: "_Scan", deadline: float) -> None:
    scan.shared_connections = await state.read_profiles(lambda rows: rows.shared_connections(workspace))
    after = 0
    while True:
        _check(deadline)
        rows = await state.read_profiles(
            partial(ResolutionRows.scan, workspace=workspace, after=after, limit=SCAN_IDENTITIES)
        )
        if not rows:
            break
        await _in_thread(scan.take, rows)
        after = rows[-1][0]
    await _in_thread(scan.end)


async def _named(state: StateStore, scan: "_Scan", separations: Sequence[Separation]) -> set[int]:
    """Return the numbers of the identities that separations name."""
    names = [name for separation in separations for side in separation.sides for name in side]
    named: set[int] = set()
    for start in range(0, len(names), SCAN_IDENTITIES):
        some = names[start : start + SCAN_IDENTITIES]
        found = await state.read_profiles(partial(ResolutionRows.identities_named, names=some))
        for id_ in chain.from_iterable(found.values()):
            number = bisect_left(scan.ids, id_)
            if number < len(scan.ids) and scan.ids[number] == id_:
                named.add(number)
    return named


async def _members(state: StateStore, scan: "_Scan", numbers: Sequence[int], deadline: float) -> list[Member]:
    """Return identities as members, but for those that were deleted meanwhile."""
    members: list[Member] = []
    for start in range(0, len(numbers), SCAN_IDENTITIES):
        _check(deadline)
        by_id = {scan.ids[number]: number for number in numbers[start : start + SCAN_IDENTITIES]}
        rows = await state.read_profiles(partial(ResolutionRows.identities, ids=by_id))
        members += await _in_thread(scan.read_members, by_id, rows)
    return sorted(members, key=lambda member: member.identity)


async def _advance(step: Callable[[], bool], deadline: float) -> None:
    """Call a step in a thread until it returns False. Raises Unprocessable with TooExpensive."""
    while await _in_thread(step):
        _check(deadline)


def _check(deadline: float) -> None:
    if asyncio.get_running_loop().time() > deadline:
        raise _too_expensive("takes too long: the workspace has too many identities")


def _too_expensive(reason: str) -> Unprocessable:
    return Unprocessable("TooExpensive", f"the preview was given up: it {reason}", field="validateOnly")


async def _in_thread(
    function: Callable[_Parameters, _Result], *arguments: _Parameters.args, **keywords: _Parameters.kwargs
) -> _Result:
    """Run a function in a thread. If the caller is cancelled, wait for its end: it uses the sorter."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **keywords))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class _Scan:
    """The identities of a workspace in arrays, by their numbers in the order of age, and their parts.

    A part is a profile that there would be.
    """

    def __init__(self, settings: ResolutionSettings, schema: ProfileSchema | None, sorter: LinkSorter) -> None:
        self.ids = array("q")
        self.profiles = array("q")
        """The profile of each identity; 0 if it is in none."""
        self.firsts = array("q")
        """The number of the first identity of its profile, or its own if it is in none."""
        self.parts = array("q")
        """The number of the oldest identity of the profile in which each identity would be."""
        self.shared_connections: set[int] = set()
        """The connections in which several identities can have one name."""
        self._settings = settings
        self._reader = EvidenceReader(settings, None if schema is None else schema.schema)
        self._sorter = sorter
        self._sets = Sets(0)
        self._first_of_profile: dict[int, int] = {}
        self._over: set[LinkValue] = set()
        self._shared: list[list[tuple[int, str]]] = [[] for _ in settings.identifiers]
        """For each identifier a heap of the most shared values: the number of their holders, and the value."""
        self._value: tuple[int, str] = (SAME_NAME, "")
        self._holders: list[tuple[int, int]] = []
        self._counts: dict[int, array[int]] = {}
        """For each limited identifier the number of values in each part."""
        self._is_counting = False

    def take(self, rows: Sequence[ScannedRow]) -> None:
        """Add identities."""
        links: list[NumberedLink] = []
        add = links.append
        start, shared = len(self.ids), self.shared_connections
        self.ids.extend([row[0] for row in rows])
        found = self._reader.read_all([row[4] for row in rows])
        for number, (row, evidence) in enumerate(zip(rows, found, strict=True), start):
            _, source, identity_id, is_anonymous, _, profile, _ = row
            self.profiles.append(profile or 0)
            self.firsts.append(self._first_of_profile.setdefault(profile, number) if profile else number)
            mask, bit = 0, 1
            for index, value in enumerate(evidence):
                if value is not None:
                    add((index, value, number, mask))
                    mask |= bit
                bit <<= 1
            if source in shared:
                add((SAME_NAME, f"{source} {int(is_anonymous)} {identity_id}", number, 0))
        self._sorter.add(links)

    def end(self) -> None:
        """Complete the scan."""
        self._first_of_profile = {}
        size = len(self.ids)
        self._sets = Sets(size)
        self._counts = {
            index: array("i", bytes(4 * size))
            for index, identifier in enumerate(self._settings.identifiers)
            if identifier.max_values is not None
        }

    def unite(self) -> bool:
        """Unite the holders of some values; return False at the end."""
        links = self._sorter.take(SLICE_LINKS)
        for identifier, value, number, mask in links:
            if (identifier, value) != self._value:
                self._unite()
                self._value = (identifier, value)
            self._holders.append((number, mask))
        if links:
            return True
        self._unite()
        self.parts = array("q", map(self._sets.find, range(len(self.ids))))
        return False

    def _unite(self) -> None:
        """Unite the holders of the value whose links have all been read."""
        holders, self._holders = self._holders, []
        if len(holders) < 2:
            return
        identifier, value = self._value
        if identifier == SAME_NAME:
            for number, _ in holders:
                self._sets.unite(holders[0][0], number)
            return
        heap = self._shared[identifier]
        heapq.heappush(heap, (len(holders), value))
        if len(heap) > MAX_LISTED:
            heapq.heappop(heap)
        if len(holders) > self._settings.identifiers[identifier].max_identities:
            self._over.add(LinkValue(identifier, value))
        else:
            unite_holders(holders, self._sets.unite)

    def count_values(self) -> bool:
        """Count some values of the parts for identifiers with a maximum; return False at the end."""
        if not self._counts:
            return False
        if not self._is_counting:
            self._sorter.take_again(self._counts)
            self._is_counting = True
        links = self._sorter.take(SLICE_LINKS)
        for identifier, value, number, _ in links:
            if (identifier, value) != self._value:
                self._count()
                self._value = (identifier, value)
            self._holders.append((number, 0))
        if not links:
            self._count()
        return bool(links)

    def _count(self) -> None:
        holders, self._holders = self._holders, []
        if (counts := self._counts.get(self._value[0])) is not None:
            for part in {self.parts[number] for number, _ in holders}:
                counts[part] += 1

    def broken(self, named: Collection[int]) -> list[int]:
        """Return the numbers of the identities in parts that may break a constraint. `named` are those of the
        identities that separations name. Raises Unprocessable with TooExpensive."""
        broken = {self.parts[number] for number in named}
        for index, counts in self._counts.items():
            limit = self._settings.identifiers[index].max_values or 0
            broken.update(part for part, values in enumerate(counts) if values > limit)
        numbers = [number for number, part in enumerate(self.parts) if part in broken] if broken else []
        if len(numbers) > MAX_DIVIDED:
            raise _too_expensive(f"divides profiles with more than {MAX_DIVIDED} identities")
        return numbers

    def read_members(self, numbers: Mapping[int, int], rows: Sequence[IdentityRow]) -> list[Member]:
        """Return identities as members. Their ids are their numbers, which are in the order of age too."""
        return [
            Member(number, row.name, self._reader.read(row.attributes), self.profiles[number])
            for number, row in ((numbers[row.id], row) for row in rows)
        ]

    def divide(self, members: Sequence[Member], constraints: Constraints) -> None:
        """Divide the parts of these members, sorted by age, that break a constraint."""
        groups: dict[int, list[Member]] = {}
        for member in members:
            groups.setdefault(self.parts[member.identity], []).append(member)
        for group in groups.values():
            if constraints.allow(group):
                continue
            for divided in divide(group, self._over, constraints)[0]:
                for member in divided:
                    self.parts[member.identity] = divided[0].identity

    def most_shared(self) -> list[SharedValue]:
        """Return the most shared values of each identifier."""
        return [
            SharedValue(LinkValue(index, value), count, LinkValue(index, value) not in self._over)
            for index, heap in enumerate(self._shared)
            for count, value in sorted(heap, key=lambda entry: (-entry[0], entry[1]))
        ]


class _Comparison:
    """Compares the present profiles with the parts of a scan."""

    def __init__(self, scan: _Scan) -> None:
        size = len(scan.ids)
        self._scan = scan
        self._sizes = array("i", bytes(4 * size))
        """The number of identities of each part."""
        self._profile_of_part = array("q", bytes(8 * size))
        """The first identity, plus 1, of the first profile that has an identity in a part; 0 for none."""
        self._part_of_profile = array("q", bytes(8 * size))
        """The first part, plus 1, that has an identity of a profile; 0 for none."""
        self._is_shared = bytearray(size)
        """Whether a part has identities of several profiles."""
        self._is_split = bytearray(size)
        """Whether a profile has identities in several parts."""
        self._is_merged = bytearray(size)
        """Whether a profile has identities in a shared part."""
        self._next = 0
        self.before = 0
        self.after = 0

    @property
    def merged(self) -> int:
        return self._is_merged.count(1)

    @property
    def split(self) -> int:
        return self._is_split.count(1)

    @property
    def changed(self) -> int:
        return sum(map(or_, self._is_merged, self._is_split))

    def advance(self) -> bool:
        """Compare some identities; return False at the end. Each is looked at twice."""
        size = len(self._scan.ids)
        start, end = self._next, self._next + SLICE_NUMBERS
        self._next = end
        for number in range(start, min(end, size)):
            self._compare(number)
        for number in range(max(start - size, 0), min(end - size, size)):
            profile = self._scan.firsts[number]
            if self._scan.profiles[number] and self._is_shared[self._scan.parts[number]]:
                self._is_merged[profile] = 1
        return end < 2 * size

    def _compare(self, number: int) -> None:
        part, profile = self._scan.parts[number], self._scan.firsts[number]
        self._sizes[part] += 1
        self.after += number == part
        if not self._scan.profiles[number]:
            return
        self.before += number == profile
        if not self._profile_of_part[part]:
            self._profile_of_part[part] = profile + 1
        elif self._profile_of_part[part] != profile + 1:
            self._is_shared[part] = 1
        if not self._part_of_profile[profile]:
            self._part_of_profile[profile] = part + 1
        elif self._part_of_profile[profile] != part + 1:
            self._is_split[profile] = 1

    def largest(self) -> list[tuple[int, int, int]]:
        """Return the largest parts: the numbers of their identities and of present profiles, and the id of the profile
        of the oldest identity, 0 for none."""
        sizes, scan = self._sizes, self._scan
        parts = heapq.nsmallest(MAX_LISTED, range(len(sizes)), key=lambda part: (-sizes[part], part))
        profiles: dict[int, set[int]] = {part: set() for part in parts if sizes[part]}
        for number, part in enumerate(scan.parts):
            if part in profiles and scan.profiles[number]:
                profiles[part].add(scan.profiles[number])
        return [(sizes[part], len(found), scan.profiles[part]) for part, found in profiles.items()]
