"""The steps of operations."""

from typing import Final, Protocol

from msgspec import Struct

from headwater.state.deliveries import DeliveryStore

MAX_OPEN_ITEMS: Final = 20_000
MAX_OPEN_BYTES: Final = 16 << 20
"""Deliveries that may wait for a destination before operations that append more of them pause, and the compressed size
of their events. Without these limits, a large operation would fill the queue, and what came before it would be
dropped."""


class StepResult(Struct, frozen=True):
    """The progress of an operation after a step."""

    done: int
    """The number of dead letters or events that have been processed."""
    enqueued: int
    """The number of deliveries that were appended."""
    total: int | None
    is_complete: bool = False
    must_wait: bool = False
    """Whether nothing was done, because the destination is behind."""


class Steps(Protocol):
    """An operation that is executed in steps.

    The place where it continues is stored by its steps. So another process, or the same after a crash, can execute the
    next step.
    """

    async def step(self) -> StepResult:
        """Do the next step, which takes some seconds at most.

        Raises Unavailable if the step must be repeated later, and another HeadwaterError if the operation fails.
        """
        ...

    async def forget(self) -> None:
        """Delete the place of an operation that has ended."""
        ...


async def is_behind(deliveries: DeliveryStore, destination: int) -> bool:
    """Return whether so much waits for a destination that an operation must pause."""
    for summary in await deliveries.summaries():
        if summary.destination == destination:
            return summary.open_items > MAX_OPEN_ITEMS or summary.open_bytes > MAX_OPEN_BYTES
    return False
