"""Times of messages."""

from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from headwater.base.errors import BadRequest


def read_time(request: Message, field: str) -> int | None:
    """Return an optional time in microseconds since the epoch: a text as in RFC 3339, or a Timestamp.

    Raises BadRequest.
    """
    if not request.HasField(field):
        return None
    value: str | Timestamp = getattr(request, field)
    moment = value if isinstance(value, Timestamp) else Timestamp()
    try:
        if isinstance(value, str):
            moment.FromJsonString(value)
        moment.ToJsonString()  # raises for a typed moment out of range
    except ValueError:
        raise BadRequest(f"{field} must be a time such as 2026-01-31T10:00:00Z", field=field) from None
    return moment.ToMicroseconds()


def set_time(message: Message, field: str, at: int | None) -> None:
    """Set a Timestamp from microseconds since the epoch; None and 0 leave it absent."""
    if at:
        target: Any = getattr(message, field)
        target.FromMicroseconds(at)


def time_text(at: int) -> str:
    """Return a time in microseconds since the epoch as in RFC 3339, as messages in JSON have it."""
    moment = Timestamp()
    moment.FromMicroseconds(at)
    return moment.ToJsonString()
