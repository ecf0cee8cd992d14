"""The durable log: where every accepted call stands before it is acknowledged.

**What it stores.** One *frame* a call: a header and a body, both opaque here, and how many events they hold. Events
have *positions*: whole numbers from 1 upward, without gaps while the log lives, in the order of acceptance. A frame's
position is that of its first event; a frame at position 7 with 3 events holds the positions 7, 8 and 9.

**What it promises.**
1. `append` returns after the frame is on the disk (fsync). What it returned for is never lost by a crash; what it did
   not return for may or may not be there.
2. Readers see frames in the order of their positions, each completely or not at all, and never see a frame appear
   before one that they have already read.
3. A consumer that resumes after the position it has finished sees every later frame: at least once, in order.
4. Nothing after the slowest cursor is ever removed.

**What it does not do.** It does not look into frames, and does not de-duplicate: the first *position* of a message is
the message, and the consumer decides that (`headwater.warehouse`), in one transaction with what it stores.
"""

from headwater.eventlog.contract import EventLog, Frame, Lease, LeaseTaken, StoredFrame
from headwater.eventlog.sqlite import SqliteEventLog

__all__ = ["EventLog", "Frame", "Lease", "LeaseTaken", "SqliteEventLog", "StoredFrame"]
