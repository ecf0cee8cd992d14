"""The ledger of messages: which there have been, so that none is carried twice, and what became of each.

De-duplication is decided here. The first *position* of a message (its source connection and message id) is the message,
and any other position is a repetition. It is that definition that lets the ledger be written apart from the warehouse:
an entry that a crash left behind without its event says of the event's own position that it is new.
"""

from headwater.state.deduplication.contract import Ledger
from headwater.state.deduplication.entry import Entries, Entry, Message, MessageKey, Outcome, Repeat, Step, claim
from headwater.state.deduplication.retention import KEPT
from headwater.state.deduplication.rocksdb import RocksLedger
from headwater.state.deduplication.sql import SqlLedger

__all__ = [
    "KEPT",
    "Entries",
    "Entry",
    "Ledger",
    "Message",
    "MessageKey",
    "Outcome",
    "Repeat",
    "RocksLedger",
    "SqlLedger",
    "Step",
    "claim",
]
