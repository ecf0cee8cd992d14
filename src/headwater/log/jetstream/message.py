"""A frame as the bytes of one message, and positions as sequence numbers. Pure.

A message is a format byte, the number of events (two bytes), the length of the header (four), the header and the body,
big-endian. What would be larger than one message may be is deflated.

JetStream numbers messages, and several machines publish at once: how many events came before is known to none of them.
So every message has room for `MAX_FRAME_EVENTS` positions, and most of them stay unused.
"""

import struct
import zlib
from typing import Final

from headwater.base.errors import Unavailable
from headwater.log.contract import MAX_ENTRY_EVENTS, LogEntry

_PREFIX: Final = struct.Struct(">BHI")
_PLAIN: Final = 0
_DEFLATED: Final = 1
HEADERS_BYTES: Final = 512
"""Room for the headers of a message, which count as a part of it."""


def encode_frame(entry: LogEntry, max_bytes: int) -> bytes:
    """The message of a frame. Raises Unavailable when it cannot be made smaller than `max_bytes`: the call keeps
    the limits of what clients may send, so NATS's own limit is to blame."""
    plain = b"".join((_PREFIX.pack(_PLAIN, entry.events, len(entry.header)), entry.header, entry.body))
    if len(plain) + HEADERS_BYTES <= max_bytes:
        return plain
    packed = zlib.compress(plain[_PREFIX.size :], level=1)
    if len(packed) + _PREFIX.size + HEADERS_BYTES > max_bytes:
        raise Unavailable(
            f"the call has {len(entry.body)} bytes, and NATS takes no more than {max_bytes} (its max_payload)"
        )
    return _PREFIX.pack(_DEFLATED, entry.events, len(entry.header)) + packed


def decode_frame(message: bytes) -> LogEntry:
    """The frame in a message that `encode_frame` made.

    Any other message, which somebody has published past us, is the body of a frame without a header: whoever consumes
    it can tell of it, and go on.
    """
    try:
        form, events, header_length = _PREFIX.unpack_from(message)
        content = message[_PREFIX.size :] if form == _PLAIN else zlib.decompress(message[_PREFIX.size :])
    except (struct.error, zlib.error):
        return LogEntry(1, b"", message)
    if form not in (_PLAIN, _DEFLATED) or not 1 <= events <= MAX_ENTRY_EVENTS or header_length > len(content):
        return LogEntry(1, b"", message)
    return LogEntry(events, content[:header_length], content[header_length:])


def position_of(sequence: int) -> int:
    """The position of the first event of the message with this sequence number."""
    return sequence * MAX_ENTRY_EVENTS


def sequence_of(position: int) -> int:
    """The sequence number of the message that holds a position."""
    return position // MAX_ENTRY_EVENTS
