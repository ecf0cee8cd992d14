"""Listeners: each keeps a random sample of the events that arrive, until it is read.

They are in the memory of one process, and lost when it ends. A listener that nobody reads expires.
"""

import asyncio
import time
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final

from msgspec import Struct

from headwater.base.errors import NotFound, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.observe.live import ArrivedEvent, LiveEvents, Selection

MAX_LISTENERS: Final = 100
"""Maximum number of listeners of a workspace."""
MAX_SIZE: Final = 1000
DEFAULT_SIZE: Final = 10
"""Maximum and default number of events that a listener keeps."""
MAX_LISTENER_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of the events that a listener keeps."""
MAX_WORKSPACE_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of the events that all listeners of a workspace keep."""
MAX_ALL_BYTES: Final = 128 * 1024 * 1024
"""Maximum size of the events that all listeners of the process keep."""
IDLE_SECONDS: Final = 3600.0
"""Time after which a listener that nobody reads expires."""
EXPIRY_SECONDS: Final = 60.0
"""Interval at which expired listeners are removed."""


class Sample(Struct, frozen=True):
    """The events that a listener has kept."""

    documents: list[bytes]
    """The events as JSON, in the order of the log."""
    omitted: int
    """Number of events that were not kept, or not read."""


class _Space:
    """The size of the events that several listeners keep together: those of a workspace, or all of them."""

    def __init__(self, max_bytes: int, within: "_Space | None" = None) -> None:
        """`within` is the larger space that this one is a part of."""
        self._max_bytes = max_bytes
        self._within = within
        self._bytes = 0

    def has(self, size: int) -> bool:
        """Return whether events of this size fit."""
        return self._bytes + size <= self._max_bytes and (self._within is None or self._within.has(size))

    def add(self, size: int) -> None:
        """Take space; a negative size gives it back."""
        self._bytes += size
        if self._within is not None:
            self._within.add(size)


class Listener:
    """A reservoir: of the events since it was read, each has the same chance to be kept."""

    def __init__(self, selection: Selection, size: int, random: Random, space: _Space) -> None:
        """`size` is the maximum number of events that it keeps."""
        self.selection = selection
        self.used_at = 0.0
        self._size = size
        self._random = random
        self._space = space
        self._kept: list[tuple[int, bytes]] = []
        self._bytes = 0
        self._seen = 0
        self._unread = 0

    def put(self, arrived: ArrivedEvent) -> None:
        """Keep the event, perhaps in place of another one."""
        self._seen += 1
        place = len(self._kept) if self._seen <= self._size else self._random.randrange(self._seen)
        if place >= self._size or place > len(self._kept):
            return
        document = arrived.document
        added = len(document) - (len(self._kept[place][1]) if place < len(self._kept) else 0)
        if added > 0 and not (self._bytes + added <= MAX_LISTENER_BYTES and self._space.has(added)):
            return
        self._kept[place : place + 1] = [(arrived.position, document)]
        self._bytes += added
        self._space.add(added)

    def omit(self, events: int) -> None:
        """Count events that were not read."""
        self._unread += events

    def drain(self) -> Sample:
        """Return the events that were kept, and forget them."""
        kept, self._kept = sorted(self._kept), []
        omitted = self._seen - len(kept) + self._unread
        self._seen = self._unread = 0
        self._space.add(-self._bytes)
        self._bytes = 0
        return Sample([document for _, document in kept], omitted)


class Listeners:
    """The listeners of all workspaces in this process. Used in one event loop."""

    def __init__(
        self,
        live: LiveEvents,
        identifiers: Identifiers,
        *,
        random: Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live = live
        self._identifiers = identifiers
        self._random = random or SystemRandom()
        self._monotonic = monotonic
        self._listeners: dict[int, dict[int, Listener]] = {}
        """The listeners by workspace and id."""
        self._all = _Space(MAX_ALL_BYTES)
        self._spaces: dict[int, _Space] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def create(self, selection: Selection, size: int) -> int:
        """Start to listen; return the id of the listener.

        Raises TooManyListeners if the workspace has `MAX_LISTENERS`, and Unavailable if the log cannot be reached.
        """
        self.expire()
        workspace = selection.workspace
        listeners = self._listeners.setdefault(workspace, {})
        if len(listeners) >= MAX_LISTENERS:
            raise Unprocessable("TooManyListeners", f"a workspace can have at most {MAX_LISTENERS} listeners")
        id_ = self._identifiers.identifier()
        while id_ in listeners:
            id_ = self._identifiers.identifier()
        space = self._spaces.setdefault(workspace, _Space(MAX_WORKSPACE_BYTES, self._all))
        listener = Listener(selection, size, self._random, space)
        listener.used_at = self._monotonic()
        listeners[id_] = listener
        try:
            await self._live.add(listener)
        except BaseException:
            self.delete(workspace, id_)
            raise
        self._plan_expiry()
        return id_

    def read(self, workspace: int, id_: int) -> Sample:
        """Return the events that a listener has kept, and empty it. Raises NotFound."""
        self.expire()
        listener = self._listeners.get(workspace, {}).get(id_)
        if listener is None:
            raise NotFound(f"event listener {id_} does not exist", field="id")
        listener.used_at = self._monotonic()
        return listener.drain()

    def delete(self, workspace: int, id_: int) -> None:
        """Remove a listener, if it exists."""
        listeners = self._listeners.get(workspace, {})
        listener = listeners.pop(id_, None)
        if listener is not None:
            self._live.remove(listener)
            listener.drain()
        if not listeners:
            self._listeners.pop(workspace, None)
            self._spaces.pop(workspace, None)

    def expire(self) -> None:
        """Remove the listeners that nobody has read for `IDLE_SECONDS`."""
        oldest = self._monotonic() - IDLE_SECONDS
        expired = [
            (workspace, id_)
            for workspace, listeners in self._listeners.items()
            for id_, listener in listeners.items()
            if listener.used_at <= oldest
        ]
        for workspace, id_ in expired:
            self.delete(workspace, id_)

    def close(self) -> None:
        """Remove all listeners."""
        if self._timer is not None:
            self._timer.cancel()
        for workspace, listeners in [*self._listeners.items()]:
            for id_ in [*listeners]:
                self.delete(workspace, id_)

    def _plan_expiry(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EXPIRY_SECONDS, self._expire_regularly)

    def _expire_regularly(self) -> None:
        self._timer = None
        self.expire()
        if self._listeners:
            self._plan_expiry()
