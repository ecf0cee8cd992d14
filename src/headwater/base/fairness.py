"""Shares a fixed number of slots between owners, so that no owner can keep the others waiting.

Owners that wait are served in turn, one slot each; the waiters of one owner in the order in which they came.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.base.errors import TooManyRequests, Unavailable


class FairSlots:
    """Grants at most `slots` slots at a time. Used in one event loop."""

    def __init__(
        self, slots: int, *, per_owner: int | None = None, max_waiting: int | None = None, what: str = "calls"
    ) -> None:
        """`per_owner` is how many slots one owner may hold; without it all but one, or the only one. `max_waiting` is
        how many calls of one owner may wait; None is any number. `what` names in messages what is run."""
        self._free = slots
        self._per_owner = max(1, slots - 1) if per_owner is None else per_owner
        self._max_waiting = max_waiting
        self._what = what
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """The owners that wait, the one whose turn is next first."""

    @asynccontextmanager
    async def slot(self, owner: str, *, seconds: float | None = None) -> AsyncIterator[None]:
        """Hold a slot.

        Raises TooManyRequests when too many calls of this owner wait already, and Unavailable when no slot was granted
        within `seconds`.
        """
        await self._acquire(owner, seconds)
        try:
            yield
        finally:
            self._release(owner)

    async def _acquire(self, owner: str, seconds: float | None) -> None:
        if self._free and self._held[owner] < self._per_owner and owner not in self._waiting:
            self._take(owner)
            return
        queue = self._waiting.get(owner)
        if queue is not None and self._max_waiting is not None and len(queue) >= self._max_waiting:
            raise TooManyRequests(f"{self._max_waiting} {self._what} of this workspace are waiting already")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release(owner)  # granted at the moment at which the caller gave up
            else:
                self._leave(owner, turn)
            if isinstance(error, TimeoutError):
                raise Unavailable(f"no slot became free for {self._what} in time") from None
            raise

    def _leave(self, owner: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(owner)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[owner]

    def _take(self, owner: str) -> None:
        self._free -= 1
        self._held[owner] += 1

    def _release(self, owner: str) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._grant()

    def _grant(self) -> None:
        """Give free slots to the owners whose turn it is. An owner that got one goes to the end of the line."""
        while self._free:
            owner = next((one for one in self._waiting if self._held[one] < self._per_owner), None)
            if owner is None:
                return
            queue = self._waiting[owner]
            turn = queue.popleft()
            if not queue:
                del self._waiting[owner]
            elif not turn.done():
                self._waiting.move_to_end(owner)
            if not turn.done():  # its caller may have been cancelled a moment ago
                self._take(owner)
                turn.set_result(None)
