"""Create the events, partitioned by day, with their counts and the position through which they are loaded.

The events of an earlier version are in a table of the same name that is not partitioned. It becomes `old_events`, which
takes no time: `headwater.warehouse.drivers.postgresql.oldevents` reads it and moves its rows. They are loaded through
the position that the worker had reached then, which the state store has.
"""

import zlib
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_DAY = 86_400
_MICROSECONDS = 1_000_000
_RECENT_DAYS = 30
"""Days before the first start that have partitions: events may wait in the log."""
_OLD_DAYS = 1_100
"""Days before the first start that have partitions when there are old events; earlier ones share a partition."""
_ALL_DAYS = 36_500
"""Days that can have partitions; later ones share a partition."""

_TABLES = (
    """
    CREATE TABLE warehouse.events (
        position bigint NOT NULL,
        timestamp bigint NOT NULL,
        received_at bigint NOT NULL,
        workspace integer NOT NULL,
        connection integer NOT NULL,
        pipeline integer NOT NULL,
        type text COLLATE "C" NOT NULL,
        event text COLLATE "C",
        user_id text COLLATE "C",
        anonymous_id text COLLATE "C",
        document text COLLATE "C" NOT NULL
    ) PARTITION BY RANGE (received_at)
    """,
    "CREATE INDEX events_by_timestamp ON warehouse.events (workspace, timestamp)",
    "CREATE INDEX events_by_received_at ON warehouse.events (workspace, received_at)",
    "CREATE INDEX events_by_user ON warehouse.events (workspace, user_id, timestamp) WHERE user_id IS NOT NULL",
    """
    CREATE INDEX events_by_anonymous ON warehouse.events (workspace, anonymous_id, timestamp)
    WHERE anonymous_id IS NOT NULL
    """,
    # The entries of an index have at most 2,704 bytes; a name may have 4,000.
    """
    CREATE INDEX events_by_event ON warehouse.events (workspace, event, timestamp)
    WHERE event IS NOT NULL AND octet_length(event) <= 2000
    """,
    """
    CREATE TABLE warehouse.event_spans (
        workspace integer NOT NULL,
        partition text COLLATE "C" NOT NULL,
        events bigint NOT NULL,
        first_timestamp bigint NOT NULL,
        last_timestamp bigint NOT NULL,
        first_received_at bigint NOT NULL,
        last_received_at bigint NOT NULL,
        PRIMARY KEY (workspace, partition)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE warehouse.event_counts (
        workspace integer NOT NULL,
        slot integer NOT NULL,
        received_slot integer NOT NULL,
        connection integer NOT NULL,
        type text COLLATE "C" NOT NULL,
        event_key bytea NOT NULL,
        event text COLLATE "C",
        count bigint NOT NULL,
        PRIMARY KEY (workspace, slot, received_slot, connection, type, event_key)
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX event_counts_by_received_slot ON warehouse.event_counts (workspace, received_slot)",
    """
    CREATE TABLE warehouse.event_loading (
        id boolean PRIMARY KEY DEFAULT true CHECK (id),
        position bigint NOT NULL,
        first_day integer NOT NULL,
        old_position bigint
    )
    """,
)


def upgrade() -> None:
    connection = op.get_bind()
    # The state store changes its tables under this lock.
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(zlib.crc32(b"state"))))
    position = _former_position(connection)
    today = int(connection.execute(sa.text("SELECT floor(extract(epoch FROM now()))")).scalar_one()) // _DAY
    first_day = today - _RECENT_DAYS
    oldest = _set_old_events_aside(connection)
    if oldest is not None:
        first_day = max(today - _OLD_DAYS, min(first_day, oldest // (_DAY * _MICROSECONDS)))
    for statement in _TABLES:
        op.execute(statement)
    first, end = (day * _DAY * _MICROSECONDS for day in (first_day, first_day + _ALL_DAYS))
    op.execute(
        f"CREATE TABLE warehouse.events_before PARTITION OF warehouse.events FOR VALUES FROM (MINVALUE) TO ({first})"
    )
    op.execute(
        f"CREATE TABLE warehouse.events_after PARTITION OF warehouse.events FOR VALUES FROM ({end}) TO (MAXVALUE)"
    )
    connection.execute(
        sa.text(
            "INSERT INTO warehouse.event_loading (position, first_day, old_position) VALUES (:position, :day, :old)"
        ),
        {"position": position, "day": first_day, "old": None if oldest is None else -1},
    )


def downgrade() -> None:
    for table in ("event_loading", "event_counts", "event_spans", "events"):
        op.execute(f"DROP TABLE warehouse.{table}")


def _former_position(connection: Any) -> int:
    """Return the position through which the events of an earlier version are loaded; 0 when there are none.

    The state store has it in `progress` or, by a later revision, in `checkpoints`, in either of two schemas.
    """
    found: list[int] = []
    for schema in ("state", "warehouse"):
        if _exists(connection, f"{schema}.progress"):
            query = f"SELECT position FROM {schema}.progress WHERE consumer = 'warehouse'"
            found += connection.execute(sa.text(query)).scalars()
        if _exists(connection, f"{schema}.checkpoints"):
            query = f"SELECT value FROM {schema}.checkpoints WHERE owner = 'warehouse'"
            found += (int.from_bytes(value) for value in connection.execute(sa.text(query)).scalars())
    return max(found, default=0)


def _set_old_events_aside(connection: Any) -> int | None:
    """Rename the table of old events, or drop an empty one. Return about when the first was received, if any."""
    if not _exists(connection, "warehouse.events"):
        return None
    first = sa.text("SELECT received_at FROM warehouse.events ORDER BY position LIMIT 1")
    oldest: int | None = connection.execute(first).scalar_one_or_none()
    if oldest is None:
        op.execute("DROP TABLE warehouse.events")
        return None
    op.execute("ALTER TABLE warehouse.events RENAME TO old_events")
    op.execute("ALTER INDEX IF EXISTS warehouse.events_by_time RENAME TO old_events_by_time")
    op.execute("ALTER INDEX IF EXISTS warehouse.events_pkey RENAME TO old_events_pkey")
    return oldest


def _exists(connection: Any, table: str) -> bool:
    return connection.execute(sa.select(sa.func.to_regclass(table))).scalar_one() is not None
