"""The identities of a workspace during a resolution of all of them, in arrays: some forty bytes for each."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from headwater.profiles.components import Sets
from headwater.profiles.evidence import SAME_NAME
from headwater.profiles.settings import ResolutionContext
from headwater.profiles.spool import MemberSpool, NewMember
from headwater.state.profiles.model import Evidence, LinkValue, Member
from headwater.state.profiles.resolving import MemberTuple, ScannedRow
from headwater.state.profiles.rows import encode_evidence
from headwater.state.profiles.sorting import LinkSorter, NumberedLink

MAX_SPAN: Final = 8
"""If the ids of the profiles are within so many times the number of identities, an array finds them."""


class Scan:
    """The identities of a workspace in arrays, by their numbers in the order of age, and their sorted links."""

    def __init__(self, context: ResolutionContext, sorter: LinkSorter, spool: MemberSpool) -> None:
        self.settings = context.settings
        self.sorter = sorter
        self.spool = spool
        self.ids = array("q")
        self.profiles = array("q")
        """The profile of each; 0 if it is in none."""
        self.digests = array("q")
        """A hash of the attributes of each, by which a later change is noticed."""
        self.differs = bytearray()
        """Whether the stored evidence of each is another one."""
        self.are_new = bytearray()
        """Whether the profile of each is a new one, whose members are not written with it."""
        self.deleted: dict[int, list[Member]] = {}
        """The members, by profile, whose identities were deleted before they were scanned."""
        self.replaced: set[int] = set()
        """Those of them that have successors."""
        self.shared: set[int] = set()
        """The connections in which several identities can have one name."""
        self.sets = Sets(0)
        self.over: set[LinkValue] = set()
        self.blocked: dict[LinkValue, None] = {}
        self.components = array("i")
        """A number for the component of each."""
        self._roots = array("i")
        """The first identity of the region of each."""
        self._following = array("i")
        """The next identity of the region of each; 0 for the last."""
        self._reader = context.reader
        self._has_blocks = any(each.blocked_values or each.blocked_presets for each in context.settings.identifiers)

    def take(self, rows: Sequence[ScannedRow]) -> None:
        """Add identities."""
        links: list[NumberedLink] = []
        members: list[NewMember] = []
        add = links.append
        start, shared, differs = len(self.ids), self.shared, self.differs
        self.ids.extend([row[0] for row in rows])
        self.profiles.extend([row[5] or 0 for row in rows])
        self.digests.extend([hash(row[4]) for row in rows])
        differs.extend(b"\x01" * len(rows))
        self.are_new.extend(bytes(len(rows)))
        found = self._reader.read_all([row[4] for row in rows])
        for number, (row, evidence) in enumerate(zip(rows, found, strict=True), start):
            id_, source, identity_id, is_anonymous, attributes, _, stored = row
            if stored is None:
                members.append((number, id_, source, identity_id, is_anonymous, evidence))
            elif encode_evidence(evidence) == stored:
                differs[number] = False
            mask, bit = 0, 1
            for index, value in enumerate(evidence):
                if value is not None:
                    add((index, value, number, mask))
                    mask |= bit
                bit <<= 1
            if source in shared:
                add((SAME_NAME, f"{source} {int(is_anonymous)} {identity_id}", number, 0))
            if self._has_blocks:
                self.blocked.update(dict.fromkeys(self._reader.blocked(attributes)))
        self.sorter.add(links)
        self.spool.add(members)

    def find(self, identity: int) -> int | None:
        """Return the number of an identity; None if it was not scanned."""
        number = bisect_left(self.ids, identity)
        return number if number < len(self.ids) and self.ids[number] == identity else None

    def adopt(self, profile: int, identity: int) -> bool:
        """Give a profile to an identity that is in none. Return False if that is not possible."""
        number = self.find(identity)
        if number is None or self.profiles[number]:
            return False
        self.profiles[number] = profile
        return True

    def set_new(self, numbers: Sequence[int], profile: int) -> None:
        """Set the new profile of identities that are in none."""
        for number in numbers:
            self.profiles[number] = profile
            self.are_new[number] = True

    def new_members(self, workspace: int) -> Iterator[list[MemberTuple]]:
        """Yield the members of the new profiles in the order of age, some thousand at a time."""
        profiles, are_new = self.profiles, self.are_new
        for members in self.spool.read():
            yield [
                (id_, workspace, source, identity_id, is_anonymous, encode_evidence(evidence), profiles[number])
                for number, id_, source, identity_id, is_anonymous, evidence in members
                if are_new[number]
            ]

    def read_evidence(self, number: int) -> Evidence:
        """Return the evidence that an identity had at the scan."""
        evidence: list[str | None] = [None] * len(self.settings.identifiers)
        for identifier, value in self.sorter.find_links(number):
            if identifier != SAME_NAME:
                evidence[identifier] = value
        return tuple(evidence)

    def group(self) -> None:
        """Find the regions: sets of present profiles and new components that no link leaves."""
        size = len(self.ids)
        regions = Sets(size)
        self.components = array("i", map(self.sets.find, range(size)))
        for number, root in enumerate(self.components):
            if root != number:
                regions.unite(root, number)
        self._unite_profiles(regions)
        self._roots = array("i", map(regions.find, range(size)))
        # The numbers of a region are chained. Sorting them would keep other threads waiting for half a second.
        self._following = array("i", bytes(4 * size))
        last = array("i", range(size))
        for number, root in enumerate(self._roots):
            if root != number:
                self._following[last[root]] = number
                last[root] = number

    def _unite_profiles(self, regions: Sets) -> None:
        """Unite the identities of each profile."""
        lowest = min((profile for profile in self.profiles if profile), default=0)
        span = max(self.profiles, default=0) - lowest + 1
        if span <= MAX_SPAN * len(self.ids):  # a dictionary of a million takes 100 MB
            first = array("i", bytes(4 * span))
            for number, profile in enumerate(self.profiles):
                if profile and (other := first[profile - lowest]):
                    regions.unite(other - 1, number)
                elif profile:
                    first[profile - lowest] = number + 1
            return
        numbers: dict[int, int] = {}
        for number, profile in enumerate(self.profiles):
            if profile and (other := numbers.setdefault(profile, number)) != number:
                regions.unite(other, number)

    def slices(self, size: int) -> Iterator[list[int]]:
        """Yield the numbers of all identities in slices of complete regions, each with at least `size` identities."""
        slice_: list[int] = []
        for number, root in enumerate(self._roots):
            if root != number:
                continue
            if len(slice_) >= size:
                yield slice_
                slice_ = []
            slice_.append(number)
            while number := self._following[number]:
                slice_.append(number)
        if slice_:
            yield slice_
