"""The durable log: where every accepted call stands before it is acknowledged.

**What it stores.** One *frame* a call: a header and a body, both opaque here, and how many events they hold. Events
have *positions*: whole numbers above 0 that ascend in the order of acceptance. Those of one frame are consecutive, and
a frame's position is that of its first event; between two frames there may be a gap. The SQLite log leaves none, the
one on JetStream, where many machines write, does.

**What it promises.**
1. `append` returns after the frame is durable. What it returned for is never lost by a crash; what it did not return
   for may or may not be there.
2. Readers see frames in the order of their positions, each completely or not at all, and never see a frame appear
   before one that they have already read.
3. A consumer that resumes after the position it has finished sees every later frame: at least once, in order.
4. Nothing after the slowest cursor is ever removed; a log that has reached its bound refuses instead.

What "durable" rests on differs: see docs/operating.md.

**What it does not do.** It does not look into frames, and does not de-duplicate: the first *position* of a message is
the message, and the consumer decides that (`headwater.state`), in one transaction with what it stores.
"""

from headwater.log.backpressure import BackPressure
from headwater.log.contract import EventLog, Lease, LeaseLost, LeaseTaken, LogEntry, StoredEntry
from headwater.log.sqlite import SqliteEventLog

__all__ = ["BackPressure", "EventLog", "Lease", "LeaseLost", "LeaseTaken", "LogEntry", "SqliteEventLog", "StoredEntry"]
