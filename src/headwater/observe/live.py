"""Passes events to those who watch them, as they arrive in the log.

One task follows the tail of the log, and one reads the calls of watched workspaces. They run only while a client
watches. No consumer, and no acceptance of events, waits for them: reading takes a bounded share of the time of the
event loop, calls that wait for it are bounded for each workspace, and the events of those that are dropped are counted.

A workspace's calls take turns with those of others, so that a busy workspace causes no losses in another.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Final, Protocol

import msgspec
import structlog
from msgspec import Struct

from headwater.events import Envelope, Rejection
from headwater.events.context import Locate
from headwater.events.event import Event
from headwater.events.protocol import decode_envelope
from headwater.events.reader import CallReader
from headwater.events.record import event_record
from headwater.filters import Predicate
from headwater.log import EventLog, StoredEntry, Tail
from headwater.schemas import Record

MAX_WAITING_BYTES: Final = 2 * 1024 * 1024
"""Maximum size of the calls of one workspace that wait to be read. One call fits, whatever its size."""
MAX_ALL_WAITING_BYTES: Final = 32 * 1024 * 1024
"""The same for all workspaces together."""
SLICE_SECONDS: Final = 0.004
"""Time after which other tasks of the event loop run."""
MAX_SHARE: Final = 0.25
"""Maximum share of the time of the event loop that reading takes."""

_log = structlog.get_logger(__name__)


class ArrivedEvent:
    """One event of the log."""

    def __init__(self, position: int, event: Event, document: bytes) -> None:
        self.position = position
        self.event = event
        self.document = document
        """The event as JSON, as it is stored."""

    @cached_property
    def record(self) -> Record:
        """The event for filters, made once for all of them."""
        return event_record(self.event)


class Selection(Struct, frozen=True):
    """Selects events of one workspace."""

    workspace: int
    sources: frozenset[int] | None = None
    """The source connections; None: all."""
    passes: Predicate | None = None
    """The filter; None: there is none."""

    def includes(self, arrived: ArrivedEvent) -> bool:
        """Return whether the event is selected. An event whose filter fails is not."""
        if self.sources is not None and arrived.event.connection_id not in self.sources:
            return False
        if self.passes is None:
            return True
        try:
            return self.passes(arrived.record)
        except Exception:  # a bug, which may not end the watches of others
            _log.exception("a filter of a watcher failed", position=arrived.position)
            return False


class Subscriber(Protocol):
    """Receives the events of a selection."""

    selection: Selection

    def put(self, arrived: ArrivedEvent) -> None:
        """Take a selected event."""
        ...

    def omit(self, events: int) -> None:
        """Count events of the workspace that were not read."""
        ...


class _Call(Struct, frozen=True):
    """An accepted call of a workspace."""

    envelope: Envelope
    stored: StoredEntry


class LiveEvents:
    """Passes the events of a log to subscribers. Used in one event loop."""

    def __init__(
        self,
        log: EventLog,
        *,
        locate: Locate | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
        waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """`locate` looks up the location of events that do not include one."""
        self._tail: Tail[_Call | None] = Tail(log, _read_call, queue_bytes=MAX_ALL_WAITING_BYTES)
        self._locate = locate
        self._monotonic = monotonic
        self._waiting_bytes = waiting_bytes
        self._subscribers: dict[int, list[Subscriber]] = {}
        """The subscribers by workspace."""
        self._waiting: dict[int, deque[_Call]] = {}
        """The calls by workspace. The workspace whose turn it is comes first."""
        self._bytes: dict[int, int] = {}
        """The size of the calls by workspace."""
        self._has_calls = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        """The running task, and those that have been cancelled and have not ended."""

    async def add(self, subscriber: Subscriber) -> None:
        """Pass events that arrive from now on. Raises Unavailable if the log cannot be reached."""
        self._subscribers.setdefault(subscriber.selection.workspace, []).append(subscriber)
        try:
            await self._start()
        except BaseException:
            self.remove(subscriber)
            raise

    def remove(self, subscriber: Subscriber) -> None:
        """Pass no more events. Does nothing for a subscriber that is not there."""
        workspace = subscriber.selection.workspace
        present = self._subscribers.get(workspace, [])
        if subscriber in present:
            present.remove(subscriber)
        if not present:
            self._subscribers.pop(workspace, None)
            self._waiting.pop(workspace, None)
            self._bytes.pop(workspace, None)
        if not self._subscribers and self._running is not None:
            self._running.cancel()
            self._running = self._started = None

    async def close(self) -> None:
        """End all subscriptions, and wait until nothing runs."""
        for subscribers in [*self._subscribers.values()]:
            for subscriber in [*subscribers]:
                self.remove(subscriber)
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _start(self) -> None:
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._started), name="live-events")
            self._tasks.add(self._running)
            self._running.add_done_callback(self._tasks.discard)
        started = self._started
        try:
            await asyncio.shield(started)
        except Exception:
            if self._started is started:  # the next subscriber tries again
                self._running = self._started = None
            raise

    async def _run(self, started: asyncio.Future[None]) -> None:
        try:
            async with self._tail.watch() as watcher, asyncio.TaskGroup() as group:
                if not started.done():
                    started.set_result(None)
                group.create_task(self._read(), name="live-events-reader")
                while True:
                    watched = await watcher.next()
                    if watched.dropped or watched.missed_bytes:  # then it is not known whose events they were
                        self._omit_everywhere(watched.dropped or 1)
                    for call in watched.items:
                        if call is not None:
                            self._append(call)
        except Exception as error:
            if started.done():
                _log.exception("the events of the log cannot be watched")
            else:
                started.set_exception(error)
                started.exception()  # all who wait for it may have given up
        finally:
            if self._started is started:  # nothing is passed any more: the next subscriber starts again
                self._running = self._started = None

    def _append(self, call: _Call) -> None:
        workspace = call.envelope.workspace
        if workspace not in self._subscribers:
            return
        waiting = self._waiting.setdefault(workspace, deque())
        waiting.append(call)
        self._bytes[workspace] = self._bytes.get(workspace, 0) + call.stored.entry.size
        while len(waiting) > 1 and (
            self._bytes[workspace] > self._waiting_bytes or sum(self._bytes.values()) > MAX_ALL_WAITING_BYTES
        ):
            oldest = waiting.popleft().stored.entry
            self._bytes[workspace] -= oldest.size
            self._omit(workspace, oldest.events)
        self._has_calls.set()

    def _omit(self, workspace: int, events: int) -> None:
        for subscriber in self._subscribers.get(workspace, ()):
            subscriber.omit(events)

    def _omit_everywhere(self, events: int) -> None:
        for workspace in self._subscribers:
            self._omit(workspace, events)

    async def _read(self) -> None:
        while True:
            await self._has_calls.wait()
            self._has_calls.clear()
            while self._waiting:
                workspace = next(iter(self._waiting))
                waiting = self._waiting.pop(workspace)
                call = waiting.popleft()
                self._bytes[workspace] -= call.stored.entry.size
                if waiting:
                    self._waiting[workspace] = waiting  # the last in the order of turns
                try:
                    await self._read_events(call)
                except Exception:
                    _log.exception("a call cannot be read for watchers", position=call.stored.position)
                    self._omit(workspace, call.stored.entry.events)

    async def _read_events(self, call: _Call) -> None:
        workspace, first = call.envelope.workspace, call.stored.position
        began = self._monotonic()
        reader = CallReader(call.envelope, call.stored.entry.body, self._locate)
        for index in range(len(reader)):
            outcome = reader.read(index)
            if not isinstance(outcome, Rejection):
                event, document, _ = outcome
                arrived = ArrivedEvent(first + index, event, document)
                for subscriber in [*self._subscribers.get(workspace, ())]:
                    if subscriber.selection.includes(arrived):
                        subscriber.put(arrived)
            taken = self._monotonic() - began
            if taken > SLICE_SECONDS or index == len(reader) - 1:
                await asyncio.sleep(taken * (1 / MAX_SHARE - 1))
                began = self._monotonic()


def _read_call(stored: StoredEntry) -> _Call | None:
    """Return the call of a log entry; None if it has no events: it was rejected, or cannot be read."""
    try:
        envelope = decode_envelope(stored.entry.header)
    except msgspec.DecodeError:  # the worker reports it
        return None
    return None if envelope.rejection is not None else _Call(envelope, stored)
