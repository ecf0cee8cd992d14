"""Deduplication: the messages of the last seven days, so that none is processed twice, and what became of each.

The first *position* of a message, which is its source connection and message id, is the message, and any other position
is a repeat. By that definition the messages can be written apart from the transaction of the state store: a state that
a crash left behind without its event marks the event's own position as new.
"""

from headwater.state.deduplication.contract import RETENTION, MessageStore
from headwater.state.deduplication.message import (
    Message,
    MessageKey,
    MessageState,
    MessageStates,
    Repeat,
    Step,
    deduplicate,
)
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
