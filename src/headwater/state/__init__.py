"""The state store: identities, devices, traits, rejected events, lanes, and the messages of deduplication.

One process, the worker, writes it, and any number read it. All effects of a batch of the log are written in one
transaction, together with the position up to which the log is processed. After a crash at any moment, a batch has
therefore either happened once or will happen once.

Deduplication happens here as well (`headwater.state.deduplication`): a transaction looks up its messages before they
are processed.
"""

from headwater.state.counts import PipelineCounts, PipelineError
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
    "PipelineCounts",
    "PipelineError",
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
