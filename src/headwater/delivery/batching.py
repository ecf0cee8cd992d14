"""Forms batches from the items that can be sent.

A batch has items of one group: those of one route, and for some destinations of one user. It begins with the oldest
item, and it continues with the next ones of its group. An item that waits only for items of the same batch follows them
in it, so that a user with many events needs few requests.

Within limits, a batch that is not full lingers: it is formed when its group is due. An item that is late already makes
its group due immediately, so nothing lingers in a backlog.
"""

import sys
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final, TypeAlias

from headwater.connectors.contract import SinkPolicy
from headwater.delivery.items import LaneItem
from headwater.delivery.ordering import BUSY, DELAYED, FINISHED, READY, WAITING, Entry
from headwater.delivery.rates import Rates

LATE_SECONDS: Final = 1.0
"""Age from which an item does not linger."""
SUMMARY_SECONDS: Final = 10.0
"""Age from which items are summarised, if the policy demands it."""
MAX_SUMMARY_EVENTS: Final = 1_000

_Key: TypeAlias = str | tuple[str, str] | tuple[str, int]


class Batch:
    """The items of one request, of one route, within the limits of the policy. It is unchanged over all attempts.

    `key` is the item's key if it has a single one, otherwise a hash of the keys of all. `attempt` counts from 1.
    """

    __slots__ = ("attempt", "entries", "era", "events", "items", "key", "round", "route", "sent_at", "was_full")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.items: tuple[LaneItem, ...] = tuple([each.item for each in entries if each.item is not None])
        self.key = self.items[0].key if len(self.items) == 1 else _hash([item.key for item in self.items])
        self.route = self.items[0].encoded.route
        self.events = sum([item.encoded.count for item in self.items])
        self.attempt = 0
        self.era = self.round = 0
        """Those of the breaker and of the concurrency when it was sent."""
        self.sent_at = 0.0
        self.was_full = False
        """Whether its sending used the last free request."""

    @property
    def bytes(self) -> int:
        return sum(len(item.encoded.body) for item in self.items)


def _hash(keys: list[str]) -> str:
    return blake2b("\n".join(keys).encode(), digest_size=16).hexdigest()


class _Group:
    """The items of which a batch can be formed. `count` is of those that are ready; the heap can have others."""

    __slots__ = ("count", "due", "heap", "is_listed", "key")

    def __init__(self, key: _Key, due: float) -> None:
        self.key = key
        self.due = due
        self.heap: list[tuple[int, Entry]] = []
        self.count = 0
        self.is_listed = False
        """Whether it is in the list of full groups."""

    def oldest(self) -> Entry | None:
        """Return the oldest item that is ready, and remove those before it from the heap."""
        while self.heap and self.heap[0][1].state != READY:
            heappop(self.heap)
        return self.heap[0][1] if self.heap else None


class Batcher:
    """The items of one lane that are ready, in groups."""

    def __init__(self, policy: SinkPolicy, rates: Rates, linger_seconds: float) -> None:
        self._rates = rates
        self._linger = linger_seconds
        self._is_by_user = policy.scope == "User"
        self._is_summarising = policy.overflow == "Summarise"
        self._is_single = policy.scope == "Event" and not self._is_summarising
        self._max_events = 1 if policy.scope == "Event" else policy.limits.max_events
        self._max_bytes = policy.limits.max_bytes
        self._groups: dict[_Key, _Group] = {}
        self._due: list[tuple[float, int, _Group]] = []
        """A heap of the groups, by the times at which they are due. It can have obsolete elements."""
        self._full: deque[_Group] = deque()
        self._pushes = 0
        self.count = 0
        """The number of items that are ready."""

    def push(self, entry: Entry, now: float) -> None:
        """Add an item that can be sent."""
        assert entry.item is not None
        lingers = self._max_events > 1 and entry.enqueued_at > now - LATE_SECONDS
        due = now + self._linger if lingers else now
        key = self._key(entry.item)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key, due)
            self._schedule(group)
        elif due < group.due:
            group.due = due
            self._schedule(group)
        entry.state = READY
        heappush(group.heap, (entry.number, entry))
        group.count += 1
        self.count += 1
        if group.count >= self._max_events and not group.is_listed:
            group.is_listed = True
            self._full.append(group)

    def discard(self, entry: Entry) -> None:
        """Remove an item that is ready. The caller changes its state."""
        assert entry.item is not None
        self._reduce(self._groups[self._key(entry.item)], 1)

    def next_size(self, now: float) -> tuple[int, str] | None:
        """Return the number of events that the next batch would have by the items that are ready, and their route; None
        if none is due."""
        group = self._next(now)
        if group is None:
            return None
        oldest = group.oldest()
        route = "" if oldest is None or oldest.item is None else oldest.item.encoded.route
        return min(group.count, self._max_events), route

    def due_at(self) -> float | None:
        """Return the time at which the next group is due."""
        return self._due[0][0] if self._due else None

    def lower_max_bytes(self, size: int) -> None:
        """Form smaller batches: the destination rejected one of this size."""
        self._max_bytes = max(min(size, self._max_bytes or size) // 2, 1)

    def form(self, now: float) -> tuple[list[Entry], list[Entry]]:
        """Form a batch. Returns its items, which are busy now, and those whose users have reached their limits: these
        are delayed, and have their `until`. Both can be empty."""
        group = self._next(now)
        if group is None:
            return [], []
        batch = _Forming(self._max_events_at(group, now), self._max_bytes)
        followers: list[tuple[int, Entry]] = []
        touched: list[Entry] = []
        postponed: list[Entry] = []
        ready = group.heap
        popped = 0
        while True:
            group.oldest()
            is_follower = bool(followers) and (not ready or followers[0][0] < ready[0][0])
            source = followers if is_follower else ready
            if not source or not batch.fits(source[0][1]):
                break
            entry = heappop(source)[1]
            popped += not is_follower
            if self._rates.is_per_user and not self._admit(entry, batch, now, is_follower):
                if not is_follower:
                    entry.state = DELAYED
                    postponed.append(entry)
                continue
            batch.add(entry)
            if entry.followers:
                self._follow(entry, group.key, now, followers, touched)
        for each in touched:
            each.waits += 1
        self._reduce(group, popped)
        return batch.entries, postponed

    def _max_events_at(self, group: _Group, now: float) -> int:
        is_summary = (
            self._is_summarising
            and (oldest := group.oldest()) is not None
            and oldest.enqueued_at < now - SUMMARY_SECONDS
        )
        return MAX_SUMMARY_EVENTS if is_summary else self._max_events

    def _admit(self, entry: Entry, batch: "_Forming", now: float, is_follower: bool) -> bool:
        """Count an item in the limits of its user. If it exceeds them it has to wait: a follower, for the items before
        it, and any other for its turn."""
        assert entry.item is not None
        encoded = entry.item.encoded
        if not encoded.user:
            return True
        is_known = encoded.user in batch.users
        if self._rates.user_fits_at(encoded.user, encoded.count, now, is_in_request=is_known) <= now:
            self._rates.spend_user(encoded.user, encoded.count, now, is_in_request=is_known)
            batch.users.add(encoded.user)
            return True
        if not is_follower:
            entry.until = self._rates.user_turn(encoded.user, encoded.count, now)
        return False

    def _follow(
        self, entry: Entry, key: _Key, now: float, followers: list[tuple[int, Entry]], touched: list[Entry]
    ) -> None:
        """Collect the items that wait only for items of the batch, `entry` being the latest of these."""
        leaving = [entry]
        for each in leaving:
            for follower in each.followers:
                touched.append(follower)
                follower.waits -= 1
                if follower.waits:
                    continue
                if follower.state == FINISHED:
                    leaving.append(follower)
                elif (
                    follower.state == WAITING
                    and follower.item is not None
                    and follower.until <= now
                    and self._key(follower.item) == key
                ):
                    heappush(followers, (follower.number, follower))

    def _key(self, item: LaneItem) -> _Key:
        if self._is_single:
            return ""
        encoded = item.encoded
        if not self._is_by_user:
            return encoded.route
        return (encoded.route, encoded.user) if encoded.user else (encoded.route, item.number)

    def _schedule(self, group: _Group) -> None:
        self._pushes += 1
        heappush(self._due, (group.due, self._pushes, group))

    def _next(self, now: float) -> _Group | None:
        due = self._due
        while due:
            at, _, group = due[0]
            if group.count and group.due == at:
                if at <= now:
                    return group
                break
            heappop(due)
        full = self._full
        while full:
            group = full[0]
            if group.count >= self._max_events:
                return group
            group.is_listed = False
            full.popleft()
        return None

    def _reduce(self, group: _Group, count: int) -> None:
        group.count -= count
        self.count -= count
        if not group.count:
            del self._groups[group.key]


class _Forming:
    """The batch that is being formed, within its limits."""

    __slots__ = ("_bytes", "_events", "_max_bytes", "_max_entries", "_max_events", "entries", "users")

    def __init__(self, max_events: int, max_bytes: int | None) -> None:
        self._max_events = max_events
        self._max_bytes = sys.maxsize if max_bytes is None else max_bytes
        self._max_entries = max_events
        self._events = self._bytes = 0
        self.entries: list[Entry] = []
        self.users: set[str] = set()
        """The users with limits of their own."""

    def fits(self, entry: Entry) -> bool:
        """Whether the item is within the limits. One item always is: the destination decides about it."""
        assert entry.item is not None
        if not self.entries:
            return True
        encoded = entry.item.encoded
        return (
            self._events + encoded.count <= self._max_events
            and self._bytes + len(encoded.body) <= self._max_bytes
            and len(self.entries) < min(self._max_entries, entry.max_batch or self._max_entries)
        )

    def add(self, entry: Entry) -> None:
        assert entry.item is not None
        encoded = entry.item.encoded
        self._events += encoded.count
        self._bytes += len(encoded.body)
        if entry.max_batch:
            self._max_entries = min(self._max_entries, entry.max_batch)
        self.entries.append(entry)
        entry.state = BUSY
