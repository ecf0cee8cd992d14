"""The durable log: every accepted call is stored here before it is acknowledged.

**Contents.** The log has one *entry* per call: a header and a body, both opaque here, and the number of events in them.
Events have *positions*: whole numbers above 0 that ascend in the order of acceptance. Those of one entry are
consecutive, and an entry's position is that of its first event. Between two entries there may be a gap. The SQLite log
has no gaps; the log on JetStream, where many machines write, has some.

**Guarantees.**
1. `append` returns after the entry is durable. A crash never loses an entry for which it returned. An entry for which
   it raised may or may not be stored.
2. Readers see entries in the order of their positions, each completely or not at all, and never see an entry appear
   before one that they have already read.
3. A consumer that resumes after its position sees every later entry: at least once, in order.
4. Nothing after the slowest cursor is ever removed, except for consumers that may lag; a log at its limit rejects
   appends instead.

The storage decides how durable an entry is: see docs/operating.md.

**Not its task.** The log neither decodes entries nor deduplicates. The first *position* of a message is the message,
and the handler of a consumer decides that, in one transaction with its effects.

`Consumer` reads a log under a lease and passes batches to a handler. `Tail` reads the newest entries without a lease.
"""

from headwater.log.backpressure import BackPressure
from headwater.log.consumer import Consumer, Handler, Limits
from headwater.log.contract import Backlog, EventLog, Lease, LeaseLost, LeaseTaken, LogEntry, StoredEntry
from headwater.log.prefetch import Decoder, Prefetch
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
