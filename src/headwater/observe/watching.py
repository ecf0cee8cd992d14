"""Watchers: each has a bounded queue of events, and of the outcomes of deliveries, that have arrived since it looked.

A watcher that is too slow loses the oldest, and gets their number.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from msgspec import Struct

from headwater.base.errors import TooManyRequests, Unavailable, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.base.outcomes import DeliveryOutcome
from headwater.events.context import Locate
from headwater.log import EventLog
from headwater.observe.listeners import Listeners
from headwater.observe.live import ArrivedEvent, LiveEvents, Selection
from headwater.observe.outcomes import OutcomeFeed

MAX_WATCHERS: Final = 10
"""Maximum number of watchers of a workspace in one process."""
MAX_ALL_WATCHERS: Final = 1_000
"""Maximum number of watchers of an installation: each is a call in progress, whose number the gateway bounds."""
MAX_QUEUE_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of the events that wait for a watcher. One event fits, whatever its size."""
MAX_ALL_QUEUE_BYTES: Final = 128 * 1024 * 1024
"""Maximum size of the events that wait for all watchers of the process. Above it, the watcher that gets one loses its
oldest."""
MAX_QUEUED_OUTCOMES: Final = 5_000
"""Maximum number of outcomes that wait for a watcher."""
MAX_TAKEN_BYTES: Final = 512 * 1024
"""Approximate size of the events that a watcher takes together."""
MAX_TAKEN_OUTCOMES: Final = 1_000
RETRY_SECONDS: Final = 10
"""Time after which a watcher for which there is no space may try again."""


class Watched(Struct, frozen=True):
    """The events and outcomes since the watcher looked. All is empty if there were none."""

    documents: list[bytes]
    """The events as JSON, in the order of the log."""
    outcomes: list[DeliveryOutcome]
    omitted_events: int = 0
    """Number of events before these that were dropped, or not read."""
    omitted_outcomes: int = 0
    """Number of outcomes before these that were dropped, at least."""

    @property
    def is_empty(self) -> bool:
        """Return whether nothing has happened."""
        return not (self.documents or self.outcomes or self.omitted_events or self.omitted_outcomes)


class Waiting:
    """The size of the events that wait for all watchers."""

    bytes = 0


class Watcher:
    """A watcher. One task uses it."""

    def __init__(self, selection: Selection, destination: int | None, waiting: Waiting | None = None) -> None:
        """`destination` is the connection whose outcomes are wanted; None: all."""
        self._waiting = waiting or Waiting()
        self.selection = selection
        self._destination = destination
        self._documents: deque[bytes] = deque()
        self._bytes = 0
        self._omitted = 0
        self._outcomes: deque[DeliveryOutcome] = deque()
        self._omitted_outcomes = 0
        self._changed = asyncio.Event()
        self._is_ended = False

    def put(self, arrived: ArrivedEvent) -> None:
        """Add an event. Drops the oldest events if the queue is full."""
        self._documents.append(arrived.document)
        self._resize(len(arrived.document))
        while len(self._documents) > 1 and (self._bytes > MAX_QUEUE_BYTES or self._waiting.bytes > MAX_ALL_QUEUE_BYTES):
            self._resize(-len(self._documents.popleft()))
            self._omitted += 1
        self._changed.set()

    def omit(self, events: int) -> None:
        """Count events that were not read."""
        self._omitted += events
        self._changed.set()

    def put_outcomes(self, outcomes: Sequence[DeliveryOutcome], lost: int) -> None:
        """Add outcomes of the workspace. `lost` is the number of those that did not arrive before them."""
        wanted = [each for each in outcomes if self._destination in (None, each.destination)]
        self._outcomes += wanted
        self._omitted_outcomes += lost
        while len(self._outcomes) > MAX_QUEUED_OUTCOMES:
            self._outcomes.popleft()
            self._omitted_outcomes += 1
        if wanted or lost:
            self._changed.set()

    def clear(self) -> None:
        """Forget the events that wait."""
        self._documents.clear()
        self._resize(-self._bytes)

    def end(self) -> None:
        """Make `next` raise Unavailable, once it has returned what has happened."""
        self._is_ended = True
        self._changed.set()

    async def next(self, timeout_seconds: float) -> Watched:
        """Wait until something happens; return it. After the timeout nothing has happened.

        Raises Unavailable if this process stops.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        watched = self._take()
        if watched.is_empty and self._is_ended:
            raise Unavailable("the server stops: watch again")
        if not (self._documents or self._outcomes or self._is_ended):
            self._changed.clear()
        return watched

    def _resize(self, size: int) -> None:
        self._bytes += size
        self._waiting.bytes += size

    def _take(self) -> Watched:
        documents: list[bytes] = []
        size = 0
        while self._documents and size < MAX_TAKEN_BYTES:
            documents.append(self._documents.popleft())
            size += len(documents[-1])
        self._resize(-size)
        outcomes = [self._outcomes.popleft() for _ in range(min(len(self._outcomes), MAX_TAKEN_OUTCOMES))]
        watched = Watched(documents, outcomes, self._omitted, self._omitted_outcomes)
        self._omitted = self._omitted_outcomes = 0
        return watched


class Watchers:
    """The watchers of all workspaces in this process. Used in one event loop."""

    def __init__(self, live: LiveEvents, outcomes: OutcomeFeed, *, maximum: int = MAX_ALL_WATCHERS) -> None:
        """`maximum` is the number of watchers in this process."""
        self._maximum = maximum
        self._waiting = Waiting()
        self._live = live
        self._outcomes = outcomes
        self._watchers: set[Watcher] = set()
        self._counts: Counter[int] = Counter()
        self._is_ended = False

    @asynccontextmanager
    async def watch(
        self, selection: Selection, *, outcomes: bool = False, destination: int | None = None
    ) -> AsyncIterator[Watcher]:
        """Watch what arrives from now on until the end of the block.

        `outcomes` says whether outcomes of deliveries are wanted, and `destination` is the connection whose outcomes
        they are; None: all.

        Raises TooManyListeners if the workspace has `MAX_WATCHERS`, TooManyRequests if this process has its maximum,
        and Unavailable if the log cannot be reached or this process stops.
        """
        workspace = selection.workspace
        if self._is_ended:
            raise Unavailable("the server stops: watch again")
        if self._counts[workspace] >= MAX_WATCHERS:
            message = f"a workspace can have at most {MAX_WATCHERS} watchers in one backend process"
            raise Unprocessable("TooManyListeners", message)
        if len(self._watchers) >= self._maximum:
            raise TooManyRequests("the server has as many watchers as it can have", retry_after=RETRY_SECONDS)
        watcher = Watcher(selection, destination, self._waiting)
        self._counts[workspace] += 1
        self._watchers.add(watcher)
        try:
            await self._live.add(watcher)
            if outcomes:
                await self._outcomes.subscribe(workspace, watcher.put_outcomes)
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self._live.remove(watcher)
            watcher.clear()
            self._outcomes.unsubscribe(workspace, watcher.put_outcomes)
            self._counts[workspace] -= 1
            if not self._counts[workspace]:
                del self._counts[workspace]

    def end(self) -> None:
        """End all watchers, and accept no more, because this process stops."""
        self._is_ended = True
        for watcher in self._watchers:
            watcher.end()


class Observers(Struct, frozen=True):
    """The listeners and watchers of a process."""

    live: LiveEvents
    listeners: Listeners
    watchers: Watchers

    async def close(self) -> None:
        """End all of them."""
        self.watchers.end()
        self.listeners.close()
        await self.live.close()


def make_observers(
    log: EventLog, identifiers: Identifiers, feed: OutcomeFeed, locate: Locate | None = None, *, processes: int = 1
) -> Observers:
    """Return the listeners and watchers of a log, in one of so many processes.

    `locate` looks up the location of events that do not include one.
    """
    live = LiveEvents(log, locate=locate)
    watchers = Watchers(live, feed, maximum=max(MAX_WATCHERS, MAX_ALL_WATCHERS // processes))
    return Observers(live, Listeners(live, identifiers), watchers)
