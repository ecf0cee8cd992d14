"""The log on NATS JetStream, for installations of more than one machine.

One message a frame, in one stream. Any number of machines publish; JetStream gives every message the next sequence
number, from which its positions follow. Publishing waits for the acknowledgement, and what was not acknowledged is
published again under the same `Nats-Msg-Id`, so that a retry of ours is not stored twice. Who consumes, and how far,
is kept in a key-value bucket beside the stream.

What an acknowledgement is worth rests on the server: see docs/operating.md.
"""

from headwater.log.jetstream.log import JetStreamEventLog

__all__ = ["JetStreamEventLog"]
