"""The log on NATS JetStream, for installations of more than one machine.

Entries that arrive together share one message. Any number of machines publish; JetStream gives every message the next
sequence number, from which positions follow. Publishing waits for the acknowledgement. A message that is not
acknowledged is published again under the same `Nats-Msg-Id`, so that the retry is not stored twice. Leases and cursors
are kept in a key-value bucket next to the stream.

The configuration of the server decides the guarantee of an acknowledgement: see docs/operating.md.
"""

from headwater.log.jetstream.log import JetStreamEventLog

__all__ = ["JetStreamEventLog"]
