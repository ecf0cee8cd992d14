"""The unfinished items of a lane, and which of their documents are in memory.

An item is warm while its document is in memory, and cold otherwise. The lane makes items cold that cannot be sent soon,
and requests their documents again when they can.
"""

from collections import deque
from heapq import heappop, heappush
from typing import Final

from headwater.delivery.items import LaneItem, LaneLimits
from headwater.delivery.ordering import FINISHED, MISSING, WAITING, Entry

CROWDED_BYTES_SHARE: Final = 0.75
"""Share of the bytes from which items that wait for others become cold."""
TYPICAL_BYTES: Final = 1_000
"""Assumed size of a document before the first ones are known."""
_SLACK: Final = 1_024


class Window:
    """The unfinished items of one lane."""

    def __init__(self, limits: LaneLimits) -> None:
        self.limits = limits
        self.entries: dict[int, Entry] = {}
        self.items = 0
        """The number of warm items."""
        self.bytes = 0
        self.requested = 0
        """The number of cold items whose documents the caller is loading."""
        self._withdrawn: set[int] = set()
        """Numbers of items that expired while the caller was loading their documents."""
        self._average_bytes = float(TYPICAL_BYTES)
        self._missing: list[tuple[int, Entry]] = []
        """A heap of the items that wait for their documents. It can have obsolete elements."""
        self._by_age: deque[Entry] = deque()
        """The items in the order in which they were added. It can have finished ones."""

    @property
    def cold(self) -> int:
        return len(self.entries) - self.items

    def is_full(self) -> bool:
        return self.items >= self.limits.max_items or self.bytes >= self.limits.max_bytes

    def is_crowded(self, waiting: int) -> bool:
        """Whether an item that has to wait should be cold. `waiting` is the number of warm items that wait."""
        limits = self.limits
        return 2 * waiting >= limits.max_items or self.bytes >= CROWDED_BYTES_SHARE * limits.max_bytes

    def room(self) -> int:
        """Return the number of further documents for which there is space, by their average size."""
        if self.is_full():
            return 0
        limits = self.limits
        items = min(limits.max_items - self.items, 1 + int((limits.max_bytes - self.bytes) / self._average_bytes))
        return max(items - self.requested, 0)

    def add(self, entry: Entry) -> None:
        """Add a warm item."""
        assert entry.item is not None
        self.entries[entry.number] = entry
        self._count(entry.item)
        self._by_age.append(entry)
        if len(self._by_age) > 2 * len(self.entries) + _SLACK:
            self._by_age = deque([each for each in self._by_age if each.state != FINISHED])

    def cool(self, entry: Entry) -> None:
        """Drop the document of a warm item."""
        assert entry.item is not None
        self.items -= 1
        self.bytes -= len(entry.item.encoded.body)
        entry.item = None

    def warm(self, entry: Entry, item: LaneItem) -> None:
        """Take the document that was requested, unless there is no space for it."""
        entry.is_requested = False
        self.requested -= 1
        if not self.is_full():
            entry.item = item
            self._count(item)

    def _count(self, item: LaneItem) -> None:
        size = len(item.encoded.body)
        self.items += 1
        self.bytes += size
        self._average_bytes += (size - self._average_bytes) / 16

    def is_withdrawn(self, number: int) -> bool:
        """Whether the item expired after its document was requested. The request ends with this call."""
        if number not in self._withdrawn:
            return False
        self._withdrawn.remove(number)
        return True

    def remove(self, entry: Entry, *, expired: bool = False) -> None:
        """Remove an item."""
        del self.entries[entry.number]
        if entry.item is not None:
            self.cool(entry)
        elif entry.is_requested:
            self.requested -= 1
            if expired:
                self._withdrawn.add(entry.number)

    def oldest(self) -> Entry | None:
        """Return the unfinished item that was added first."""
        by_age = self._by_age
        while by_age and by_age[0].state == FINISHED:
            by_age.popleft()
        return by_age[0] if by_age else None

    def miss(self, entry: Entry) -> None:
        """Put a cold item among those whose documents are to be requested."""
        entry.state = MISSING
        heappush(self._missing, (entry.number, entry))

    def request(self, room: int, ahead: int, now: float) -> list[int]:
        """Request documents: the earliest missing ones, each with up to `ahead` of the items that wait only for it."""
        numbers: list[int] = []
        missing = self._missing
        while missing and len(numbers) < room:
            entry = heappop(missing)[1]
            if entry.state != MISSING or entry.is_requested:
                continue
            numbers += self._request_with_followers(entry, min(ahead, room - len(numbers)), now)
        self.requested += len(numbers)
        return numbers

    def _request_with_followers(self, first: Entry, most: int, now: float) -> list[int]:
        chain = [first]
        first.is_requested = True
        for entry in chain:
            for each in entry.followers:
                if len(chain) >= most:
                    break
                is_next = each.state == WAITING and each.waits == 1 and each.until <= now
                if is_next and each.item is None and not each.is_requested:
                    each.is_requested = True
                    chain.append(each)
        return [each.number for each in chain]
