"""The lane of one destination: a state machine that decides what is sent and when.

It has no clock, no asyncio and no I/O. The caller passes the time to each call, in one task, and never goes back:

    lane = Lane(policy, limits=LaneLimits.of(policy), random=Random(), rates=account.rates(policy.rates), health=stored)
    while True:
        bury(lane.expire(now))
        lane.offer(next items of the queue, now)             # while lane.wanted() > 0
        for number in lane.reload(): ...                     # read, prepare and offer() again, or remove()
        while (batch := lane.next_batch(now)) is not None:
            start sending batch                              # batch.items, batch.key, batch.attempt
        bury(lane.take_outdated())
        wait until lane.wake_at(), a response, or new items  # None: only a response or new items change something
        completion = lane.complete(batch, result, now)       # for each response; exactly once for each batch
        store completion.delivered and completion.dead       # in one transaction with lane.health, if that changed

Items are at the caller's until they are offered, and again when they are delivered, dead or removed. A crash loses only
the memory of the lane: the caller offers all unfinished items again.

| result | reaction |
| --- | --- |
| item delivered, rejected | finished: the items that wait for it can be sent |
| item to be retried | waits with its own back-off; later items with its keys wait behind it, others are sent |
| item to be retried after 0 s | can be sent, if another item of the batch is finished, or has a time to wait for |
| failure of the batch | halved; a single item is dead |
| failure of the destination, credentials | everything pauses; the same batch is sent again, and is the probe |
| destination closed | one probe an hour |
"""

from collections.abc import Iterable
from heapq import heappop, heappush
from random import Random
from typing import Final

from headwater.connectors.contract import (
    Failure,
    FailureScope,
    ItemResult,
    Outcome,
    SendResult,
    SinkPolicy,
)
from headwater.delivery import backoff
from headwater.delivery.batching import Batch, Batcher
from headwater.delivery.breaker import Breaker
from headwater.delivery.concurrency import Concurrency
from headwater.delivery.deaditems import dead_item, expired, is_unexpected_again, outdated
from headwater.delivery.items import HEALTHY, Completion, Dead, Health, LaneFigures, LaneItem, LaneLimits
from headwater.delivery.ordering import BUSY, DELAYED, FINISHED, READY, WAITING, Entry, Ordering
from headwater.delivery.rates import Rates
from headwater.delivery.window import Window

__all__ = ["Batch", "Lane"]

_INVALID_RESULT: Final = Failure(
    scope=FailureScope.DESTINATION, reason="InvalidResult", message="the connector returned too few or too many results"
)


class Lane:
    """The lane of one destination."""

    def __init__(
        self,
        policy: SinkPolicy,
        *,
        limits: LaneLimits,
        random: Random,
        rates: Rates,
        health: Health = HEALTHY,
    ) -> None:
        """`rates` can be shared by the lanes of one account. `health` is that of the last run."""
        self._limits = limits
        self._random = random
        self._rates = rates
        self._is_ordered = policy.order == "PerUser"
        self._max_events = policy.limits.max_events
        self._has_max_age = policy.max_age_seconds is not None
        self._outdated: list[Dead] = []
        self._ordering = Ordering()
        self._window = Window(limits)
        self._batcher = Batcher(policy, rates, limits.linger_seconds)
        self._breaker = Breaker(random, health)
        self._concurrency = Concurrency(policy.max_concurrency)
        self._in_flight: set[Batch] = set()
        self._kept: list[Batch] = []
        """Batches for another attempt."""
        self._busy = 0
        """Items in batches."""
        self._delayed: list[tuple[float, int, Entry]] = []
        """A heap of the items that wait for a time of their own. It can have obsolete elements."""
        self._blocked_until: float | None = None
        """The time before which `next_batch` returned None, as far as time matters."""
        self._now = 0.0

    @property
    def health(self) -> Health:
        """The health of the destination. The caller stores it when it is another object than before."""
        return self._breaker.health

    @property
    def figures(self) -> LaneFigures:
        return LaneFigures(
            items=self._window.items,
            bytes=self._window.bytes,
            cold=self._window.cold,
            delayed=len(self._delayed),
            in_flight=len(self._in_flight),
            batches=len(self._in_flight) + len(self._kept),
            concurrency=self._concurrency.limit,
        )

    def offer(self, items: Iterable[LaneItem], now: float) -> None:
        """Take items in the order of their numbers.

        Also takes items that `reload` has requested. Items that the lane has already are ignored. There can be more of
        them than `wanted`, such as the rest of a chunk: these exceed the limits of the lane once. An item that has to
        wait for others may become cold immediately: only its number and keys are kept.
        """
        self._advance(now)
        was_full = self._window.is_full()
        entries = self._window.entries
        for item in items:
            entry = entries.get(item.number)
            if entry is None:
                if not self._window.is_withdrawn(item.number):
                    self._add(item, now, is_cold=was_full)
            elif entry.is_removed:
                entry.is_removed = False  # offered again while it is in flight
            elif entry.is_requested:
                self._window.warm(entry, item)
                if not entry.waits:
                    self._release(entry, now)

    def wanted(self) -> int:
        """Return the number of further items that the lane would take: 0 if the caller should not read the queue."""
        if not self._is_flowing() and (self._window.entries or self._is_paused()):
            return 0
        room = self._window.room()
        if not self._breaker.is_closed:
            room = min(room, self._max_events)  # for a probe
        elif self._is_crowded():  # look for items that need not wait, if there are too few
            has_work = self._batcher.count >= self._max_events or len(self._in_flight) >= self._concurrency.limit
            room = 0 if has_work else min(room, 2 * self._max_events)
        return max(min(room, self._limits.max_cold_items - self._window.cold), 0)

    def reload(self) -> list[int]:
        """Return the numbers of cold items that can be sent soon. The caller offers each again, or removes it.

        A number is returned once, until its item becomes cold again.
        """
        is_idle = not (self._busy or self._batcher.count or self._window.requested)
        if is_idle and self._window.is_full():
            self._cool_all()  # all documents in memory wait for those of cold items
        room = self._window.room()
        if not self._is_flowing():
            if self._is_paused() or not is_idle:
                return []
            room = min(room, self._max_events)  # for a probe
        return self._window.request(room, self._max_events, self._now)

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget items that the caller has finished otherwise, or whose pipeline was disabled or deleted.

        Items that wait for them can be sent. Items in flight are finished by `complete` as usual; unknown numbers are
        ignored.
        """
        leaving = []
        for number in numbers:
            if (entry := self._window.entries.get(number)) is not None:
                leaving.append(entry)
            else:
                self._window.is_withdrawn(number)
        self._dissolve_kept({entry for entry in leaving if entry.state == BUSY})
        for entry in leaving:
            if entry.state == BUSY:
                entry.is_removed = True
            else:
                self._release_all(self._finish(entry), self._now)

    def expire(self, now: float) -> list[Dead]:
        """Give up the items that were enqueued too long ago, except those in flight. It spends no rate tokens."""
        self._advance(now)
        dead: list[Dead] = []
        while (entry := self._window.oldest()) is not None and self._expires_at(entry) <= now:
            if entry.state == BUSY:
                self._dissolve_kept({entry})
            if entry.state == BUSY:
                break  # in flight
            dead.append(expired(entry, self.health))
            self._release_all(self._finish(entry, expired=True), now)
        return dead

    def next_batch(self, now: float) -> Batch | None:
        """Return the batch to send now, or None. The caller calls it until it returns None."""
        self._advance(now)
        self._blocked_until = None
        if not self._may_send(now):
            return None
        while (batch := self._kept_batch(now) if self._kept else self._new_batch(now)) is not None:
            if not (self._has_max_age and self._give_up_outdated(batch, now)):
                break
        if batch is None:
            return None
        self._breaker.send()
        self._rates.spend(batch.events, now, batch.route)
        self._in_flight.add(batch)
        batch.attempt += 1
        batch.sent_at = now
        batch.era, batch.round = self._breaker.era, self._concurrency.round
        batch.was_full = len(self._in_flight) >= self._concurrency.limit
        return batch

    def take_outdated(self) -> list[Dead]:
        """Return the items that `next_batch` has given up since the last call: the destination takes none so old."""
        found, self._outdated = self._outdated, []
        return found

    def wake_at(self) -> float | None:
        """Return the time at which `next_batch` or `expire` may return more, if nothing else is called until then."""
        times = [] if self._blocked_until is None else [self._blocked_until]
        if self._delayed:
            times.append(self._delayed[0][0])
        oldest = self._window.oldest()
        if oldest is not None and (self._expires_at(oldest) > self._now or not self._is_in_flight(oldest)):
            times.append(self._expires_at(oldest))
        return min(times, default=None)

    def complete(self, batch: Batch, result: SendResult, now: float) -> Completion:
        """Take the result of a batch that is in flight, and return the items that it has finished.

        Raises ValueError if the batch is not in flight.
        """
        if batch not in self._in_flight:
            raise ValueError("the batch is not in flight")
        self._in_flight.remove(batch)
        self._advance(now)
        failure = result.failure
        if failure is None and len(result.items) != len(batch.items):
            failure = _INVALID_RESULT
        if failure is not None and failure.scope is not FailureScope.BATCH:
            self._keep(batch, failure, result.status, now)
            return Completion()
        if self._breaker.succeed(batch.era, now):
            self._concurrency.restart()
        else:
            self._concurrency.succeeded(now - batch.sent_at, batch.round, was_full=batch.was_full)
        if failure is not None:
            return self._split(batch, failure, result.status, now)
        if result.pause_seconds is not None:
            self._rates.pause(now + backoff.wait(0.0, result.pause_seconds))
        return self._settle(batch, result, now)

    def resume(self, now: float) -> None:
        """End the pause: the credentials or the settings have changed, or a user wants to try again.

        The next batch is sent immediately, as a probe. Failures of requests that were sent before count no more.
        """
        self._breaker.resume(now)

    # Sending

    def _may_send(self, now: float) -> bool:
        opens_at = self._breaker.opens_at(now)
        if opens_at is None:
            return False
        if opens_at > now:
            self._blocked_until = opens_at
            return False
        return len(self._in_flight) < self._concurrency.limit or not self._breaker.is_closed

    def _is_paused(self) -> bool:
        opens_at = self._breaker.opens_at(self._now)
        return opens_at is None or opens_at > self._now

    def _is_flowing(self) -> bool:
        """Whether more than a probe is sent, or will be soon."""
        opens_at = self._breaker.opens_at(self._now)
        return self._breaker.is_closed and opens_at is not None and opens_at < self._now + self._limits.cold_seconds

    def _kept_batch(self, now: float) -> Batch | None:
        batch = min(self._kept, key=lambda each: each.items[0].number)
        if not self._is_within_rates(batch.events, batch.route, now):
            return None
        self._kept.remove(batch)
        return batch

    def _new_batch(self, now: float) -> Batch | None:
        while found := self._batcher.next_size(now):
            if not self._is_within_rates(*found, now):
                return None
            entries, postponed = self._batcher.form(now)
            for entry in postponed:
                self._delay(entry, now)
            if entries:
                self._busy += len(entries)
                return Batch(entries)
        self._blocked_until = self._batcher.due_at()
        return None

    def _give_up_outdated(self, batch: Batch, now: float) -> bool:
        """Give up the items of a batch that became too old while they waited, and return whether there are any.

        The others form another batch.
        """
        found = [entry for entry in batch.entries if entry.item is not None and entry.item.accepted_until < now]
        self._outdated += [outdated(entry, batch) for entry in found]
        for entry in found:
            entry.is_removed = True
        if found:
            self._dissolve(batch)
        return bool(found)

    def _is_within_rates(self, events: int, route: str, now: float) -> bool:
        fits_at = self._rates.fits_at(events, now, route)
        if fits_at > now:
            self._blocked_until = fits_at
        return fits_at <= now

    # Results

    def _settle(self, batch: Batch, result: SendResult, now: float) -> Completion:
        """Finish the items of a batch, or make them wait, by their results."""
        delivered: list[LaneItem] = []
        dead: list[Dead] = []
        retried: list[Entry] = []
        freed: list[Entry] = []
        self._busy -= len(batch.entries)
        finished = (Outcome.DELIVERED, Outcome.REJECTED)
        is_smaller = any(each.outcome in finished or each.retry_after_seconds for each in result.items)
        for entry, item, each in zip(batch.entries, batch.items, result.items, strict=True):
            if each.outcome is Outcome.DELIVERED:
                delivered.append(item)
            elif each.outcome is Outcome.REJECTED or is_unexpected_again(entry, each):
                dead.append(dead_item(entry, batch, each.reason, each.message, result.status))
            else:
                retried.append(entry)
                self._retry(entry, batch, each, now, may_be_immediate=is_smaller)
                continue
            freed += self._finish(entry)
        for entry in retried:
            self._delay(entry, now)
        self._forget_removed(retried, now)
        self._release_all(freed, now)
        return Completion(tuple(delivered), tuple(dead))

    def _retry(self, entry: Entry, batch: Batch, result: ItemResult, now: float, *, may_be_immediate: bool) -> None:
        entry.attempts += batch.attempt
        entry.last = result
        if may_be_immediate and result.retry_after_seconds == 0.0:
            entry.until = now
            return
        entry.delay = backoff.next_delay(entry.delay, self._random)
        entry.until = now + backoff.wait(entry.delay, result.retry_after_seconds)

    def _split(self, batch: Batch, failure: Failure, status: int | None, now: float) -> Completion:
        """Halve a batch whose content was rejected; a single item is dead."""
        if failure.is_too_large:
            self._batcher.lower_max_bytes(batch.bytes)
        if len(batch.entries) == 1:
            entry = batch.entries[0]
            self._busy -= 1
            dead = dead_item(entry, batch, failure.reason, failure.message, status)
            self._release_all(self._finish(entry), now)
            return Completion(dead=(dead,))
        for entry in batch.entries:
            entry.max_batch = len(batch.entries) // 2
        self._dissolve(batch)
        return Completion()

    def _keep(self, batch: Batch, failure: Failure, status: int | None, now: float) -> None:
        """Keep a batch for another attempt, because the destination failed."""
        self._breaker.fail(failure, status, batch.era, now)
        self._concurrency.failed(batch.round)
        if any(entry.is_removed for entry in batch.entries):
            self._dissolve(batch)
        else:
            self._kept.append(batch)
        if not self._is_flowing():
            self._cool_all()

    # Items

    def _add(self, item: LaneItem, now: float, *, is_cold: bool) -> None:
        entry = Entry(item)
        if self._is_ordered:
            is_cold |= self._ordering.add(entry)
        self._window.add(entry)
        if entry.waits:
            if is_cold or self._is_crowded():
                self._window.cool(entry)
            return
        if is_cold:
            self._window.cool(entry)
        self._release(entry, now)

    def _is_crowded(self) -> bool:
        return self._window.is_crowded(self._window.items - self._batcher.count - self._busy)

    def _finish(self, entry: Entry, *, expired: bool = False) -> list[Entry]:
        """Take an item out, and return those that can be released for it."""
        if entry.state == READY:
            self._batcher.discard(entry)
        self._window.remove(entry, expired=expired)
        return self._ordering.finish(entry)

    def _release_all(self, entries: Iterable[Entry], now: float) -> None:
        for entry in entries:
            if entry.state == WAITING and not entry.waits:
                self._release(entry, now)

    def _release(self, entry: Entry, now: float) -> None:
        """Let an item be sent that waits for no other."""
        if entry.until > now:
            entry.state = DELAYED
            heappush(self._delayed, (entry.until, entry.number, entry))
        elif entry.item is None:
            self._window.miss(entry)
        else:
            self._batcher.push(entry, now)

    def _delay(self, entry: Entry, now: float) -> None:
        """Let an item wait for its time. The items behind it wait with it."""
        entry.state = WAITING
        if not entry.waits:
            self._release(entry, now)
        if entry.until > now + self._limits.cold_seconds or self._is_crowded():
            self._cool(entry)

    def _cool(self, entry: Entry) -> None:
        """Make an item cold, with all items that wait for it."""
        leaving = [entry]
        for each in leaving:
            if each.item is None or each.state == BUSY:
                continue
            if each.state == READY:
                self._batcher.discard(each)
                self._window.cool(each)
                self._window.miss(each)
            else:
                self._window.cool(each)
            leaving.extend(each.followers)

    def _cool_all(self) -> None:
        """Make all items cold that are in no batch."""
        if self._window.items > self._busy:
            for entry in self._window.entries.values():
                if entry.item is not None:
                    self._cool(entry)

    def _advance(self, now: float) -> None:
        """Release the items whose time has come."""
        if not self._now:
            self._breaker.start(now)
        self._now = now
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            until, _, entry = heappop(delayed)
            if entry.state == DELAYED and entry.until == until:
                self._release(entry, now)

    # Batches

    def _dissolve(self, batch: Batch) -> None:
        """Return the items of a batch to those that form the next batches."""
        self._busy -= len(batch.entries)
        for entry in batch.entries:
            entry.state = WAITING
            entry.attempts += batch.attempt
        self._forget_removed(batch.entries, self._now)
        self._release_all(batch.entries, self._now)

    def _dissolve_kept(self, entries: set[Entry]) -> None:
        """Dissolve the kept batches that have one of these items."""
        if not entries:
            return
        for batch in [each for each in self._kept if not entries.isdisjoint(each.entries)]:
            self._kept.remove(batch)
            self._dissolve(batch)

    def _forget_removed(self, entries: Iterable[Entry], now: float) -> None:
        for entry in entries:
            if entry.is_removed and entry.state != FINISHED:
                self._release_all(self._finish(entry), now)

    def _is_in_flight(self, entry: Entry) -> bool:
        return entry.state == BUSY and not any(entry in batch.entries for batch in self._kept)

    def _expires_at(self, entry: Entry) -> float:
        return entry.enqueued_at + self._limits.expiry_seconds
