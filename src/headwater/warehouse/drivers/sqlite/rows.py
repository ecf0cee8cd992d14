"""Reads events that are stored as rows: those that wait for a block, and those of older releases."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from headwater.warehouse.contract import StoredEvent

COLUMNS: Final = (
    "position, workspace, connection, pipeline, timestamp, received_at, type, event, user_id, anonymous_id, document"
)
"""The columns of `event_rows`, in the order of `read_row`."""
OLD_COLUMNS: Final = "position, workspace, connection, pipeline, timestamp, received_at, document"
"""The columns of `events`, in the order of `read_old_row`."""


class _Members(Struct, rename="camel"):
    type: str
    event: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None


_members: Final = msgspec.json.Decoder(_Members).decode


def read_row(row: tuple[Any, ...]) -> StoredEvent:
    """Return the event of a row of `event_rows`."""
    return StoredEvent(*row)


def read_old_row(row: tuple[Any, ...]) -> StoredEvent:
    """Return the event of a row of `events`. Such a row has neither type nor ids, so they are read from the
    document."""
    position, workspace, connection, pipeline, timestamp, received_at, text = row
    document = text.encode()
    members = _members(document)
    return StoredEvent(
        position,
        workspace,
        connection,
        pipeline,
        timestamp,
        received_at,
        members.type,
        members.event,
        members.user_id,
        members.anonymous_id,
        document,
    )
