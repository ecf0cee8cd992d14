"""The outcomes of deliveries, as the process that delivers publishes them for people who watch.

`Outcomes` discards everything; tests use it. `headwater.observe.outcomes` has the implementations. Calls must be cheap
and must not raise.
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from headwater.base.steps import ProcessingStep

DeliveryResult = Literal["Passed", "Filtered", "Failed", "Retrying"]
"""The result of an attempt. Passed: delivered. Failed: given up. Retrying: tried again later."""


class DeliveryOutcome(Struct, frozen=True, array_like=True):
    """The outcome of one attempt to deliver one event for one pipeline. Processes exchange it as MessagePack: add
    fields at the end only, with a default."""

    workspace: int
    destination: int
    """The destination connection."""
    pipeline: int
    source: int
    """The source connection of the event."""
    message_id: str
    outcome: DeliveryResult
    at: int
    """Time of the outcome, in microseconds since the epoch."""
    step: ProcessingStep = "Finalize"
    """The last step of the delivery."""
    message: str = ""
    """The reason, for people; empty if the event was delivered."""
    status: int | None = None
    """The HTTP status of the destination's response; None if there was none."""
    attempts: int = 1


class Outcomes:
    """Publishes outcomes to those who watch. It is lossy: nobody waits for a watcher."""

    def is_watched(self, workspace: int) -> bool:
        """Return whether outcomes of this workspace are wanted. If not, they need not be made."""
        return False

    def publish(self, outcomes: Sequence[DeliveryOutcome]) -> None:
        """Publish the outcomes of workspaces that are watched, and drop the others."""


NO_OUTCOMES: Final = Outcomes()
"""Discards all outcomes."""
