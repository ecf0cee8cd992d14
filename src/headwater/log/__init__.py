"""The durable log: every accepted call is stored here before it is acknowledged.

**What it stores.** One *entry* a call: a header and a body, both opaque here, and how many events they hold. Events
have *positions*: whole numbers above 0 that ascend in the order of acceptance. Those of one entry are consecutive, and
an entry's position is that of its first event; between two entries there may be a gap. The SQLite log has no gaps; the
one on JetStream, where many machines write, has.

**What it promises.**
1. `append` returns after the entry is durable. What it returned for is never lost by a crash; what it did not return
   for may or may not be there.
2. Readers see entries in the order of their positions, each completely or not at all, and never see an entry appear
   before one that they have already read.
3. A consumer that resumes after the position it has finished sees every later entry: at least once, in order.
4. Nothing after the slowest cursor is ever removed, except for consumers that may lag; a log that has reached its
   bound refuses instead.

What "durable" depends on differs: see docs/operating.md.

**What it does not do.** It does not look into entries, and does not de-duplicate: the first *position* of a message is
the message, and the handler of a consumer decides that, in one transaction with what it stores.

`Consumer` reads a log under a lease and hands batches to a handler. `Tail` reads the newest entries without a lease.
"""

from headwater.log.backpressure import BackPressure
from headwater.log.consumer import Consumer, Decoder, Handler, Limits, Prefetch
from headwater.log.contract import Backlog, EventLog, Lease, LeaseLost, LeaseTaken, LogEntry, StoredEntry
from headwater.log.sqlite import SqliteEventLog
from headwater.log.tail import Tail, Watched, Watcher

__all__ = [
    "BackPressure",
    "Backlog",
    "Consumer",
    "Decoder",
    "EventLog",
    "Handler",
    "Lease",
    "LeaseLost",
    "LeaseTaken",
    "Limits",
    "LogEntry",
    "Prefetch",
    "SqliteEventLog",
    "StoredEntry",
    "Tail",
    "Watched",
    "Watcher",
]
