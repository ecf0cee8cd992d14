"""The steps of operations."""

from typing import Protocol

from msgspec import Struct


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
