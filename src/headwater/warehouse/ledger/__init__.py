"""The ledger of messages: which there have been, so that none is carried twice, and what became of each.

De-duplication is decided here. The first *position* of a message (its source connection and message id) is the message,
and any other position is a repetition. It is that definition that lets the ledger be written apart from the warehouse:
an entry that a crash left behind without its event says of the event's own position that it is new.
"""

from headwater.warehouse.ledger.contract import Ledger
from headwater.warehouse.ledger.entry import Entries, Entry, Message, MessageKey, Outcome, Repeat, Step, claim
from headwater.warehouse.ledger.retention import KEPT
from headwater.warehouse.ledger.rocksdb import RocksLedger
from headwater.warehouse.ledger.sql import SqlLedger

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
