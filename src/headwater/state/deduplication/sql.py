"""Messages in a table of the state store's own database: PostgreSQL, which several machines share.

Writes are part of the transaction. Two consumers that both assume the lease cannot save the same message twice: the
second waits for the first, and finds that its position was overtaken.
"""

from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, any_, delete, func, select

from headwater.base.clock import Clock, microseconds
from headwater.state import bulk
from headwater.state.deduplication.contract import RETENTION
from headwater.state.deduplication.message import MessageKey, MessageStates, decode_message, encode_message
from headwater.state.tables import messages
from headwater.storage.sessions import Session

_MAX_TRIM_BATCH: Final = 20_000
_MAX_TRIMMED_MESSAGES: Final = 400_000
"""Maximum number of messages that one call deletes. It is above the arrivals between two calls, so the table is
bounded."""
_COLUMNS: Final = (
    messages.c.position,
    messages.c.connection,
    messages.c.message_id,
    messages.c.received_at,
    messages.c.entry,
)

_KEY: Final = (messages.c.connection, messages.c.message_id)


class SqlMessageStore:
    """Messages in the table `messages`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def lookup(self, session: Session, keys: Collection[MessageKey]) -> MessageStates:
        def read(connection: Connection) -> MessageStates:
            found = bulk.lookup(connection, (*_KEY, messages.c.entry), _KEY, keys)
            return {(source, message_id): decode_message(value) for source, message_id, value in found}

        return await session.run(read)

    async def save(self, session: Session, states: MessageStates) -> None:
        rows = [(state.position, *key, state.received_at, encode_message(state)) for key, state in states.items()]
        await session.run(lambda connection: bulk.upsert(connection, _COLUMNS, rows, key=("connection", "message_id")))

    async def remove(self, session: Session, keys: Collection[MessageKey]) -> None:
        await session.run(lambda connection: bulk.remove(connection, _KEY, keys))

    async def overwrite_removed(self) -> None:
        """Do nothing: PostgreSQL's vacuum frees the space of removed rows."""

    async def trim(self, session: Session) -> None:
        """Delete old messages, the oldest first, a bounded number per call."""
        horizon = microseconds(self._clock.now() - RETENTION)
        oldest = select(messages.c.position).order_by(messages.c.position).limit(_MAX_TRIM_BATCH)
        # An array makes PostgreSQL search the index for each position; it may join the whole table with a subquery.
        chosen = messages.c.position == any_(func.array(oldest.scalar_subquery()))
        trim = delete(messages).where(chosen, messages.c.received_at < horizon)
        for _ in range(_MAX_TRIMMED_MESSAGES // _MAX_TRIM_BATCH):
            if await session.run(lambda connection: connection.execute(trim).rowcount) < _MAX_TRIM_BATCH:
                break

    async def close(self) -> None:
        """Do nothing: nothing is open."""
