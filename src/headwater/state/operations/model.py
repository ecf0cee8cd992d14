"""Operations: long-running actions that people start, with progress and cancel. Times are microseconds since the epoch.

An operation is Pending until a process executes it, then Running, and ends as Completed, Failed or Cancelled.
"""

from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

OperationKind = Literal[
    "Resend", "Replay", "IdentityResolution", "ProfileSchemaUpdate", "Split", "RemoveSeparation", "Erasure"
]
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


class IdentityResolutionParameters(Struct, frozen=True, kw_only=True, tag="IdentityResolution"):
    """Resolve all identities of the workspace with the settings that the catalog has at the start."""


class ProfileSchemaUpdateParameters(Struct, frozen=True, kw_only=True, tag="ProfileSchemaUpdate"):
    """Apply a version of the profile schema: rename and remove attributes, then resolve all identities."""

    version: int
    """The version of the schema. If the catalog has another one at the start, that is applied."""


class SplitIdentity(Struct, frozen=True, kw_only=True):
    """An identity to split off: all identities of one id in a connection."""

    connection: int
    identity_id: str
    is_anonymous: bool = False


class SplitParameters(Struct, frozen=True, kw_only=True, tag="Split"):
    """Split identities off a profile, and keep them apart. The result is `SplitResult`."""

    profile: str
    """The kpid of the profile, or of one that was merged into it."""
    identities: tuple[SplitIdentity, ...]


NO_SEPARATION: Final = "false"
"""The result of an operation that removes a separation if there was none. JSON."""


class RemoveSeparationParameters(Struct, frozen=True, kw_only=True, tag="RemoveSeparation"):
    """Remove the separation of a split, so that evidence joins its identities again."""

    separation: int


class ErasureParameters(Struct, frozen=True, kw_only=True, tag="Erasure", omit_defaults=True):
    """Erase a person: a profile, or an id in one connection or in all. The result is the receipt."""

    profile: str | None = None
    """The kpid of the profile; None if the person is named by an id."""
    user_id: str | None = None
    anonymous_id: str | None = None
    connection: int | None = None
    """The connection of the id; None for all connections."""
    suppress: bool = False
    """Whether further events of the person are refused."""
    validate_only: bool = False
    """Whether the person is only counted, and not erased."""
    digest: str = ""
    """A digest of the ids. It replaces them once the person is erased."""


class ErasedStore(Struct, frozen=True):
    """The number of rows of a person in one store."""

    store: str
    removed: int


class ErasureReceipt(Struct, frozen=True, kw_only=True):
    """The result of an erasure."""

    stores: tuple[ErasedStore, ...] = ()
    """The stores that had something of the person."""
    log_position: int = 0
    """The newest event of the event log at the end. Earlier ones may be copies of the person's events."""
    log_until: int | None = None
    """The time until which the event log may keep such copies; None if nothing was erased."""


OperationParameters: TypeAlias = (
    ResendParameters
    | ReplayParameters
    | IdentityResolutionParameters
    | ProfileSchemaUpdateParameters
    | SplitParameters
    | RemoveSeparationParameters
    | ErasureParameters
)
DELIVERY_KINDS: Final[tuple[OperationKind, ...]] = ("Resend", "Replay")
"""The kinds that the courier executes."""
PROFILE_KINDS: Final[tuple[OperationKind, ...]] = (
    "IdentityResolution",
    "ProfileSchemaUpdate",
    "Split",
    "RemoveSeparation",
)
"""The kinds that the worker executes in the state store."""
ERASURE_KINDS: Final[tuple[OperationKind, ...]] = ("Erasure",)
"""The kinds that the worker executes in all stores."""
RESOLUTION_KINDS: Final[tuple[OperationKind, ...]] = ("IdentityResolution", "ProfileSchemaUpdate")
"""The kinds of which a workspace executes one at a time. No operation of `PROFILE_KINDS` can be requested meanwhile."""


class SplitResult(Struct, frozen=True, kw_only=True):
    """The result of a split."""

    kpids: tuple[str, ...]
    """The profiles that hold the identities of the profile that was split: first the rest, then those split off."""
    separation: int
    """The separation that keeps them apart."""


encode_parameters: Final = msgspec.json.Encoder().encode
decode_receipt: Final = msgspec.json.Decoder(ErasureReceipt).decode
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
    """The number of dead letters, events or identities to process; None if it is not known."""
    done: int = 0
    """The number of dead letters, events or identities that have been processed."""
    enqueued: int = 0
    """The number of deliveries that were appended to queues."""
    error: str = ""
    """The reason of a failure, for people; empty otherwise."""
    result: str = ""
    """The result of a completed operation, as JSON; empty for kinds without one."""
    created_at: int
    started_at: int | None = None
    ended_at: int | None = None

    @property
    def kind(self) -> OperationKind:
        """The kind of the operation, which its parameters determine."""
        return _KINDS[type(self.parameters)]


_KINDS: Final[dict[type[OperationParameters], OperationKind]] = {
    ResendParameters: "Resend",
    ReplayParameters: "Replay",
    IdentityResolutionParameters: "IdentityResolution",
    ProfileSchemaUpdateParameters: "ProfileSchemaUpdate",
    SplitParameters: "Split",
    RemoveSeparationParameters: "RemoveSeparation",
    ErasureParameters: "Erasure",
}


class OperationCursor(Struct, frozen=True, array_like=True):
    """A place in a list of operations, the newest first: just after the one with this time and id."""

    created_at: int
    id: int
