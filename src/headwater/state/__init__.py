"""The state store: operational data that must be transactional.

It holds messages for deduplication (`headwater.state.deduplication`), checkpoints, the working set of identities,
devices, traits, rejected events and lanes. One process writes (the worker), any number read. All effects of one batch
of the log, except its events, are written in one transaction, together with the position up to which the log is
processed: after a crash at any moment a batch is either processed or processed again from its beginning.
"""

from headwater.state.deduplication import Message, MessageKey, MessageState, MessageStates, Step, deduplicate
from headwater.state.devices import Device, DeviceCursor, DeviceEvent
from headwater.state.identities import (
    MAX_ATTRIBUTES_BYTES,
    Identity,
    IdentityChanges,
    IdentityCursor,
    IdentityObservation,
    attributes_fit,
)
from headwater.state.lanes import NO_DOCUMENT, Chunk, Lane, LaneEntry, NewChunk
from headwater.state.rejections import RejectedEvent, RejectionCount, RejectionCountCursor
from headwater.state.store import StateStore, open_state
from headwater.state.traits import TraitsUpdate
from headwater.state.transaction import LatestCall, Transaction

__all__ = [
    "MAX_ATTRIBUTES_BYTES",
    "NO_DOCUMENT",
    "Chunk",
    "Device",
    "DeviceCursor",
    "DeviceEvent",
    "Identity",
    "IdentityChanges",
    "IdentityCursor",
    "IdentityObservation",
    "Lane",
    "LaneEntry",
    "LatestCall",
    "Message",
    "MessageKey",
    "MessageState",
    "MessageStates",
    "NewChunk",
    "RejectedEvent",
    "RejectionCount",
    "RejectionCountCursor",
    "StateStore",
    "Step",
    "TraitsUpdate",
    "Transaction",
    "attributes_fit",
    "deduplicate",
    "open_state",
]
