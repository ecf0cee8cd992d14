"""Waits in the thread of a source for work on the event loop."""

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

_Result = TypeVar("_Result")


class WaitFor(Protocol):
    """Runs a coroutine on the event loop, and returns its result to a thread."""

    def __call__(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Raises the error of the coroutine, and RunCancelled if the run is cancelled."""
        ...
