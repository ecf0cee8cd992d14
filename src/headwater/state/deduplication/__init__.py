"""Deduplication: the messages of the last seven days with their outcomes, so that each is processed once.

A message is identified by its source connection and its message id. Its first *position* is the message, and any other
position is a repeat. By that definition the messages can be written outside of the transaction of the state store: if a
crash leaves a state without its event, the event's own position counts as new.
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
