"""Decides which item waits for which: an item waits for each earlier unfinished item that shares a key with it.

Only the last item of each key is known. That is enough: it waits for the one before it, and so on. An item that is
finished while it still waits for another, because it was removed or was delivered behind it in one request, stays in
the chain until that other is finished.
"""

from collections.abc import Sequence
from typing import Final, Literal

from headwater.connectors.contract import ItemResult
from headwater.delivery.items import LaneItem

State = Literal[0, 1, 2, 3, 4, 5]
WAITING: Final = 0
"""For earlier items with its keys."""
DELAYED: Final = 1
"""For a time of its own."""
MISSING: Final = 2
"""For its document, which is not in memory."""
READY: Final = 3
BUSY: Final = 4
"""In a batch."""
FINISHED: Final = 5


class Entry:
    """An item of the lane. One exists for each unfinished item, so it is small.

    `item` is None while its document is not in memory. `waits` is the number of unfinished items that it waits for, and
    `followers` are the items that wait for it. `until` is the time before which it is not sent, after the last `delay`.
    `max_batch` is the size of its next batch, if one that contained it had to be halved; 0 if not.
    """

    __slots__ = (
        "attempts",
        "delay",
        "enqueued_at",
        "followers",
        "is_removed",
        "is_requested",
        "item",
        "last",
        "max_batch",
        "number",
        "order_keys",
        "pipeline",
        "state",
        "until",
        "waits",
    )

    def __init__(self, item: LaneItem) -> None:
        self.number = item.number
        self.pipeline = item.pipeline
        self.order_keys: Sequence[int] = item.order_keys
        self.enqueued_at = item.enqueued_at
        self.item: LaneItem | None = item
        self.state: State = WAITING
        self.waits = 0
        self.followers: tuple[Entry, ...] = ()
        self.until = 0.0
        self.delay = 0.0
        self.attempts = 0
        self.max_batch = 0
        self.last: ItemResult | None = None
        self.is_requested = False
        """Whether its document is being loaded."""
        self.is_removed = False
        """Whether it is to be forgotten when its request ends."""

    def __lt__(self, other: "Entry") -> bool:
        return self.number < other.number


class Ordering:
    """The order of the unfinished items of one destination."""

    def __init__(self) -> None:
        self._last: dict[int, Entry] = {}
        """The last item of each key."""

    def add(self, entry: Entry) -> bool:
        """Put an item behind all others that share a key with it. Returns whether any of those is cold."""
        is_behind_cold = False
        last = self._last
        for key in entry.order_keys:
            before = last.get(key)
            last[key] = entry
            if before is None or before is entry or (before.followers and before.followers[-1] is entry):
                continue
            before.followers += (entry,)
            entry.waits += 1
            is_behind_cold |= before.item is None
        return is_behind_cold

    def finish(self, entry: Entry) -> list[Entry]:
        """Take an item out, and return the items that wait for no other any more."""
        entry.state = FINISHED
        if entry.waits:
            return []
        if not entry.followers:
            self._forget(entry)
            return []
        freed = []
        leaving = [entry]
        for each in leaving:
            self._forget(each)
            for follower in each.followers:
                follower.waits -= 1
                if not follower.waits:
                    if follower.state == FINISHED:
                        leaving.append(follower)
                    elif follower.state == WAITING:
                        freed.append(follower)
            each.followers = ()
        return freed

    def _forget(self, entry: Entry) -> None:
        last = self._last
        for key in entry.order_keys:
            if last.get(key) is entry:
                del last[key]

    def __len__(self) -> int:
        """Return the number of keys that are in use."""
        return len(self._last)
