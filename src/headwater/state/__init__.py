"""What is known: events, identities, devices, rejected events, and the ledger of messages.

One process writes (the worker), any number read. Everything that one batch of the log leads to is written in one
transaction, together with the position up to which the log is finished: so a crash at any moment means that a batch
either happened once or will happen once.

De-duplication happens here as well, by the ledger (`headwater.state.deduplication`): a transaction asks it for its
messages before anything is done with them.
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
