"""The lane of one destination: a state machine that decides what is sent and when.

It has no clock, no asyncio and no I/O. The caller passes the time to each call, in one task, and never goes back:

    lane = Lane(policy, limits=LaneLimits.of(policy), random=Random(), rates=account.rates(policy.rates), health=stored)
    while True:
        lane.offer(next items of the queue, now)             # while lane.wanted() > 0
        for number in lane.reload(): ...                     # read, prepare and offer() again, or remove()
        bury(lane.expire(now))
        while (batch := lane.next_batch(now)) is not None:
            start sending batch                              # batch.items, batch.key, batch.attempt
        wait until lane.wake_at(), a response, or new items  # None: only a response or new items change something
        completion = lane.complete(batch, result, now)       # for each response; exactly once for each batch
        store completion.delivered and completion.dead       # in one transaction with lane.health, if that changed
        if lane.wants_credentials: refresh them, then lane.resume(now)

Items are at the caller's until they are offered, and again when they are delivered, dead or removed. A crash loses only
the memory of the lane: the caller offers all unfinished items again.

| result | reaction |
| --- | --- |
| item delivered, rejected | finished: the items that wait for it can be sent |
| item to be retried | waits with its own back-off; later items with its keys wait behind it, others are sent |
| failure of the batch | halved; a single item is dead |
| failure of the destination, credentials | everything pauses; the same batch is sent again, and is the probe |
| destination closed | one probe an hour |
"""

from collections.abc import Iterable
from random import Random

from headwater.connectors.contract import SendResult, SinkPolicy
from headwater.delivery.items import HEALTHY, Completion, Dead, Health, LaneFigures, LaneItem, LaneLimits
from headwater.delivery.rates import Rates


class Batch:
    """The items of one request, of one route, within the limits of the policy. It is unchanged over all attempts.

    `key` is the item's key if it has a single one, otherwise a hash of the keys of all. `attempt` counts from 1.
    """

    __slots__ = ("attempt", "items", "key")

    items: tuple[LaneItem, ...]
    key: str
    attempt: int


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
        raise NotImplementedError

    @property
    def health(self) -> Health:
        """The health of the destination. The caller stores it when it is another object than before."""
        raise NotImplementedError

    @property
    def wants_credentials(self) -> bool:
        """Whether the destination rejected the credentials since the last `resume`, and requests pause for that."""
        raise NotImplementedError

    @property
    def figures(self) -> LaneFigures:
        raise NotImplementedError

    def offer(self, items: Iterable[LaneItem], now: float) -> None:
        """Take items in the order of their numbers.

        Also takes items that `reload` has requested. Items that the lane has already are ignored. An item that has to
        wait for others may become cold immediately: only its number and keys are kept.
        """
        raise NotImplementedError

    def wanted(self) -> int:
        """Return the number of further items that the lane would take: 0 if the caller should not read the queue."""
        raise NotImplementedError

    def reload(self) -> list[int]:
        """Return the numbers of cold items that can be sent soon. The caller offers each again, or removes it.

        A number is returned once, until its item becomes cold again.
        """
        raise NotImplementedError

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget items that the caller has finished otherwise, or whose pipeline was disabled or deleted.

        Items that wait for them can be sent. Items in flight are finished by `complete` as usual; unknown numbers are
        ignored.
        """
        raise NotImplementedError

    def expire(self, now: float) -> list[Dead]:
        """Give up the items that were enqueued too long ago, except those in flight. It spends no rate tokens."""
        raise NotImplementedError

    def next_batch(self, now: float) -> Batch | None:
        """Return the batch to send now, or None. The caller calls it until it returns None."""
        raise NotImplementedError

    def wake_at(self) -> float | None:
        """Return the time at which `next_batch` or `expire` may return more, if nothing else is called until then."""
        raise NotImplementedError

    def complete(self, batch: Batch, result: SendResult, now: float) -> Completion:
        """Take the result of a batch that is in flight, and return the items that it has finished.

        Raises ValueError if the batch is not in flight.
        """
        raise NotImplementedError

    def resume(self, now: float) -> None:
        """End the pause: the credentials or the settings have changed, or a user wants to try again.

        The next batch is sent immediately, as a probe. Failures of requests that were sent before count no more.
        """
        raise NotImplementedError
