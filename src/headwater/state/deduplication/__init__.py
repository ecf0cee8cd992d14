"""The ledger of messages: which there have been, so that none is carried twice, and what became of each.

De-duplication is decided here. The first *position* of a message (its source connection and message id) is the message,
and any other position is a repetition. It is that definition that lets the ledger be written apart from the warehouse:
an entry that a crash left behind without its event says of the event's own position that it is new.
"""

from headwater.state.deduplication.contract import MessageStore
from headwater.state.deduplication.message import (
    Message,
    MessageKey,
    MessageState,
    MessageStates,
    Repeat,
    Step,
    deduplicate,
)
from headwater.state.deduplication.retention import RETENTION
from headwater.state.deduplication.rocksdb import RocksMessageStore
from headwater.state.deduplication.sql import SqlMessageStore

__all__ = [
    "RETENTION",
    "Message",
    "MessageKey",
    "MessageState",
    "MessageStates",
    "MessageStore",
    "Repeat",
    "RocksMessageStore",
    "SqlMessageStore",
    "Step",
    "deduplicate",
]
