"""Operations: long-running actions that people start, with progress and cancel. Times are microseconds since the epoch.

An operation is Pending until a process executes it, then Running, and ends as Completed, Failed or Cancelled.
"""

from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

OperationKind = Literal["Resend", "Replay"]
OperationStatus = Literal["Pending", "Running", "Completed", "Failed", "Cancelled"]


class ResendParameters(Struct, frozen=True, kw_only=True, tag="Resend", omit_defaults=True):
    """Send the dead letters again that have all of these properties. None stands for any."""

    destination: int | None = None
    pipeline: int | None = None
    reason: str | None = None
    since: int | None = None
    """Died at this time or later."""
    until: int | None = None
    """Died before this time."""


class ReplayParameters(Struct, frozen=True, kw_only=True, tag="Replay", omit_defaults=True):
    """Send stored events again to one Event pipeline of a destination. Times are those of reception."""

    destination: int
    pipeline: int
    since: int | None = None
    until: int
    """The first moment excluded: at most the time of the request, so that the operation ends."""
    filter: str | None = None
    """A filter of events as canonical JSON; None for all events."""


OperationParameters: TypeAlias = ResendParameters | ReplayParameters

encode_parameters: Final = msgspec.json.Encoder().encode
decode_parameters: Final = msgspec.json.Decoder(OperationParameters).decode


class Operation(Struct, frozen=True, kw_only=True):
    """One operation."""

    id: int
    workspace: int
    parameters: OperationParameters
    status: OperationStatus = "Pending"
    is_cancelled: bool = False
    """Whether a cancel was requested. A running operation ends after its present step."""
    total: int | None = None
    """The number of dead letters or events to process; None if it is not known."""
    done: int = 0
    """The number of dead letters or events that have been processed."""
    enqueued: int = 0
    """The number of deliveries that were appended to queues."""
    error: str = ""
    """The reason of a failure, for people; empty otherwise."""
    created_at: int
    started_at: int | None = None
    ended_at: int | None = None

    @property
    def kind(self) -> OperationKind:
        """The kind of the operation, which its parameters determine."""
        return "Resend" if isinstance(self.parameters, ResendParameters) else "Replay"


class OperationCursor(Struct, frozen=True, array_like=True):
    """A place in a list of operations, the newest first: just after the one with this time and id."""

    created_at: int
    id: int
