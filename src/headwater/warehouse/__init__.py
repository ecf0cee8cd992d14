"""What is known: events, identities, rejected events, and the ledger of messages.

One process writes (the worker), any number read. Everything that one batch of the log leads to is written in one
transaction, together with the position up to which the log is finished: so a crash at any moment means that a batch
either happened once or will happen once.

De-duplication happens here, by the ledger: it holds the position of the first message of each (source connection,
message id), and any other position of that message is a duplicate. A transaction claims its messages before anything is
done with them.
"""

from headwater.warehouse.identities import Identity, Sighting
from headwater.warehouse.rows import LatestCall, Message, RejectedEvent, StoredEvent
from headwater.warehouse.warehouse import EventOrder, Transaction, Warehouse, open_warehouse

__all__ = [
    "EventOrder",
    "Identity",
    "LatestCall",
    "Message",
    "RejectedEvent",
    "Sighting",
    "StoredEvent",
    "Transaction",
    "Warehouse",
    "open_warehouse",
]
