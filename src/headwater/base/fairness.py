"""Shares a fixed number of slots between owners, so that no owner can block the others.

Waiting owners are served in turn, one slot each. The calls of one owner are served in the order of their arrival.
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
        """`per_owner` is the maximum number of slots of one owner; the default is all but one, and at least one.
        `max_waiting` is the maximum number of waiting calls of one owner; None means no limit. `what` names the work in
        messages."""
        self._free = slots
        self._per_owner = max(1, slots - 1) if per_owner is None else per_owner
        self._max_waiting = max_waiting
        self._what = what
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """The waiting owners; the first is served next."""

    @asynccontextmanager
    async def slot(self, owner: str, *, seconds: float | None = None) -> AsyncIterator[None]:
        """Hold a slot during the block.

        Raises TooManyRequests if too many calls of this owner wait already, and Unavailable if no slot was granted
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
                self._release(owner)  # granted in the moment in which the caller gave up
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
        """Give free slots to waiting owners in turn. An owner that received a slot moves to the end of the queue."""
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
            if not turn.done():  # its caller may have been cancelled
                self._take(owner)
                turn.set_result(None)
