"""Encodes entries as the bytes of one message, and positions as sequence numbers. Pure.

A message holds one entry, or several that were appended at about the same time. All numbers are big-endian.

    one entry:  form (1 byte: 0 plain, 1 compressed) · events (2) · header length (4) · header · body
    a group:    form (1 byte: 2) · entries (2) · for each: events (2), header length (4), body length (4) ·
                for each: header, body

A single entry that would exceed the size of a message is compressed.

JetStream numbers messages, and several machines publish concurrently, without knowledge of the number of earlier
events. So every message has `MAX_ENTRY_EVENTS` positions, most of which are unused. The entries of a group have the
positions of its message one after another.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from headwater.base.errors import Unavailable
from headwater.log.contract import MAX_ENTRY_EVENTS, LogEntry, StoredEntry

_PREFIX: Final = struct.Struct(">BHI")
_GROUP: Final = struct.Struct(">BH")
_LENGTHS: Final = struct.Struct(">HII")
_PLAIN: Final = 0
_COMPRESSED: Final = 1
_GROUPED: Final = 2
HEADERS_BYTES: Final = 512
"""Size that is reserved for the headers of a message, which count towards its size."""
MAX_GROUP_ENTRIES: Final = 1_000
"""Maximum number of entries in a group. Two bytes allow more, which would not be faster."""


def encode_entries(entries: Sequence[LogEntry], max_bytes: int) -> bytes:
    """Return the message of entries that `fits` accepts, or of a single entry.

    Raises Unavailable if a single entry exceeds `max_bytes` even when compressed: calls are limited before, so the
    limit of NATS is too low.
    """
    if len(entries) == 1:
        return _encode_one(entries[0], max_bytes)
    lengths = (_LENGTHS.pack(entry.events, len(entry.header), len(entry.body)) for entry in entries)
    contents = (part for entry in entries for part in (entry.header, entry.body))
    return b"".join((_GROUP.pack(_GROUPED, len(entries)), *lengths, *contents))


def group_bytes(entry: LogEntry) -> int:
    """Return the size of an entry in the message of a group."""
    return _LENGTHS.size + entry.size


def decode_entries(message: bytes) -> list[LogEntry]:
    """Return the entries of a message that `encode_entries` returned; at least one.

    Any other message, published by another program, is returned as the body of one entry without a header: a consumer
    can report it, and continue.
    """
    try:
        entries = _decode_group(message) if message[:1] == bytes((_GROUPED,)) else [_decode_one(message)]
    except (struct.error, zlib.error, ValueError):
        return [LogEntry(1, b"", message)]
    return entries


def stored_entries(sequence: int, message: bytes) -> list[StoredEntry]:
    """Return the entries of the message with this sequence number, at their positions."""
    found, position = [], first_position(sequence)
    for entry in decode_entries(message):
        found.append(StoredEntry(position, entry))
        position += entry.events
    return found


def first_position(sequence: int) -> int:
    """Return the position of the first event of the message with this sequence number."""
    return sequence * MAX_ENTRY_EVENTS


def message_sequence(position: int) -> int:
    """Return the sequence number of the message with this position."""
    return position // MAX_ENTRY_EVENTS


def _encode_one(entry: LogEntry, max_bytes: int) -> bytes:
    plain = b"".join((_PREFIX.pack(_PLAIN, entry.events, len(entry.header)), entry.header, entry.body))
    if len(plain) + HEADERS_BYTES <= max_bytes:
        return plain
    packed = zlib.compress(plain[_PREFIX.size :], level=1)
    if len(packed) + _PREFIX.size + HEADERS_BYTES > max_bytes:
        raise Unavailable(
            f"the call has {len(entry.body)} bytes, and NATS takes no more than {max_bytes} (its max_payload)"
        )
    return _PREFIX.pack(_COMPRESSED, entry.events, len(entry.header)) + packed


def _decode_one(message: bytes) -> LogEntry:
    form, events, header_length = _PREFIX.unpack_from(message)
    if form not in (_PLAIN, _COMPRESSED) or not 1 <= events <= MAX_ENTRY_EVENTS:
        raise ValueError("another form")
    content = message[_PREFIX.size :] if form == _PLAIN else zlib.decompress(message[_PREFIX.size :])
    if header_length > len(content):
        raise ValueError("too short")
    return LogEntry(events, content[:header_length], content[header_length:])


def _decode_group(message: bytes) -> list[LogEntry]:
    _, count = _GROUP.unpack_from(message)
    at = _GROUP.size + count * _LENGTHS.size
    entries, events_in_all = [], 0
    for number in range(count):
        events, header_length, body_length = _LENGTHS.unpack_from(message, _GROUP.size + number * _LENGTHS.size)
        body = at + header_length
        entries.append(LogEntry(events, message[at:body], message[body : body + body_length]))
        at = body + body_length
        events_in_all += events
        if not events:
            raise ValueError("no events")
    if not entries or at != len(message) or events_in_all > MAX_ENTRY_EVENTS:
        raise ValueError("another form")
    return entries
